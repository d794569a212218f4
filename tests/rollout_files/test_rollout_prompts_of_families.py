"""Rollout files of the usual model families: what a prompt, a thought, a turn and an end in them
are taken for, or refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_models import byte_tokenizer

from decaylab.errors import UserError
from decaylab.options.pair_options import PairOptions
from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.rollout_files import asked, files
from decaylab.rollout_files.formats.registry import recognise
from decaylab.rollout_files.given_prompts import PromptReader
from decaylab.rollout_files.grades import verdicts
from decaylab.rollout_files.reading import Read, ReadSettings, read_files
from decaylab.rollout_files.responses import Encoder, Response
from decaylab.runs import own_tokens

QWEN2 = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful "
    "assistant.<|im_end|>\n{% endif %}"
    "{% for m in messages %}{% if m.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ "
    "m.content }}\n</tool_response>"
    "<|im_end|>\n{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for call in m.tool_calls "
    "or [] %}\n<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson '
    "}}}\n</tool_call>{% endfor %}"
    "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% "
    "endif %}"
)
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last "
    "%}<think>\n"
    "{{ (m.reasoning_content or '').strip('\\n') }}\n</think>\n\n{% endif %}{{ m.content "
    "}}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and "
    "not enable_thinking %}"
    "<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: "
    "December 2023\n"
    "Today Date: {{ date_string or strftime_now('%d %b %Y') }}\n\n{% if messages[0].role == "
    "'system' %}"
    "{{ messages[0].content | trim }}{% set messages = messages[1:] %}{% endif %}<|eot_id|>{% for "
    "m in messages %}"
    "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% "
    "endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not "
    "supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ "
    "m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif "
    "m.role == 'user' %}"
    "<｜User｜>{{ m.content }}{% else %}<｜Assistant｜>{{ m.content.split('</think>')[-1] "
    "}}<｜end▁of▁sentence｜>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
FAMILIES: dict[str, tuple[str, tuple[str, ...], str | None]] = {
    "qwen2": (QWEN2, ("<|endoftext|>", "<|im_end|>", "<|im_start|>"), None),
    "qwen3": (QWEN3, ("<|endoftext|>", "<|im_end|>", "<|im_start|>"), None),
    "llama3": (
        LLAMA3,
        (
            "<|pad|>",
            "<|eot_id|>",
            "<|begin_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eom_id|>",
        ),
        "<|begin_of_text|>",
    ),
    "gemma": (GEMMA, ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), "<bos>"),
    "r1": (
        R1,
        ("<｜pad｜>", "<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"),
        "<｜begin▁of▁sentence｜>",
    ),
    "phi": (
        PHI,
        ("<|pad|>", "<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
        None,
    ),
}
QUESTION = "What is 2 + 3, please?"
USER = ("user", QUESTION)
FEW = [("user", "1 + 1?"), ("assistant", "It is 2."), USER]


def student(family: str, **settings: Any) -> Policy:
    template, special, begin = FAMILIES[family]
    tokenizer = byte_tokenizer(template, special=special)
    tokenizer.bos_token = begin
    return Policy(
        family, None, tokenizer, PolicyIdentity(family, "folder", "", ""), LoadSettings(**settings)
    )


def rendered(policy: Policy, messages: Sequence[tuple[str, str]] = (USER,)) -> str:
    assert policy.template is not None
    return policy.template.conversation(messages)


def stripped(policy: Policy, text: str) -> str:
    return str(policy.tokenizer.decode(ids(policy, text), skip_special_tokens=True))


def ids(policy: Policy, text: str) -> list[int]:
    return list(policy.control.encode(text, {}))


def read(policy: Policy, folder: Path, *rows: dict[str, Any], **settings: Any) -> Read:
    path = folder / "rollouts.jsonl"
    path.write_text("".join(json.dumps({"answer": "5", **row}) + "\n" for row in rows))
    return read_files((path,), ReadSettings(**settings), policy)


def responses(
    policy: Policy, folder: Path, *rows: dict[str, Any], **settings: Any
) -> list[Response]:
    named = [{"prompt": QUESTION, **row} for row in rows]
    return Encoder(policy).responses(read(policy, folder, *named, **settings).rollouts)


# Prompts


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("said", [[USER], FEW], ids=["question", "few-shot"])
def test_a_rendered_prompt_is_parsed_back_and_stands_as_it_is(
    family: str, said: list[tuple[str, str]]
) -> None:
    policy = student(family)
    reader, text, begin = (
        PromptReader(policy),
        rendered(policy, said),
        str(policy.tokenizer.bos_token or ""),
    )
    for one in (
        text,
        text.removeprefix(begin),
        begin + text,
    ):  # with bos, without, and twice as vLLM encodes a rendered text
        found = reader.of_text(one)
        assert (found.kind, list(found.messages)) == ("rendered", said)
        assert found.text in (text, begin + text) and (
            begin == "" or found.text == max(one, text, key=len)
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_without_its_special_tokens_gets_all_of_them_again(family: str) -> None:
    """Most families mark theirs as special without giving them a role in the tokenizer."""
    policy = student(family)
    found = PromptReader(policy).of_text(stripped(policy, rendered(policy)), stripped=True)
    assert (found.messages, found.text) == ((USER,), rendered(policy))


@pytest.mark.parametrize("thinking", ["on", "off"])
def test_a_stripped_prompt_opens_or_closes_the_thought_as_the_file_has_it(thinking: Any) -> None:
    text = rendered(student("qwen3", thinking=thinking))
    other = student("qwen3", thinking="off" if thinking == "on" else "on")
    assert PromptReader(other).of_text(stripped(other, text), stripped=True).text == text


@pytest.mark.parametrize("system", [False, True])
def test_a_prompt_that_names_another_day_is_the_templates_all_the_same(system: bool) -> None:
    policy = student("llama3")
    said = [("system", "Be brief."), USER] if system else [USER]
    text = rendered(student("llama3", template_kwargs=(("date_string", "03 Mar 2025"),)), said)
    assert "03 Mar 2025" in text and text != rendered(policy, said)
    for one, marked in ((text, False), (stripped(policy, text), True)):
        found = PromptReader(policy).of_text(one, stripped=marked)
        assert (list(found.messages), found.text) == (said, text)


def test_blanks_are_no_marks_of_a_stripped_prompt() -> None:
    """Phi's template leaves line breaks alone: a question with a blank line is no system message
    and question."""
    policy = student("phi")
    text = stripped(policy, rendered(policy, [("user", "One line.\n\nAnother line.")]))
    with pytest.raises(UserError, match="was not rendered by the template of phi"):
        PromptReader(policy).of_text(text, "f:1", stripped=True)


def test_what_begins_and_ends_like_a_stripped_prompt_is_never_a_question() -> None:
    policy = student("qwen2")
    text = stripped(policy, rendered(policy, [("user", "Say\nassistant\nplease.")]))
    with pytest.raises(
        UserError, match="as rendered prompts do, but was not rendered by the template of qwen2"
    ):
        PromptReader(policy).of_text(text, "f:1")
    for question in ("What does <|im_start|> do in a prompt?", "Who wrote: user\nassistant\n?"):
        assert PromptReader(policy).of_text(question).messages == (("user", question),)


def test_a_plain_prompt_is_not_asked_by_a_template_in_silence() -> None:
    text = f"Question: {QUESTION}\nAnswer:"
    with pytest.raises(
        UserError,
        match="use --prompt-format plain to keep the file's format, or --prompt-kind question",
    ):
        PromptReader(student("qwen2")).of_text(text, "f:1")
    assert PromptReader(student("qwen2", prompt_format="plain")).of_text(text).messages == (USER,)


def test_a_prompt_of_a_model_without_a_template_can_stand_as_it_is() -> None:
    policy = student("qwen2", prompt_format="plain")
    found = PromptReader(policy, "rendered").of_text("Q: 1 + 1?\nA: 2\n\nQ: 2 + 2?\nA:")
    assert (found.kind, found.text) == ("rendered", "Q: 1 + 1?\nA: 2\n\nQ: 2 + 2?\nA:")


# Prompts as ids


def test_what_ids_put_around_a_question_is_read_off_them(tmp_path: Path) -> None:
    policy = student("qwen2")
    text = rendered(policy, [("system", "Be brief."), USER])
    found = read(
        policy,
        tmp_path,
        {"prompt": QUESTION, "prompt_ids": [0, 0, *ids(policy, text)], "response": "5"},
    )
    (name,) = found.prompts
    assert found.prompts[name].messages == (("system", "Be brief."), USER)
    assert found.prompt_ids[name] == tuple(ids(policy, text))  # without the padding


def test_ids_are_those_of_a_question_that_the_tokenizer_normalised(tmp_path: Path) -> None:
    policy = student("qwen2")
    messages = [{"role": "user", "content": "Que\u0301 es 2 + 3?"}]
    text = rendered(policy, [("user", "Qu\u00e9 es 2 + 3?")])  # as Qwen's tokenizer has it
    assert read(
        policy, tmp_path, {"prompt": messages, "prompt_ids": ids(policy, text), "response": "5"}
    ).prompt_ids


@pytest.mark.parametrize(
    "given, told",
    [
        ([999], "token id 999 is outside the vocabulary of qwen2"),
        ([200, 201], "without the row's question"),
    ],
)
def test_ids_of_another_prompt_or_tokenizer_are_refused(
    tmp_path: Path, given: list[int], told: str
) -> None:
    messages = [{"role": "user", "content": QUESTION}]
    with pytest.raises(UserError, match=told):
        read(student("qwen2"), tmp_path, {"prompt": messages, "prompt_ids": given, "response": "5"})


def test_nothing_is_added_to_prompts_that_are_ids(tmp_path: Path) -> None:
    policy = student("qwen2")
    messages = [{"role": "user", "content": QUESTION}]
    row = {"prompt": messages, "prompt_ids": ids(policy, rendered(policy)), "response": "5"}
    options = PairOptions(rollouts="rollouts.jsonl", instruction="boxed")
    with pytest.raises(
        UserError,
        match="1 of 1 prompts of rollouts.jsonl are already rendered or token ids: leave --inst",
    ):
        asked.check(options, read(policy, tmp_path, row), policy)


def test_another_question_beside_the_id_of_a_problem_is_refused(tmp_path: Path) -> None:
    row = {"problem_id": "p1", "prompt": rendered(student("qwen2")), "response": "5"}
    with pytest.raises(
        UserError,
        match=r"problem p1 of --problems is 'What is 7 \+ 8\?', but the prompt is 'What is 2",
    ):
        read(
            student("qwen2"),
            tmp_path,
            row,
            wanted={"p1": ("What is 7 + 8?\nBox it.", "What is 7 + 8?")},
        )


# Responses that hold their prompt


def repeating(policy: Policy) -> dict[str, dict[str, Any]]:
    system = [("system", "Be brief."), USER]
    messages = [{"role": role, "content": text} for role, text in system]
    whole, text = rendered(policy, system), "It is 5."
    return {
        "bos": {"prompt": QUESTION, "response": rendered(policy) + text},
        "system": {"prompt": messages, "response": whole + text},
        "stripped": {"prompt": messages, "response": stripped(policy, whole) + text},
        "ids": {"prompt_ids": ids(policy, whole), "response_ids": ids(policy, whole + text)},
        "turns": {
            "prompt": messages,
            "response": [*messages, {"role": "assistant", "content": text}],
        },
    }


@pytest.mark.parametrize("how", repeating(student("llama3")))
def test_a_response_that_begins_with_its_prompt_is_refused_or_cut(tmp_path: Path, how: str) -> None:
    policy = student("llama3")
    row = repeating(policy)[how] | {"finish_reason": "stop"}
    with pytest.raises(
        UserError, match="1 of 1 responses begin with their prompt; use --prompt-in-response cut"
    ):
        read(policy, tmp_path, row)
    found = read(policy, tmp_path, row, prompt_in_response="cut")
    (response,) = Encoder(policy).responses(found.rollouts)
    assert (
        found.counts.prompts_cut_off == 1
        and response.ids == ids(policy, "It is 5.<|eot_id|>")
        and response.mask is None
    )


# Thoughts


@pytest.mark.parametrize(
    "family, whole",
    [("qwen3", "<think>\nSo.\n</think>\n\nIt is 5."), ("r1", "So.\n</think>\n\nIt is 5.")],
)
def test_line_breaks_that_a_server_left_at_a_thought_are_not_written_twice(
    tmp_path: Path, family: str, whole: str
) -> None:
    policy = student(family)
    rows = [
        {"response": "It is 5.", "reasoning_content": "So."},
        {"response": "\n\nIt is 5.", "reasoning_content": "\nSo.\n"},
    ]
    assert [one.text for one in responses(policy, tmp_path, *rows)] == [whole, whole]


@pytest.mark.parametrize("answer", ["", None])
def test_a_thought_that_was_cut_off_is_not_closed(tmp_path: Path, answer: str | None) -> None:
    row = {"response": answer, "reasoning_content": "\nLet me", "finish_reason": "length"}
    (found,) = responses(student("qwen3"), tmp_path, row)
    assert (found.text, found.stop_reason) == ("<think>\nLet me", "length")


def test_thoughts_behind_a_prompt_that_closes_them_are_refused(tmp_path: Path) -> None:
    row = {"prompt": QUESTION, "response": "<think>\nSo.\n</think>\n\nIt is 5."}
    options = PairOptions(rollouts="rollouts.jsonl", thinking="off")
    off, on = student("qwen3", thinking="off"), student("qwen3", thinking="on")
    with pytest.raises(
        UserError,
        match="1 of the first 1 responses contain a thought, .* off .*; use --thinking on",
    ):
        asked.check(options, read(off, tmp_path, row), off)
    asked.check(
        options, read(off, tmp_path, row | {"prompt": rendered(on)}), off
    )  # which was not rendered here
    asked.check(options, read(on, tmp_path, row), on)


@pytest.mark.parametrize(
    "response", ["<think>\nSo.\n</think>\n\nIt is 5.", "So.\n</think>\n\nIt is 5.", "<think>\nSo"]
)
def test_a_teacher_whose_prompt_closes_the_thoughts_of_the_student_is_refused(
    tmp_path: Path, response: str
) -> None:
    """The student reads its own prompt as it stands, so that the default of --thinking is about the
    teacher alone."""
    policy, teacher = student("r1"), student("qwen3", thinking="off")
    found = read(policy, tmp_path, {"prompt": rendered(policy), "response": response})
    prompts = {role: dict.fromkeys(found.prompts, (1,)) for role in ("student", "teacher")}
    options = PairOptions(rollouts="rollouts.jsonl", thinking="off")
    with pytest.raises(
        UserError, match="with --thinking off the template of qwen3 closes it in the prompt; use"
    ):
        asked.student_reads(prompts, found, options, policy, teacher)
    asked.student_reads(prompts, found, options, policy, student("qwen3", thinking="on"))


# Turns

CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
TOOLS = [
    {"role": "assistant", "content": "I add.", "tool_calls": [CALL]},
    {"role": "tool", "content": "5"},
    {"role": "assistant", "content": "It is 5."},
]


def test_arguments_that_are_json_text_are_written_as_the_student_wrote_them(tmp_path: Path) -> None:
    (found,) = responses(student("qwen2"), tmp_path, {"response": TOOLS, "finish_reason": "stop"})
    assert '{"name": "add", "arguments": {"a": 2}}' in found.text and found.mask is not None
    assert (
        student("qwen2")
        .decode([token for token, own in zip(found.ids, found.mask) if not own])
        .startswith("\n<|im")
    )


@pytest.mark.parametrize(
    "family, turns, told",
    [
        ("llama3", TOOLS, "drops the tool call add of a turn of role 'assistant'"),
        ("qwen2", [{**TOOLS[0], "reasoning_content": "So."}], "drops the thought"),
        ("r1", [{"role": "assistant", "content": "So.</think>5"}] * 2, "drops the text"),
        (
            "r1",
            [{"role": "assistant", "content": "5"}] * 2,
            "opens an answer with '<｜Assistant｜><think>.n', but renders this one",
        ),
    ],
)
def test_turns_that_a_template_writes_otherwise_are_refused(
    tmp_path: Path, family: str, turns: list[dict[str, Any]], told: str
) -> None:
    with pytest.raises(UserError, match=f"{told}.* give token ids with a response_mask"):
        responses(student(family), tmp_path, {"response": turns, "finish_reason": "stop"})


@pytest.mark.parametrize("thinking", ["on", "off"])
def test_one_answer_in_a_list_is_the_response_as_it_stands(tmp_path: Path, thinking: Any) -> None:
    """Qwen3's template puts an empty thought before the last answer, which the student may never
    have written."""
    turns = [{"role": "assistant", "content": "It is 5."}]
    (found,) = responses(
        student("qwen3", thinking=thinking), tmp_path, {"response": turns, "finish_reason": "stop"}
    )
    assert (found.text, found.mask) == ("It is 5.", None)


def test_a_thought_that_only_the_template_writes_is_refused_unless_the_prompt_holds_it(
    tmp_path: Path,
) -> None:
    called = [{"role": "assistant", "content": "add", "tool_calls": [CALL]}]
    template = QWEN3.replace(
        "{{ m.content }}",
        "{{ m.content }}{% for call in m.tool_calls or [] %} {{ call.function.name }}{% endfor %}",
    )
    for thinking in ("on", "off"):
        policy = student("qwen3", thinking=thinking)
        policy.tokenizer.chat_template = template
        if thinking == "on":
            with pytest.raises(
                UserError,
                match="adds a thought .<think>. to a turn that has none; set --thinking",
            ):
                responses(policy, tmp_path, {"response": called, "finish_reason": "stop"})
        else:
            assert (
                responses(policy, tmp_path, {"response": called, "finish_reason": "stop"})[0].text
                == "add add"
            )


def test_tools_that_a_prompt_was_written_with_are_not_left_out(tmp_path: Path) -> None:
    row = {
        "prompt": [{"role": "user", "content": QUESTION}],
        "response": "5",
        "tools": [{"type": "function"}],
    }
    with pytest.raises(UserError, match="defines tools, which cannot be rendered into its prompt"):
        read(student("qwen2"), tmp_path, row)
    assert read(student("qwen2"), tmp_path, row | {"tools": []}).counts.rollouts == 1


def test_own_tokens_of_a_masked_response_are_counted() -> None:
    table = pa.table(
        {
            "response_ids": [[5, 6, 7], [5]],
            "response_mask": [[1, 0, 1], None],
            "stop_reason": ["eos", "length"],
        }
    )
    assert own_tokens.count(table.to_pandas()).tolist() == [1, 1]


# Ids, masks and ends


def test_a_token_that_begins_a_text_is_no_part_of_a_response(tmp_path: Path) -> None:
    """Encoding a response as a text of its own puts it there; where it is that of the end, too,
    nothing would be left."""
    for policy in (student("llama3"), student("qwen2")):
        policy.tokenizer.bos_token = policy.tokenizer.bos_token or policy.tokenizer.eos_token
        whole = policy.tokenizer.bos_token + "It is 5."
        rows = [{"response_ids": ids(policy, whole)}, {"response": whole}]
        assert [one.text for one in responses(policy, tmp_path, *rows)] == ["It is 5.", "It is 5."]


def test_padding_behind_a_response_is_not_the_students(tmp_path: Path) -> None:
    policy = student("qwen2")
    padded = ids(policy, "It is<|endoftext|><|endoftext|>")
    rows = [{"response_ids": padded, "finish_reason": reason} for reason in ("length", "stop")]
    cut, ended = responses(policy, tmp_path, *rows)
    assert (cut.ids, cut.stop_reason) == (ids(policy, "It is"), "length")
    assert (ended.ids, ended.stop_reason) == (ids(policy, "It is<|im_end|>"), "eos")


def test_padding_with_the_end_token_ends_no_response_that_was_cut_off(tmp_path: Path) -> None:
    policy = student("qwen2")
    policy.pad_id = policy.end_id
    padded = ids(policy, "It is<|im_end|><|im_end|>")
    rows = [{"response_ids": padded, "finish_reason": reason} for reason in ("length", "stop")]
    assert [one.stop_reason for one in responses(policy, tmp_path, *rows)] == ["length", "eos"]


@pytest.mark.parametrize(
    "token, kind", [("\n", "other"), ("<|eom_id|>", "eos"), ("<|eot_id|>", "eos")]
)
def test_a_stop_token_of_the_callers_is_no_natural_end(
    tmp_path: Path, token: str, kind: str
) -> None:
    policy = student("llama3")
    (stop,) = ids(policy, token)
    row = {
        "response_ids": ids(policy, f"It is 5.{token}"),
        "finish_reason": "stop",
        "stop_reason": stop,
    }
    (found,) = responses(policy, tmp_path, row)
    assert (found.ids, found.stop_reason) == (ids(policy, f"It is 5.{token}"), kind)


@pytest.mark.parametrize(
    "mask, told",
    [([0, 0], "response_mask has no 1"), ([1, 2], "must hold a mask of 0 and 1")],
)
def test_masks_that_say_nothing_of_the_author_are_refused(
    tmp_path: Path, mask: list[int], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        responses(student("qwen2"), tmp_path, {"response_ids": [200, 201], "response_mask": mask})


def test_a_table_that_writes_nan_for_no_stop_string_stopped_at_none(tmp_path: Path) -> None:
    policy = student("qwen2")
    rows = [
        {"response": "5", "finish_reason": "stop", "stop_reason": one}
        for one in (float("nan"), "", float(policy.end_id))
    ]
    assert [one.stop_reason for one in responses(policy, tmp_path, *rows)] == ["eos", "eos", "eos"]
    (other,) = responses(
        policy, tmp_path, {"response": "5", "finish_reason": "stop", "stop_reason": "\n\n"}
    )
    assert (other.stop_reason, other.ids) == ("other", ids(policy, "5"))


def test_a_table_that_writes_nan_for_no_id_names_no_problem(tmp_path: Path) -> None:
    rows = [
        {"problem_id": float("nan"), "prompt": f"What is {n} + 3?", "response": "5"} for n in (2, 3)
    ]
    assert read(student("qwen2"), tmp_path, *rows).problem_count == 2


def test_a_prompt_that_was_cut_off_on_the_left_is_refused_as_such(tmp_path: Path) -> None:
    policy = student("qwen2")
    with pytest.raises(
        UserError,
        match="not rendered by the template of qwen2 .only its end matches: was it cut off",
    ):
        read(policy, tmp_path, {"prompt": rendered(policy)[30:], "response": "5"})


@pytest.mark.parametrize("value", ["", float("nan"), None])
def test_an_empty_stop_reason_says_nothing(tmp_path: Path, value: Any) -> None:
    assert (
        responses(student("qwen2"), tmp_path, {"response": "5", "finish_reason": value})[
            0
        ].stop_reason
        == "unknown"
    )


def test_an_end_in_a_text_is_not_graded(tmp_path: Path) -> None:
    (found,) = responses(student("qwen2"), tmp_path, {"response": "It is 5.<|im_end|>"})
    assert (found.text, found.stop_reason) == ("It is 5.", "eos")


# Columns and files


def test_lists_beside_several_responses_hold_a_value_for_each(tmp_path: Path) -> None:
    row = {
        "prompt": QUESTION,
        "responses": ["5", "6"],
        "finish_reason": ["stop", "length"],
        "correct": [True, False],
    }
    found = read(student("qwen2"), tmp_path, row)
    assert [one.stop.kind for one in found.rollouts] == ["natural", "cut"]
    assert verdicts(found.rollouts)[0] == ["correct", "wrong"]
    with pytest.raises(UserError, match="must hold one stop reason for each response"):
        read(student("qwen2"), tmp_path, row | {"finish_reason": ["stop"]})


def test_a_column_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no column 'finsh_reason' for the stop"):
        read(
            student("qwen2"),
            tmp_path,
            {"prompt": QUESTION, "response": "5"},
            columns={"stop": "finsh_reason"},
        )


def test_a_rollout_without_a_response_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"prompt": QUESTION, "response": text} for text in ("5", None)]
    found = read(student("qwen2"), tmp_path, *rows)
    assert (found.counts.rollouts, found.counts.aborted) == (1, 1)


def test_a_missing_grade_of_a_table_spoils_no_other(tmp_path: Path) -> None:
    rows = [
        {"prompt": QUESTION, "response": "5", "correct": value} for value in (1.0, float("nan"))
    ]
    assert verdicts(read(student("qwen2"), tmp_path, *rows).rollouts)[0] == ["correct", None]


def test_every_file_of_a_writer_is_recognised_as_one_format() -> None:
    for path in sorted((Path(__file__).parent / "files").iterdir()):
        place, row = next(files.rows(path))
        assert recognise(row, place, {}).name != "columns", path.name


def test_requests_are_read_before_their_results_whatever_the_files_are_called(
    tmp_path: Path,
) -> None:
    message = {
        "message": {"role": "assistant", "content": "5"},
        "finish_reason": "stop",
        "index": 0,
    }
    result = {
        "custom_id": "a",
        "response": {"status_code": 200, "body": {"choices": [message]}},
        "error": None,
    }
    messages = [{"role": "user", "content": QUESTION}]
    request = {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1",
        "body": {"messages": messages},
        "answer": "5",
    }
    (tmp_path / "batch_1_output.jsonl").write_text(json.dumps(result))
    (tmp_path / "input.jsonl").write_text(json.dumps(request))
    found = read_files(files.paths_of(str(tmp_path)), ReadSettings(), student("qwen2"))
    assert [one.question for one in found.problems] == [QUESTION]


def test_requests_to_the_same_prompt_ids_are_rollouts_to_one_problem(tmp_path: Path) -> None:
    policy = student("qwen2")
    prompt = ids(policy, rendered(policy))
    output = {
        "index": 0,
        "text": "5",
        "token_ids": ids(policy, "5<|im_end|>"),
        "finish_reason": "stop",
    }
    rows = [
        {"request_id": str(n), "prompt": None, "prompt_token_ids": prompt, "outputs": [output]}
        for n in range(2)
    ]
    found = read(policy, tmp_path, *rows)
    assert (found.problem_count, found.samples) == (1, 2)


def test_a_folder_is_read_without_what_is_hidden_or_stands_beside(tmp_path: Path) -> None:
    (tmp_path / "rollouts.jsonl").write_text(
        json.dumps({"prompt": QUESTION, "answer": "5", "response": "5"})
    )
    for name in (
        ".git/log.jsonl",
        ".ipynb_checkpoints/rollouts.jsonl",
        "_index.jsonl",
        "metadata.json",
        "config.json",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert [path.name for path in files.paths_of(str(tmp_path))] == ["rollouts.jsonl"]


def test_values_of_tables_are_taken_as_they_are_meant(tmp_path: Path) -> None:
    policy, path = student("qwen2"), tmp_path / "rollouts.parquet"
    row = {
        "prompt": QUESTION,
        "answer": Decimal("5.5"),
        "response_ids": [200, 201],
        "response_mask": [True, False],
    }
    pq.write_table(pa.Table.from_pylist([row]), path)
    found = read_files((path,), ReadSettings(), policy)
    assert [one.answer for one in found.problems] == ["5.5"]
    assert found.rollouts[0].record.response_mask == [1, 0]


@pytest.mark.parametrize("role", [["user"], 5, None])
def test_a_role_that_is_no_text_is_one_line(tmp_path: Path, role: Any) -> None:
    with pytest.raises(UserError, match="'prompt.0' must hold a chat message with a role"):
        read(
            student("qwen2"),
            tmp_path,
            {"prompt": [{"role": role, "content": QUESTION}], "response": "5"},
        )


def test_json_that_is_too_deep_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(UserError, match="not JSON"):
        read_files((path,), ReadSettings(), student("qwen2"))

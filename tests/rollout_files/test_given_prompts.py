"""Prompts of files: questions, messages and rendered prompts are told apart, parsed back, and read
by each policy once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from rollouts_of import CHATML, OPENS, ROW, THINKS, abacus, chatml, of_bytes, read, written

from decaylab.errors import UserError
from decaylab.options.pair_options import PairOptions
from decaylab.policies.policy import Policy, load_settings
from decaylab.policies.prompts import render
from decaylab.rollout_files import asked
from decaylab.rollout_files.given_prompts import GivenPrompt, PromptReader

ASKED = "What is 4 + 3 in all?"
DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    + CHATML
)
BEGINS = "{{ bos_token }}" + CHATML
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + CHATML
)


def beginning() -> Policy:
    """A student whose texts begin with a token."""
    return of_bytes(BEGINS, adds_bos=True)


def reading(text: str, student: Policy | None = None, **settings: Any) -> GivenPrompt:
    return PromptReader(student or abacus(), **settings).of_text(text, "theirs.jsonl:1")


def refusal(text: str, student: Policy | None = None, **settings: Any) -> str:
    with pytest.raises(UserError) as error:
        reading(text, student, **settings)
    message = str(error.value)
    assert message.startswith("theirs.jsonl:1: ") and "\n" not in message
    return message.removeprefix("theirs.jsonl:1: ")


# What a prompt is


@pytest.mark.parametrize(
    "text",
    [
        ASKED,
        "If $a <|b|> c$, find [INST] a.",  # marks in the middle are mathematics, or about templates
        "user\nWhat is it?\nassistant\n",  # abacus's template writes no words of its own
        "  4 + 3?\n",
        "[1, 2] and {3}",
        "",
    ],
)
def test_a_text_without_a_templates_marks_is_a_question_as_it_stands(text: str) -> None:
    assert reading(text) == GivenPrompt("question", (("user", text),))


def test_the_plain_format_is_a_question_inside_for_a_student_that_is_asked_by_it() -> None:
    text, plain = f"Question: {ASKED}\nAnswer:", of_bytes(CHATML, prompt_format="plain")
    assert reading(text, plain) == GivenPrompt("question", (("user", ASKED),))
    assert refusal(text) == (
        f"the prompt is in the plain format ({text!r:.40}), but abacus-student uses its "
        "chat template; use --prompt-format plain to keep the file's format, or --prompt-kind "
        "question to read the prompt as a question"
    )


@pytest.mark.parametrize(
    "student, text, messages",
    [
        (abacus, f"<|user|>{ASKED}<|end|><|assistant|>", [("user", ASKED)]),
        (abacus, f"<|user|>{ASKED}<|end|><|assistant|>\n", [("user", ASKED)]),
        (
            abacus,
            "<|system|>Add.<|end|><|user|>4?<|end|><|assistant|>",
            [("system", "Add."), ("user", "4?")],
        ),
        (
            abacus,
            "<|user|>4?<|end|><|assistant|>5<|end|><|user|>6?<|end|><|assistant|>",
            [("user", "4?"), ("assistant", "5"), ("user", "6?")],
        ),
        (
            chatml,
            f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n",
            [("user", ASKED)],
        ),
        (
            chatml,
            "<|im_start|>system\nAdd.<|im_end|>\n<|im_start|>user\n4\n\n5?<|im_end|>\n<|im_start|>assistant\n",
            [("system", "Add."), ("user", "4\n\n5?")],
        ),
        (
            chatml,
            "<|im_start|>system\nAdd.<|im_end|>\n<|im_start|>user\n4?<|im_end|>\n<|im_start|>assistant\n5<|im_end|>\n"
            "<|im_start|>user\n6?<|im_end|>\n<|im_start|>assistant\n",
            [("system", "Add."), ("user", "4?"), ("assistant", "5"), ("user", "6?")],
        ),
        (
            lambda: of_bytes(NO_SYSTEM),
            f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n",
            [("user", ASKED)],
        ),
        (
            lambda: of_bytes(THINKS),  # thoughts on
            f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n",
            [("user", ASKED)],
        ),
        (
            lambda: of_bytes(THINKS),  # and off
            f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
            [("user", ASKED)],
        ),
    ],
)
def test_a_rendered_prompt_is_parsed_back_and_stays_as_it_stands(
    student: Any, text: str, messages: Any
) -> None:
    assert reading(text, student()) == GivenPrompt("rendered", tuple(messages), text)


def test_a_default_system_message_belongs_to_the_template() -> None:
    student = of_bytes(DEFAULT_SYSTEM)
    text = (
        "<|im_start|>system\nBe "
        f"kind.<|im_end|>\n<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert reading(text, student) == GivenPrompt("rendered", (("user", ASKED),), text)
    other = text.replace("Be kind.", "Add.")
    assert reading(other, student) == GivenPrompt(
        "rendered", (("system", "Add."), ("user", ASKED)), other
    )


def test_the_token_that_begins_a_text_is_there_once() -> None:
    text = f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n"
    for given in (text, "<|bos|>" + text):
        assert reading(given, beginning()) == GivenPrompt(
            "rendered", (("user", ASKED),), "<|bos|>" + text
        )
    assert reading(text, chatml()).text == text


def test_prompts_that_a_writer_decoded_without_special_tokens_are_rendered_again() -> None:
    bare = f"user\n{ASKED}\nassistant\n"
    assert reading(bare, chatml()) == GivenPrompt("stripped", (("user", ASKED),), of_chatml(ASKED))
    reader = PromptReader(abacus())
    assert reader.of_text(ASKED, "", stripped=True).messages == (("user", ASKED),)
    with pytest.raises(
        UserError,
        match="the prompt was not rendered by the template of some/model",
    ):
        PromptReader(chatml()).of_text(ASKED, "theirs.jsonl:1", stripped=True)


@pytest.mark.parametrize(
    "text, mark",
    [
        ("<|im_start|>user\n4?<|im_end|>\n<|im_start|>assistant\n", "<|im_start|>"),
        ("<|user|>4?<|end|>", "<|user|>"),
        ("<|user|>4?<|end|><|assistant|>5", "<|user|>"),
        ("4?<|end|><|assistant|>", "<|end|><|assistant|>"),
        ("<s>[INST] 4? [/INST]", "<s>[INST]"),
        ("[INST] 4? [/INST]", "[INST]"),
        ("<bos><start_of_turn>user\n4?<end_of_turn>\n", "<bos><start_of_turn>"),
        (
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n4?<|eot_id|>",
            "<|begin_of_text|><|start_header_id|>",
        ),
        ("<｜begin▁of▁sentence｜><｜User｜>4?<｜Assistant｜>", "<｜begin▁of▁sentence｜><｜User｜>"),
        ("### Instruction:\n4?\n\n### Response:\n", "### Instruction:"),
    ],
)
def test_a_prompt_of_another_template_or_half_a_prompt_is_refused(text: str, mark: str) -> None:
    cut = (
        " (only its end matches: was it cut off on the left?)"
        if text.endswith("<|assistant|>")
        else ""
    )
    assert refusal(text) == (
        f"the prompt contains {mark!r}, as rendered prompts do, but was not rendered by the "
        f"template of abacus-student{cut}: give the student that it was rendered for, or use "
        "--prompt-kind question if it is a question"
    )
    assert reading(text, forced="question") == GivenPrompt("question", (("user", text),))


def test_a_prompt_said_to_be_rendered_must_be() -> None:
    text = f"<|user|>{ASKED}<|end|><|assistant|>"
    assert reading(text, forced="rendered").kind == "rendered"
    assert refusal(ASKED, forced="rendered") == (
        f"the prompt was not rendered by the template of abacus-student ({ASKED!r}); use "
        "--prompt-kind question to read prompts as questions"
    )


def test_messages_keep_their_roles_and_the_text_of_their_parts() -> None:
    messages = [
        {"role": "developer", "content": "Add."},
        {
            "role": "human",
            "content": [{"type": "text", "text": "4"}, {"type": "text", "text": " + 3?"}],
        },
    ]
    found = PromptReader(abacus()).of_messages(messages, "theirs.jsonl:1")
    assert found == GivenPrompt("messages", (("system", "Add."), ("user", "4 + 3?")))
    assert found.question == "4 + 3?"


def test_prompt_ids_are_a_rendered_prompt() -> None:
    ids = abacus().control.encode(f"<|user|>{ASKED}<|end|><|assistant|>", {})
    assert ids[0] == 3 and ids[-2:] == [1, 4]
    assert PromptReader(abacus()).of_ids(ids, "x") == reading(
        f"<|user|>{ASKED}<|end|><|assistant|>"
    )


# What each policy reads


def both(path: Path, student: Policy, teacher: Policy, **changes: Any) -> dict[str, list[str]]:
    """The prompts of both policies as text, in the order of the problems."""
    options = dataclasses.replace(PairOptions(rollouts=str(path)), **changes)
    found = read(path, student)
    rendered = render(options, student, teacher, found.problems, "")
    given = asked.student_reads(rendered, found, options, student, teacher)
    policies = {"student": student, "teacher": teacher}
    return {
        role: [policies[role].tokenizer.decode(list(ids)) for ids in prompts.values()]
        for role, prompts in given.items()
    }


def of_abacus(question: str) -> str:
    return f"<|user|>{question}<|end|><|assistant|>"


def of_chatml(question: str, begin: str = "") -> str:
    return f"{begin}<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "prompt",
    [
        ASKED,
        [{"role": "user", "content": ASKED}],
        [{"role": "user", "content": [{"type": "text", "text": ASKED}]}],
        of_abacus(ASKED),
    ],
)
def test_a_prompt_of_any_kind_goes_through_each_template_once(prompt: Any, tmp_path: Path) -> None:
    """Not the text of a Python list, and no template inside a template."""
    path = written(tmp_path / "theirs.jsonl", ROW | {"prompt": prompt})
    assert both(path, abacus(), chatml()) == {
        "student": [of_abacus(ASKED)],
        "teacher": [of_chatml(ASKED)],
    }


def test_a_student_reads_the_rendered_prompt_as_it_stands_and_a_teacher_the_messages(
    tmp_path: Path,
) -> None:
    """The prompt closes an empty thought, which the template as it is loaded does too; the other
    prompt does not."""
    student = of_bytes(THINKS, shift=9)
    prompts = [of_chatml(ASKED), of_chatml("4?") + "<think>\n\n</think>\n\n"]
    path = written(tmp_path / "theirs.jsonl", *(ROW | {"prompt": prompt} for prompt in prompts))
    found = both(path, student, abacus())
    assert found == {"student": prompts, "teacher": [of_abacus(ASKED), of_abacus("4?")]}
    shared = both(path, student, abacus(), teacher_prompt="student")
    assert shared == {"student": prompts, "teacher": prompts}  # two vocabularies: as text


def test_prompt_ids_are_the_students_prompt(tmp_path: Path) -> None:
    """The file's own ids, which its text would give otherwise."""
    student = chatml()
    ids = student.control.encode(of_chatml(ASKED), {}) + student.encode(" ")
    path = written(tmp_path / "theirs.jsonl", ROW | {"prompt": ASKED, "prompt_ids": ids})
    found = read(path, student)
    assert list(found.prompt_ids.values()) == [tuple(ids)]
    assert both(path, student, abacus()) == {
        "student": [of_chatml(ASKED) + " "],
        "teacher": [of_abacus(ASKED)],
    }


def test_a_token_that_begins_texts_is_written_once_into_every_kind_of_prompt(
    tmp_path: Path,
) -> None:
    student = beginning()
    for prompt in (
        ASKED,
        of_chatml(ASKED),
        of_chatml(ASKED, "<|bos|>"),
        [{"role": "user", "content": ASKED}],
    ):
        path = written(tmp_path / "theirs.jsonl", ROW | {"prompt": prompt})
        assert both(path, student, chatml()) == {
            "student": [of_chatml(ASKED, "<|bos|>")],
            "teacher": [of_chatml(ASKED)],
        }


def test_several_messages_reach_both_policies_whole(tmp_path: Path) -> None:
    said = [("system", "Add."), ("user", "4?"), ("assistant", "5"), ("user", ASKED)]
    messages = [{"role": role, "content": text} for role, text in said]
    path = written(tmp_path / "theirs.jsonl", ROW | {"prompt": messages})
    student = f"<|system|>Add.<|end|><|user|>4?<|end|><|assistant|>5<|end|>{of_abacus(ASKED)}"
    teacher = "<|im_start|>system\nAdd.<|im_end|>\n<|im_start|>user\n4?<|im_end|>\n<|im_start|>assistant\n5<|im_end|>\n"  # noqa: E501
    assert both(path, abacus(), chatml()) == {
        "student": [student],
        "teacher": [teacher + of_chatml(ASKED)],
    }
    path = written(tmp_path / "theirs.jsonl", ROW | {"prompt": student})
    assert both(path, abacus(), chatml()) == {
        "student": [student],
        "teacher": [teacher + of_chatml(ASKED)],
    }


@pytest.mark.parametrize(
    "prompt, options, message",
    [
        (
            of_abacus(ASKED),
            {"instruction": "boxed"},
            "1 of 1 prompts of {} are already rendered or token ids: leave --instruction out",
        ),
        (
            of_abacus(ASKED),
            {"system": "Add."},
            "1 of 1 prompts of {} are already rendered or token ids: leave --system out",
        ),
        (
            [{"role": "system", "content": "Add."}, {"role": "user", "content": ASKED}],
            {"system": "No."},
            "1 of 1 prompts of {} have their own system message: leave --system out",
        ),
        (
            f"<|system|>Add.<|end|>{of_abacus(ASKED)}",
            {"system": "No."},
            "1 of 1 prompts of {} have their own system message: leave --system out",
        ),
    ],
)
def test_nothing_is_added_to_prompts_that_are_complete(
    prompt: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "theirs.jsonl", ROW | {"prompt": prompt})
    with pytest.raises(UserError) as error:
        asked.check(PairOptions(rollouts=str(path), **options), read(path), abacus())
    assert str(error.value) == message.format(path)
    asked.check(PairOptions(rollouts=str(path)), read(path), abacus())


def test_an_instruction_beside_the_messages_of_a_file_is_refused_with_a_set_of_problems(
    tmp_path: Path,
) -> None:
    """The file's messages are used unchanged; without a set the instruction follows the
    last of them."""
    path = written(
        tmp_path / "theirs.jsonl",
        ROW | {"prompt": [{"role": "user", "content": ASKED}], "problem_id": "p"},
    )
    found = read(path, wanted={"p": (ASKED,)})
    options = PairOptions(rollouts=str(path), problems="abacus", instruction="boxed")
    with pytest.raises(UserError) as error:
        asked.check(options, found, abacus())
    assert str(error.value) == (
        f"1 of 1 prompts of {path} are chat messages, which are used unchanged for the "
        "problems of abacus: leave "
        "--instruction out"
    )
    for other in (
        dataclasses.replace(options, instruction="none"),
        dataclasses.replace(options, instruction=None),
        dataclasses.replace(options, problems="rollouts"),
    ):
        asked.check(other, found, abacus())
    question = written(tmp_path / "theirs.jsonl", ROW | {"prompt": ASKED, "problem_id": "p"})
    asked.check(options, read(question, wanted={"p": (ASKED,)}), abacus())


def test_a_system_message_of_the_file_that_a_teacher_refuses_can_be_spared_it(
    tmp_path: Path,
) -> None:
    messages = [{"role": "system", "content": "Add."}, {"role": "user", "content": ASKED}]
    path = written(tmp_path / "theirs.jsonl", ROW | {"prompt": messages})
    teacher = of_bytes(NO_SYSTEM, shift=9)
    with pytest.raises(UserError) as error:
        both(path, abacus(), teacher)
    assert str(error.value) == (
        "some/model: its chat template refuses the prompt: no system role; the problem has its own "
        "system message: use "
        "--teacher-prompt student or --teacher-system ''"
    )
    said = "<|system|>Add.<|end|>" + of_abacus(ASKED)
    assert both(path, abacus(), teacher, teacher_prompt="student") == {
        "student": [said],
        "teacher": [said],
    }
    settings = load_settings(PairOptions(rollouts=str(path), teacher_system=""), "teacher")
    spared = of_bytes(NO_SYSTEM, shift=9, drops_system=settings.drops_system)
    assert both(path, abacus(), spared) == {"student": [said], "teacher": [of_chatml(ASKED)]}
    assert not load_settings(
        PairOptions(rollouts=str(path), teacher_system=""), "student"
    ).drops_system


def test_a_rendered_prompt_for_a_student_that_is_asked_in_plain_text_is_about_that_option() -> None:
    plain = of_bytes(CHATML, prompt_format="plain")
    assert refusal(of_chatml(ASKED), plain) == (
        "the prompt contains '<|im_start|>', as rendered prompts do, but --prompt-format plain "
        "uses no template: leave that out, or set --prompt-kind to rendered (used unchanged) or "
        "question"
    )
    assert reading(of_chatml(ASKED), plain, forced="rendered").text == of_chatml(ASKED)


@pytest.mark.parametrize(
    "template, thinking, response, told",
    [
        (THINKS, "off", "It is 7.", None),
        (
            THINKS,
            "off",
            "<think>\n4.\n</think>\n\n7",
            "1 of the first 3 {} contain a thought that their prompt has closed",
        ),
        (THINKS, "on", "It is 7.", "3 of the first 3 {} contain no thought"),
        (THINKS, "on", "<think>\n4.\n</think>\n\n7", None),
        (OPENS, "on", "4.\n</think>\n\n7", None),
        (
            OPENS,
            "on",
            "<think>4.\n</think>\n\n7",
            "1 of the first 3 {} open a thought that their prompt has already opened",
        ),
    ],
)
def test_thoughts_that_do_not_go_with_the_prompts_that_are_rendered_here_are_told(
    template: str, thinking: Any, response: str, told: str | None, tmp_path: Path
) -> None:
    student = of_bytes(template, thinking=thinking)
    path = written(tmp_path / "theirs.jsonl", ROW | {"response": response}, ROW, ROW)
    options = PairOptions(rollouts=str(path), thinking=thinking)
    said = (
        ()
        if told is None
        else (
            f"{told.format('responses of theirs.jsonl')}; check whether they were sampled with "
            f"--thinking {thinking}",
        )
    )
    found = read(path, student)
    asked.check(options, found, student)
    assert asked.thought_notes(options, found, student) == said
    rendered = written(
        tmp_path / "theirs.jsonl", ROW | {"response": response, "prompt": of_chatml(ASKED)}
    )
    assert template == OPENS or asked.thought_notes(options, read(rendered, student), student) == ()


def test_ids_that_are_none_of_the_students_are_one_line_where_thoughts_are_looked_for(
    tmp_path: Path,
) -> None:
    path = written(tmp_path / "theirs.jsonl", ROW | {"response": None, "response_ids": [24, 9999]})
    with pytest.raises(
        UserError, match="token id 9999 is outside the vocabulary of abacus-student"
    ):
        asked.thought_notes(PairOptions(rollouts=str(path)), read(path), abacus())

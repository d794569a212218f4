"""Chat templates: what they refuse is one line, what ends a turn is read off them, and a switch
without effect is reported."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import CHAT, byte_tokenizer

from decaylab.errors import UserError
from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.policies.templates import ChatTemplate, open_thought, variables_of
from decaylab.problems.problem import Problem

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PARTS = (
    "{% for m in messages %}<|{{ m.role }}|>{% for part in m.content %}{{ part.text }}{% endfor "
    "%}<|end|>{% endfor %}"
    "<|assistant|>"
)
OWN_SWITCH = (
    "{{ messages[-1].content }}{% if thinking is defined and thinking %}<think>{% else "
    "%}</think>{% endif %}"
)
ALWAYS = CHAT + "<think>\n"
SWITCHED = (
    CHAT + "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
)
CHATML_TOKENS = ("<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|bos|>")


def made(template: str, **settings: Any) -> ChatTemplate:
    return ChatTemplate("some/model", byte_tokenizer(template), **settings)


def policy(
    template: str | None, special: tuple[str, ...] = CHATML_TOKENS, **settings: Any
) -> Policy:
    tokenizer = byte_tokenizer(template, special=special)
    return Policy(
        "some/model",
        None,
        tokenizer,
        PolicyIdentity("some", "folder", "", ""),
        LoadSettings(**settings),
    )


# What a template refuses


@pytest.mark.parametrize(
    "template, system, told",
    [
        (
            "{{ raise_exception('System role required') if messages[0].role != 'system' }}{{ "
            "messages[-1].content }}",
            False,
            "refuses the prompt: System role required; give a system message with --system TEXT",
        ),
        (
            "{{ raise_exception('System role not supported') if messages[0].role == 'system' }}{{ "
            "messages[-1].content }}",
            True,
            "refuses the prompt: System role not supported; leave --system out",
        ),
        (
            "{% for m in %}",
            False,
            "refuses the prompt: Expected an expression, got 'end of statement block' (line 1)",
        ),
        (
            "{{ messages[0].content + 1 }}",
            False,
            'refuses the prompt: can only concatenate str (not "int") to str',
        ),
        ("{{ some.thing.else }}", False, "refuses the prompt: 'some' is undefined"),
        ("{{ 1 / 0 }}", False, "refuses the prompt: division by zero"),
        ("a text of its own", False, "drops the question from the prompt"),
        ("{{ messages[-1].content }}", True, "drops --system from the prompt"),
        ("{{ messages[0].content }}", True, "drops the question from the prompt"),
        ("<user>{{ messages[-1].content[:9] }}", False, "drops the question from the prompt"),
    ],
)
def test_a_refusal_is_one_line_that_names_model_reason_and_remedy(
    template: str, system: bool, told: str
) -> None:
    with pytest.raises(UserError) as caught:
        made(template, system=system)
    assert str(caught.value) == f"some/model: its chat template {told}"


def test_a_template_without_a_default_among_several_is_refused() -> None:
    with pytest.raises(
        UserError, match="some/model: its chat template refuses the prompt: This model has multiple"
    ):
        made({"tool_use": CHAT, "rag": CHAT})
    assert (
        made({"default": CHAT, "rag": "x"}).conversation([("user", "Q")])
        == "<|user|>Q<|end|><|assistant|>"
    )


@pytest.mark.parametrize(
    "template",
    [PARTS, "<|user|>{{ messages[-1].content[0]['text'] }}<|end|>{# one part #}<|assistant|>"],
)
def test_a_template_that_takes_content_in_parts_gets_it_so(template: str) -> None:
    """With text in their place these would render a prompt without the question, and raise
    nothing."""
    assert made(template).conversation([("user", "Q?")]) == "<|user|>Q?<|end|><|assistant|>"


def test_a_system_message_in_parts() -> None:
    assert (
        made(PARTS, system=True).conversation([("system", "S."), ("user", "Q?")])
        == "<|system|>S.<|end|><|user|>Q?<|end|><|assistant|>"
    )


# What ends a turn


@pytest.mark.parametrize(
    "template, end",
    [
        (CHATML, "<|im_end|>"),  # with a line break behind it
        (CHATML.replace("<|im_end|>\n", "<|im_end|>"), "<|im_end|>"),  # with none
        (CHATML.replace("<|im_end|>", "\n<|im_end|>"), "<|im_end|>"),  # with one before it
        (CHATML.replace("{{ m.content }}", "{{ m.content | trim }}"), "<|im_end|>"),
        (
            CHATML.replace(
                "m.content }}<|im_end|>", "m.content }}{% if not loop.last %}<|im_end|>{% endif %}"
            ),
            "<|im_end|>",
        ),
        (
            "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}",
            "<|user|>",
        ),  # GLM: what comes next ends it
        (PARTS.replace("<|end|>", "<|im_end|>").replace("<|assistant|>", ""), "<|im_end|>"),
        ("{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}", "<|endoftext|>"),
        (
            "{% for m in messages %}{{ bos_token }}{{ m.content }}{% endfor %}",
            None,
        ),  # a beginning is no end
        (
            "{% if messages[0].role != 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML,
            "<|im_end|>",
        ),
        ("{{ messages[0].content }}", None),
        ("User: {{ messages[-1].content }}", None),  # the answer in the place of the question
        (
            "{% for m in messages %}{{ m.content if m.role == 'user' else raise_exception('no') "
            "}}{% endfor %}",
            None,
        ),
        (CHATML.replace("<|im_end|>", "<|no_token|>").replace("<|im_start|>", ""), None),
    ],
)
def test_the_end_of_a_turn_is_what_the_template_writes_behind_an_answer(
    template: str, end: str | None
) -> None:
    tokens = (*CHATML_TOKENS, "<|user|>", "<|assistant|>", "<|system|>")
    system = {"system": "S"} if "role != 'system'" in template else {}
    found = policy(template, tokens, **system)
    eos = found.tokenizer.eos_token_id
    own = found.tokenizer.convert_tokens_to_ids(end) if end else eos
    assert found.end_ids == {eos, own} and found.end_id == own
    assert found.adds_end is (own != eos)


def test_without_a_template_and_in_the_plain_format_end_of_sequence_ends() -> None:
    base = policy(None, prompt_format="plain")
    assert base.end_ids == {base.tokenizer.eos_token_id} and not base.adds_end
    for broken in ("{% for", "{{ raise_exception('no') }}"):  # which is not rendered
        assert policy(broken, prompt_format="plain").end_ids == base.end_ids
    assert policy(CHATML, prompt_format="plain").end_ids == base.end_ids | {
        3
    }  # a chat model ends its turns all the same


# Thoughts


@pytest.mark.parametrize(
    "template, thinking, told",
    [
        (
            ALWAYS,
            "off",
            "has no effect on some/model: its template always opens a thought (<think>)",
        ),
        (ALWAYS.replace("<think>", "[THINK]"), "off", "always opens a thought ([THINK])"),
        (ALWAYS, "on", ""),
        (ALWAYS, "template", ""),
        (SWITCHED, "off", ""),
        (SWITCHED, "on", ""),
        (CHAT, "off", ""),  # nothing to switch
        (CHAT, "on", "has no effect on some/model: its template has no enable_thinking"),
        (
            "{# </think> and <think> #}" + CHAT,
            "off",
            "no enable_thinking, and the model may still think (<think>)",
        ),
        (
            OWN_SWITCH,
            "off",
            "no enable_thinking, and the model may still think (<think>); use --template-kwargs "
            "thinking=true or thinking=false",
        ),
        (OWN_SWITCH, "on", "no enable_thinking; use --template-kwargs thinking=true"),
        ("{% if enable_thinking %}{{ raise_exception('no') }}{% endif %}" + CHAT, "off", ""),
    ],
)
def test_a_thinking_option_without_effect_is_reported(
    template: str, thinking: Any, told: str
) -> None:
    notes = list(made(template, thinking=thinking).notes())
    assert len(notes) == bool(told) and all(
        note.startswith(f"--thinking {thinking}") and told in note for note in notes
    )


def test_a_tokenizer_that_knows_thoughts_is_reported_too() -> None:
    tokenizer = byte_tokenizer(CHAT)
    tokenizer.add_tokens(["<think>", "</think>"])
    (note,) = ChatTemplate("some/model", tokenizer, thinking="off").notes()
    assert "the model may still think (<think>)" in note


@pytest.mark.parametrize(
    "text, mark",
    [
        ("<think>", "<think>"),
        ("<think>\n\n</think>\n\n", ""),
        ("</think>", ""),
        ("<think></think><think>", "<think>"),
        ("<|begin_of_thought|>a", "<|begin_of_thought|>"),
        ("<|begin_of_thought|>a<|end_of_thought|>", ""),
        ("[THINK]a[/THINK]", ""),
        ("<seed:think>", "<seed:think>"),
        ("<thing> <b>", ""),
    ],
)
def test_whether_a_thought_is_open(text: str, mark: str) -> None:
    assert open_thought(text) == mark


# Variables


def test_variables_reach_the_template_with_their_types() -> None:
    told = {
        "level": "low",
        "count": "3",
        "flag": "False",
        "nothing": "null",
        "text": '"3"',
        "words": "a b=c",
        "empty": "",
    }
    found = variables_of(told)
    assert variables_of({"half": "\ud83d", "coded": '"\\ud83d"'}) == {
        "half": "\ufffd",
        "coded": "\ufffd",
    }
    assert found == {**told, "count": 3, "flag": False, "nothing": None, "text": "3"}
    template = "{{ level }}{{ count + 1 }}{{ 'yes' if flag is false }}|{{ messages[0].content }}"
    assert made(template, variables=found).conversation([("user", "Q")]) == "low4yes|Q"


def test_a_variable_that_changes_nothing_is_reported() -> None:
    template = "{{ level | default('high') }}{{ messages[0].content }}"
    (note,) = made(template, variables={"level": "low", "levle": "low"}).notes()
    assert (
        note == "--template-kwargs levle has no effect on some/model: its template does not use it"
    )


def test_a_question_that_the_template_refuses_is_one_line() -> None:
    picky = (
        "{% if 'image' in messages[-1].content %}{{ raise_exception('no images') }}{% endif %}"
        + CHAT
    )
    with pytest.raises(
        UserError, match="^some/model: its chat template refuses the prompt: no images$"
    ):
        policy(picky, ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>")).prompt_ids(
            Problem("p", "an image", None), ""
        )

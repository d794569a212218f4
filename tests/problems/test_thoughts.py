"""Where an answer begins: behind thoughts, whatever opened them, and not where a text merely names
their marks."""

from __future__ import annotations

import pytest

from decaylab.errors import UserError
from decaylab.problems import thoughts
from decaylab.problems.grading import Grader, Verdict

BOX = r"\boxed{12}"
OPEN = None
OPENED = "<|assistant|><think>\n"


def rest(text: str, prompt: str = "", marks: thoughts.Marks = thoughts.KNOWN) -> str | None:
    start = thoughts.answer_start(text, prompt, marks)
    return OPEN if start is None else text[start:]


@pytest.mark.parametrize(
    ("text", "prompt", "answer"),
    [
        (f"<think> {BOX}? check</think> The answer is 13.", "", " The answer is 13."),
        (f"<think> I get {BOX}. Wait", "", OPEN),
        # The prompt opens it, as templates of R1 do; or holds an empty one, as they do without
        # thinking.
        (f"I get {BOX}. Wait", OPENED, OPEN),
        ("", OPENED, OPEN),
        (f"I get {BOX}.</think> 13", OPENED, " 13"),
        (f"I get {BOX}.</think> 13", "", " 13"),
        (f"I get {BOX}.", "<think>\n\n</think>\n\n", f"I get {BOX}."),
        (f"I get {BOX}.", "Do not write <think> or </think> here: 3 + 4?", f"I get {BOX}."),
        (f"<think>again {BOX}</think> 13", OPENED, " 13"),
        # Nested, repeated, another pair inside.
        (f"<think> one <think> two </think> {BOX}", "", f" {BOX}"),
        (f"<think> one </think> {BOX} <think> two </think> 13", "", " 13"),
        (f"<think> one </think> {BOX} <think> two", "", OPEN),
        (f"<think><think>\n{BOX}", "", OPEN),
        (f"<think> a <reasoning> b </reasoning> {BOX}", "", OPEN),
        (f"Okay. <think> {BOX}", "", OPEN),
        (f"Let me see:\n\n<think>{BOX}", "", OPEN),
        # Other families.
        (f"[THINK]{BOX}[/THINK]13", "", "13"),
        (f"<seed:think>{BOX}", "", OPEN),
        (f"<reasoning>\n{BOX}\n</reasoning>\n13", "", "\n13"),
        (f"<THINK>{BOX}</THINK>13", "", "13"),
        (
            f"<|channel|>analysis<|message|>{BOX}<|end|><|start|>assistant<|channel|>final<|message|>13",
            "",
            "13",
        ),
        (f"<|channel|>analysis<|message|>{BOX}<|end|>", "", OPEN),
        (f"◁think▷{BOX}◁/think▷13", "", "13"),
        (f"<|START_THINKING|>{BOX}<|END_THINKING|>13", "", "13"),
    ],
)
def test_the_answer_is_what_stands_behind_the_last_thought(
    text: str, prompt: str, answer: str | None
) -> None:
    assert rest(text, prompt) == answer


@pytest.mark.parametrize(
    "text",
    [
        f"Use the <think> tag. {BOX}",
        f"The `<think>` tag. {BOX}",
        f"`<think>` is a tag. {BOX}",
        f"<think> tags are useless. {BOX}",
        f"I write between <think> and </think>. {BOX}",
        f"{BOX} without a <think></think> block",
        f'The mark "</think>" ends it. {BOX}',
        f"f<think>g: {BOX}",
        f"x < think, and 3 > 2: {BOX}",
        BOX,
        "",
    ],
)
def test_a_text_that_only_mentions_the_marks_is_all_answer(text: str) -> None:
    assert rest(text) == text


def test_a_mark_that_is_mentioned_within_a_thought_does_not_end_it() -> None:
    assert rest(f"<think> `</think>` would end this. {BOX}") is OPEN
    assert rest(f"<think> '</think>' would end this. {BOX} </think> 13") == " 13"


def test_marks_are_read_off_a_tokenizer_and_its_template() -> None:
    tokens = [
        "<|im_end|>",
        "<|think|>",
        "<|/think|>",
        "<start_thought>",
        "<end_thought>",
        "<think>",
        "</think>",
        "<rethink>",
    ]
    template = "{{ '<my_reasoning>' }}{{ message }}{{ '</my_reasoning>' }}"
    found = thoughts.of_tokenizer(tokens, template)
    expected = {
        ("<|think|>", "<|/think|>"),
        ("<start_thought>", "<end_thought>"),
        ("<my_reasoning>", "</my_reasoning>"),
    }
    assert set(found) == expected  # <think> is known; nothing closes <rethink>


def test_an_option_adds_a_pair_or_takes_all_away() -> None:
    marks = thoughts.of_pair([], "<draft> </draft>")
    assert (
        rest(f"<draft>{BOX}</draft>13", marks=marks)
        == rest(f"<think>{BOX}</think>13", marks=marks)
        == "13"
    )
    assert thoughts.of_pair([], "none") == () and rest(f"<think>{BOX}", marks=()) == f"<think>{BOX}"
    for wrong in ("<draft>", "<draft> <draft>", "a b c", ""):
        with pytest.raises(
            UserError, match="--thought-marks must be an opening and a closing mark"
        ):
            thoughts.of_option(wrong)


def test_no_rule_takes_an_answer_out_of_a_thought() -> None:
    responses = [
        f"<think> 12, so {BOX}? check</think> The answer is 13.",
        f"<think> I get {BOX}. Wait",
        f"I get {BOX}. Wait",
    ]
    with Grader(timeout_seconds=30) as grader:
        verdicts = grader.grade(responses, ["12"] * 3, prompts=["", "", OPENED]).verdicts
        numbers = grader.grade(responses[:1], ["13"]).verdicts
        meaningless = grader.grade(responses[1:2], ["x + 1"], rules=["gsm8k"]).verdicts
    boxed = [Verdict.NO_ANSWER] * 3
    assert verdicts["last_boxed"] == verdicts["first_boxed"] == boxed
    assert (
        verdicts["anywhere"]
        == verdicts["gsm8k"]
        == [Verdict.WRONG, Verdict.NO_ANSWER, Verdict.NO_ANSWER]
    )
    assert numbers["gsm8k"] == numbers["anywhere"] == [Verdict.CORRECT]
    assert meaningless["gsm8k"] == [
        Verdict.NOT_APPLICABLE
    ]  # whatever the response: it is one of the problem


@pytest.mark.parametrize(
    ("prompt", "is_open"),
    [
        ("<|user|>2 + 2?<|end|><|assistant|><think>\nOkay,", True),
        ("<|im_start|>assistant\n<think>\nLet me think step by step.\n", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("<|im_start|>user\n<think>\nWhat is this?<|im_end|>\n<|im_start|>assistant\n", False),
        ("Question: what does <think> mean?\nAnswer: ", False),
    ],
)
def test_a_template_may_write_words_behind_the_mark_that_it_opens(
    prompt: str, is_open: bool
) -> None:
    """R1-style templates open the thought in the prompt, some with its first words; the response
    then holds no mark."""
    assert (thoughts.answer_start("I get \\boxed{12}. Wait", prompt) is None) is is_open

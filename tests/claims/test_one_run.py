"""The verdict of one run: three sentences at most, with the numbers of its rows and no ids."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from made_runs import arm, made, row
from test_claims import changes, control

from decaylab.claims.advice import advise
from decaylab.claims.judge import CLAIMS, judge
from decaylab.claims.one_run import LINES, VERDICTS, verdict
from decaylab.runs.measurements import Measurement
from decaylab.tables.shown import PAGES

DECAY = [
    row("teacher_advantage", 0.223, 0.04, "student-prefix"),
    row("half_decay_length", 31.0, 6.0, "student-prefix", unit="tokens"),
]
WHOLE = {"position_low": 0.0, "position_high": math.inf, "view": "fresh", "checkpoint": "base"}


def said(command: str, rows: Sequence[Measurement], **options: Any) -> list[str]:
    lines = list(verdict(made(command, rows, **options)))
    assert sum(len(re.findall(r"[.?](?= [A-Z]|$)", line)) for line in lines) <= LINES
    for line in lines:
        assert line.endswith((".", "?")) and "\n" not in line
        assert not re.search(r"\bnan\b|\bNone\b|\binf\b", line)
        words = re.sub(r"--\S+ \S+", "", line)  # without options and their values
        assert not any(claim.name in words for claim in CLAIMS if "-" in claim.name), "no ids"
    return lines


def test_every_command_with_a_page_has_a_verdict() -> None:
    assert set(VERDICTS) == set(PAGES)


def test_a_decay_run_says_the_advantage_the_fall_and_the_control() -> None:
    rows = [*DECAY, *changes(-0.05, -0.2), *control(0.01, -0.01)]
    advantage, decay, control_line = said("prefix-decay", rows)
    assert advantage == (
        "Alone, the teacher is ahead of the student by +22.3 points [+18.3, +26.3] over 300 "
        "problems."
    )
    assert decay.startswith(
        "Shown: the longer the student's prefix, the less accurate is the teacher that continues "
        "it; a fall is shown from a prefix of 10 student tokens on: -5.0 points [-8.0, -2.0]; the "
        "largest is -20.0 points [-23.0, -17.0] at 20 tokens; half of its advantage over the "
        "student is gone after 31 tokens [25, 37]."
    )
    assert control_line.startswith("The control holds: after prefixes of its own")


def of_responses(value: float, half: float, checkpoint: str, note: str = "") -> Measurement:
    """The mean log-ratio of all responses."""
    at = {**WHOLE, "checkpoint": checkpoint}
    found = row("response_log_ratio", value, half, "all", unit="nats", **at)
    return replace(found, note=note, rollouts=40)


CAPPED = row("above_cap_share", 0.02, 0.01, "all", unit="fraction", **WHOLE)


def test_a_comparison_by_bytes_says_the_log_ratio_before_and_after_training() -> None:
    finished = replace(of_responses(9.0, 1.0, "base"), condition="finished", rollouts=30)
    rows = [of_responses(12.0, 2.0, "base"), of_responses(8.0, 1.0, "esr"), finished, CAPPED]
    (line,) = [one for one in said("position-kl", rows) if "By bytes" in one]
    assert line.startswith("By bytes, 2.0 % [1.0, 3.0] of the boundaries have more than 10 nats; ")
    assert "12.000 nats [10.000, 14.000] a response before training (30 of 40 are" in line
    assert "after it 8.000 nats [7.000, 9.000] (esr)" in line


def test_rollouts_of_another_law_have_no_log_ratio_and_the_reason_is_said() -> None:
    rows = [of_responses(math.nan, math.nan, "base", "the rollouts were sampled at 0.7"), CAPPED]
    (line,) = [one for one in said("position-kl", rows) if "By bytes" in one]
    assert line.endswith(
        "there is no log-ratio of whole responses (the rollouts were sampled at 0.7)."
    )


def test_the_sentence_is_the_one_that_the_report_prints_of_the_claim() -> None:
    run = made("prefix-decay", [*DECAY, *changes(-0.05, -0.2), *control(0.01, -0.01)])
    (finding,) = (one for one in judge([run]) if one.claim.name == "teacher-decay")
    told = verdict(run)[1].partition("; ")[2].split("; half")[0]
    assert told[0] == "a" and finding.sentence.startswith(f"A{told[1:]}.")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "The control was not measured: add --controls own-prefix."),
        (control(0.01, 0.05, p_value_holm=0.001), "THE CONTROL FAILED: "),
        (control(0.01, 0.03, p_value_holm=0.3), "The control is inconclusive: "),
    ],
)
def test_a_control_that_does_not_hold_is_said(rows: list[Measurement], told: str) -> None:
    assert said("prefix-decay", [*DECAY, *changes(-0.05, -0.2), *rows])[2].startswith(told)


def test_a_teacher_behind_its_student_is_not_called_ahead() -> None:
    behind = row("teacher_advantage", -0.1, 0.02, "student-prefix")
    assert said("prefix-decay", [behind])[0] == (
        "Alone, the teacher is behind the student: -10.0 points [-12.0, -8.0] over 300 problems."
    )


@pytest.mark.parametrize(
    ("more", "end"),
    [
        ({"low": -0.057, "high": 0.928}, ": +45.0 points [-5.7, +92.8] over 300 problems."),
        (
            {"problems": 10},
            ": +45.0 points [+41.0, +49.0] over 10 problems; at least 30 are needed.",
        ),
        ({"low": math.nan}, ": +45.0 points (no interval) over 300 problems."),
    ],
)
def test_an_advantage_that_is_not_shown_is_no_fact(more: dict[str, Any], end: str) -> None:
    gap = row("teacher_advantage", 0.45, 0.04, "student-prefix", **more)
    assert said("prefix-decay", [gap])[0] == (
        f"Alone, the teacher is not shown to be ahead of the student{end}"
    )


def test_what_cannot_be_tested_says_what_would_test_it() -> None:
    few = changes(-0.02, 0.02, problems=8)
    gap = row("teacher_advantage", 0.45, 0.04, "student-prefix")
    (_, decay, _) = said("prefix-decay", [replace(gap, problems=8), *few])
    assert decay == (
        "Not testable here (only 8 problems; at least 30 are needed): does the teacher's accuracy "
        "fall with the length of the student's prefix?"
    )
    (_, decay, _) = said("prefix-decay", [gap, *few])
    assert decay == (
        "Not testable here (only 8 problems have rollouts unfinished at 10 tokens; at least 30 are "
        "needed): does the teacher's accuracy fall with the length of the student's prefix?"
    )


def test_every_claim_that_is_undecided_has_its_numbers_and_the_reason() -> None:
    place = {"checkpoint": "prefix-20-seed-0", "view": "fresh", "unit": "tokens"}
    rows = [
        row("response_tokens_mean", 125.7, 3.0, **{**place, "checkpoint": "base"}),
        row("response_tokens_mean_change", 7.6, 3.1, **place),
    ]
    (line,) = said("behaviour", rows)
    assert line == (
        "Undecided (one training seed is not enough; the mean length, 125.7 tokens before "
        "training, changes by +7.6 tokens [+4.5, +10.7] (prefix-20-seed-0); a change of 12.6 "
        "tokens counts): does early stopping shorten responses?"
    )


def test_every_claim_is_also_a_question() -> None:
    for claim in CLAIMS:
        assert claim.question.endswith("?") and claim.question[0].isupper()
        assert claim.question.count("?") == 1


def test_position_kl_begins_with_the_mean_before_and_after_training() -> None:
    rows = [row("mean_reverse_kl", 0.2, 0.01, "all", unit="nats", **WHOLE)]
    after = {**WHOLE, "checkpoint": "esr"}
    rows.append(row("mean_reverse_kl", 0.1, 0.02, "all", unit="nats", **after))
    assert said("position-kl", rows)[0] == (
        "The reverse KL is 0.200 nats [0.190, 0.210] per token before training, over 1,200 "
        "rollouts; after it 0.100 nats [0.080, 0.120] (esr)."
    )


def test_category_kl_names_the_largest_share_and_the_highest_frequent_mean() -> None:
    rows = []
    numbers = {"math_number": (0.5, 0.4, 0.1, 900), "planning": (0.3, 0.1, 0.3, 200)}
    for kind, (share, of_tokens, mean, tokens) in {**numbers, "rare": (0.0, 0.0, 9, 3)}.items():
        at = {**WHOLE, "category": kind, "tokens": tokens}
        rows += [
            row("kl_share", share, 0.1, "all", **at),
            row("token_share", of_tokens, 0.1, "all", **at),
            row("mean_reverse_kl", mean, 0.01, "all", unit="nats", **at),
        ]
    for token, mean in (("=", 0.7), (" the", 0.2)):
        at = {**WHOLE, "category": "planning", "token": token, "tokens": 60}
        rows.append(row("token_mean_reverse_kl", mean, math.nan, "all", unit="nats", **at))
    share, mean_line, token_line = said("category-kl", rows, min_count=50)
    assert share == (
        "The largest part of the reverse KL is in math number tokens: 50.0 % [40.0, 60.0], which "
        "are 40.0 % [30.0, 50.0] of the tokens."
    )
    assert "planning tokens: 0.300 nats" in mean_line and "over 200 tokens" in mean_line
    assert token_line.startswith("Of the frequent tokens '=' has the highest mean: 0.700 nats")


def test_signals_says_the_advice_where_it_was_asked_for() -> None:
    words = {"verdict": ["Stop at 40 tokens.", "It is shown."], "next": "Run it.", "runs": []}
    run = made("signals", [], record={"identity": {"options": {}}, "advice": words})
    assert verdict(run) == ("Stop at 40 tokens.", "It is shown.", "Next: Run it.")
    at = {"view": "fresh", "checkpoint": "base", "condition": "survivors"}
    rows = [
        row("cumulative_kl_position", 32.8, 2.0, unit="tokens", **at),
        row("cumulative_kl_threshold", 0.45, math.nan, **at),
    ]
    assert said("signals", rows) == [
        "45 % of the KL lies in the first 32.8 tokens [30.8, 34.8] of a rollout."
    ]


def test_behaviour_compares_the_student_with_its_teacher() -> None:
    rows = []
    for name, length, stops, correct in (("base", 110.3, 0.4, 0.2), ("teacher", 90.0, 0.9, 0.8)):
        at = {"view": "fresh", "checkpoint": name}
        rows += [
            row("response_tokens_mean", length, 1.0, unit="tokens", **at),
            row("natural_stop_share", stops, 0.05, **at),
            row("accuracy", correct, 0.05, "last_boxed", **at),
            row("accuracy", 0.99, 0.0, "anywhere", **at),
        ]
    student, teacher = said("behaviour", rows)
    assert student == (
        "Before training the student writes 110.3 tokens [109.3, 111.3] on average, stops "
        "naturally in 40.0 % [35.0, 45.0] of its responses and is correct in 20.0 % [15.0, 25.0]."
    )
    assert teacher.startswith("The teacher writes 90.0 tokens")


def test_an_evaluation_says_what_training_changed() -> None:
    rows = [
        row("avg_at_4", value, 0.02, "last_boxed", checkpoint=name, view="fresh")
        for name, value in (("base", 0.3), ("teacher", 0.8), ("esr", 0.4))
    ]
    changed = {"checkpoint": "esr", "view": "fresh", "p_value_holm": 0.004}
    rows.append(row("avg_at_4_minus_base", 0.1, 0.03, "last_boxed", **changed))
    untrained, trained = said("evaluate", rows, samples=4)
    assert untrained == (
        "The untrained student is correct in 30.0 % [28.0, 32.0], the teacher in 80.0 % [78.0, "
        "82.0], over 300 problems."
    )
    assert trained == (
        "Training changes the accuracy of esr by +10.0 points [+7.0, +13.0], p = 0.004 by Holm."
    )


def test_a_change_that_is_not_shown_is_no_change() -> None:
    at = {"view": "fresh", "checkpoint": "esr/step-000004"}
    open_ = row("avg_at_4_minus_base", 0.1, 0, "", low=-0.078, high=0.308, p_value_holm=1.0, **at)
    assert said("evaluate", [open_], samples=4) == [
        "No change of accuracy by training is shown for esr/step-000004 (+10.0 points [-7.8, "
        "+30.8], p = 1.000 by Holm)."
    ]
    shown = row("avg_at_4_minus_base", 0.2, 0.05, checkpoint="full", view="fresh")
    both = said("evaluate", [open_, shown], samples=4)
    assert both[0] == "Training changes the accuracy of full by +20.0 points [+15.0, +25.0]."
    few = row("avg_at_4_minus_base", 0.2, 0.05, problems=10, **at)
    assert said("evaluate", [few], samples=4)[0].endswith(
        "[+15.0, +25.0]); only 10 problems, at least 30 are needed."
    )


def test_of_many_students_a_few_are_named_and_the_others_counted() -> None:
    rows = [row("mean_reverse_kl", 0.2, 0.01, "all", unit="nats", **WHOLE)]
    for place in range(40):
        at = {**WHOLE, "checkpoint": f"run-{place}"}
        rows.append(row("mean_reverse_kl", 0.1, 0.01, "all", unit="nats", **at))
    (line,) = said("position-kl", rows)
    assert "(run-0); " in line and "(run-2); 37 more in the table." in line and len(line) < 400


@pytest.mark.parametrize("command", sorted(VERDICTS))
def test_a_run_without_a_number_says_nothing_wrong(command: str) -> None:
    """No rows, or rows of NaN: no sentence with a number that is not there."""
    nothing = {"view": "fresh", "checkpoint": "base", "note": "no tokens"}
    rows = [
        row(what, math.nan, math.nan, condition, **nothing)
        for what in ("mean_reverse_kl", "kl_share", "accuracy", "response_tokens_mean", "avg_at_1")
        for condition in ("all", "last_boxed")
    ]
    if command != "compare":
        said(command, rows, samples=1, over="rollout-length", seeds=1)


def test_a_sweep_says_the_advice_of_its_own_runs_and_the_claim_behind_it() -> None:
    rows = [*arm("prefix-20", -0.1, share=0.2), *arm("full", 0.0)]
    lines = said("sweep rollout-length", rows, over="rollout-length", samples=1, seeds=3)
    assert len(lines) == 3
    assert lines[2].startswith("Contradicted: a student trained on rollouts that stop early is ")
    assert "-10.0 points" in lines[2]


def test_a_reason_of_several_sentences_leaves_room_for_the_next_line() -> None:
    rows = [
        *arm("prefix-20", 0.022, 0.01, share=0.3),
        *arm("prefix-5", -0.1, share=0.1),
        *arm("prefix-10", -0.05, share=0.2),
        *arm("prefix-60", -0.01, 0.02, share=0.8, p=0.5),
    ]
    answer, reason, claim = said("sweep rollout-length", rows, over="rollout-length", seeds=3)
    assert answer == "Train with rollouts of 20 tokens."
    assert reason.startswith(
        "No setting is shown to be better than full rollouts; this one is at most 2 points less "
    )
    assert claim.startswith("Undecided (the advice, which ") and "+2.2 points" in claim


def test_a_gain_that_the_advice_does_not_show_is_not_shown_on_the_same_screen() -> None:
    """By the rule of its claim 20 tokens are ahead; by the advice, which also adds the uncertainty
    over seeds, they are not."""
    rows = arm("prefix-20", 0.055, 0.054, share=0.3)
    run = made("sweep rollout-length", rows, over="rollout-length", samples=1, seeds=3)
    (finding,) = (one for one in judge([run]) if one.claim.name == "early-stopping-beats-full")
    assert finding.verdict == "holds" and "better" not in set(advise([run]).candidates["verdict"])
    lines = verdict(run)
    assert not any(line.startswith("Shown") for line in lines)
    assert lines[-1].startswith("Undecided (the advice, which ")
    assert "N = 20: +5.5 points" in lines[-1]

"""Training a pair of two tokenizers: what is drawn, scored, recorded, validated and refused."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_span_loss import of_tokens
from tiny_models import tiny_llama
from training_by_hand import train
from two_tokenizers import OF_STUDENT, merging_tokenizer, pair, policy, spanned, written

from decaylab.errors import UserError
from decaylab.figures import training as curves
from decaylab.maths.selection import SELECTORS
from decaylab.options.training import DIVERGENCES, TrainOptions
from decaylab.policies.alignment import Aligner
from decaylab.policies.own_vocabulary import OwnVocabulary
from decaylab.policies.policy import Policy
from decaylab.problems.problem import Problem
from decaylab.rollouts.sampling import Response, SamplingSettings
from decaylab.runs import train_results
from decaylab.tables import card, training
from decaylab.tokens.heads import Head
from decaylab.trainer import span_validation, validation
from decaylab.trainer.draw import TrainingRollout, micro_batches
from decaylab.trainer.machinery import two_tokenizers
from decaylab.trainer.span_draw import SpanPlan, aligned, counts
from decaylab.trainer.span_validation import SpanScores
from decaylab.trainer.validation import HeldOut

PLAIN: dict[str, Any] = {
    "student": "abacus-student",
    "problems": "abacus-train",
    "test_problems": "none",
    "max_tokens": 40,
    "temperature": 1.0,
    "rollout_length": "20",
    "divergence": "policy-gradient",
}


@pytest.fixture(scope="module")
def models() -> tuple[Policy, Policy]:
    return pair()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder: a teacher of random weights whose tokens are not those of the embedded pair."""
    folder = tmp_path_factory.mktemp("teacher")
    tokenizer = merging_tokenizer((("i", "n"), ("t", "h"), ("th", "e"), ("1", "0")), shift=7)
    model = tiny_llama(1, vocab_size=len(tokenizer), max_position_embeddings=2048)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def run(teacher: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "spans"
    more = {"steps": 6, "problems_per_step": 8, "checkpoint_every": 6, "validation_problems": 6}
    train(folder, **PLAIN, teacher=teacher, learning_rate=3e-3, **more)
    return folder


# --- what is drawn
# ---------------------------------------------------------------------------


class Engine:
    """Writes these responses, one after another."""

    def __init__(self, responses: Sequence[Response]) -> None:
        self.responses = list(responses)

    def sample(self, requests: Any, settings: Any, on_progress: Any = None) -> list[Response]:
        return self.responses[: len(requests)]


def drawn(models: tuple[Policy, Policy], *responses: Response, **more: Any) -> Any:
    problems = tuple(Problem(f"p{n}", "q", "1") for n in range(len(responses)))
    of_problems = {one.problem_id: (5, 6) for one in problems}
    prompts = {"student": of_problems, "teacher": of_problems}
    plan = SpanPlan(
        problems, prompts, SamplingSettings(1.0), len(problems), 1, aligner=Aligner(*models), **more
    )
    return plan.draw(1, 99, {"student": Engine(responses)}, None)


def test_a_cut_response_is_scored_up_to_its_last_closed_span_and_a_finished_one_whole(
    models: tuple[Policy, Policy],
) -> None:
    cut, ended = written(models[0], "abcbca", False), written(models[0], "abcbca", True)
    found = drawn(models, cut, ended)
    first, second = sorted(found.rollouts, key=lambda one: one.ended)
    # Student: ab c b c a; teacher: a bc bca. The boundary at the cut may move.
    assert first.scored.response == cut.ids[:2] and len(first.theirs) == 2
    assert second.scored.response == ended.ids and len(second.theirs) == 4
    places = [(span.student, span.teacher) for span in second.spans]
    ends = (slice(5, 6), slice(3, 4))
    assert places == [(slice(0, 2), slice(0, 2)), (slice(2, 5), slice(2, 3)), ends]
    assert counts(found) == {"tokens_open": 3, "unaligned": 0, "beyond_context": 0}
    assert (found.left_out, found.sampled) == (0, 11)


def test_an_end_that_is_not_scored_is_left_out_on_both_sides_and_is_not_open(
    models: tuple[Policy, Policy],
) -> None:
    ended = written(models[0], "abcbca", True)
    (only,) = drawn(models, ended, score_end=False).rollouts
    assert only.scored.response == ended.ids[:-1] and len(only.theirs) == 3
    assert counts(drawn(models, ended, score_end=False))["tokens_open"] == 0
    assert drawn(models, Response((models[0].end_id,), "eos"), score_end=False).left_out == 1


def test_rollouts_that_cannot_be_aligned_are_counted_by_reason(
    models: tuple[Policy, Policy],
) -> None:
    student, teacher = models
    broken = Response((*student.encode("é")[:1], *student.encode("a"), student.end_id), "eos")
    short = written(student, "a", False)  # its only token is open
    long = written(student, "c" * 300, True)
    fine = written(student, "ab c", True)
    found = drawn(models, broken, short, long, fine)
    assert teacher.context_length == 256
    assert found.left_out == 3 and len(found.rollouts) == 1
    assert counts(found) == {"tokens_open": 0, "unaligned": 1, "beyond_context": 1}
    assert dict(found.reasons) == {"not_text": 1, "empty": 1, "beyond_context": 1}


def test_batches_have_room_for_the_longer_of_the_two_contexts(
    models: tuple[Policy, Policy],
) -> None:
    coarse = policy("student", merging_tokenizer((("c", "c"), ("cc", "cc"), ("cccc", "cccc"))), 0)
    aligner = Aligner(coarse, models[1])
    response = written(coarse, "c" * 64, True)
    rollout = aligned(aligner, "r", ((1,), (1, 2)), response)
    assert isinstance(rollout, TrainingRollout)
    assert len(rollout.scored.response) == 9 and rollout.context == 2 + 65
    assert [len(batch) for batch in micro_batches([rollout] * 4, 2 * 67)] == [2, 2]


# --- held-out rollouts
# ---------------------------------------------------------------------------


def test_held_out_log_ratios_are_sums_over_the_tokens_of_both(
    models: tuple[Policy, Policy],
) -> None:
    aligner, given = Aligner(*models), spanned(*models)
    names = [*(one.scored.rollout_id for one in given), "x"]
    problems = [Problem(name, "q", "1") for name in names]
    prompts = {
        "student": {one.scored.rollout_id: one.scored.student_prompt for one in given},
        "teacher": {one.scored.rollout_id: one.scored.teacher_prompt for one in given},
    }
    for role in prompts:
        prompts[role]["x"] = (5,)
    setup: Any = SimpleNamespace(aligner=aligner, pair=SimpleNamespace(prompts=prompts))
    responses = [Response(one.ids, "eos" if one.ended else "length") for one in given]
    heads = Head(models[0]), Head(models[1])
    scores = SpanScores(heads, (OwnVocabulary(models[0]), OwnVocabulary(models[1])), 60)
    unread = Response(tuple(models[0].encode("é")[1:]), "length")
    found = scores(setup, problems, [*responses, unread])
    assert found.keys() == {one.scored.rollout_id for one in given}
    short = scores(setup, problems[:2], [written(models[0], "a", False), Response((), "length")])
    assert [*short.values()] == [(0, pytest.approx(math.nan, nan_ok=True), 0.0)], "no closed span"
    for one in given:
        own = of_tokens(models[0], one.scored.student_prompt, one.scored.response)
        theirs = of_tokens(models[1], one.scored.teacher_prompt, one.theirs)
        scored = found[one.scored.rollout_id]
        assert scored.tokens == len(own) and math.isnan(scored.reverse_kl)
        assert scored.log_ratio == pytest.approx(float((own.sum() - theirs.sum()).detach()))


def held(name: str, tokens: int, ratio: float, ended: bool = True) -> HeldOut:
    return HeldOut(name, True, tokens, math.nan, tokens, ended, False, ratio)


def test_a_row_has_the_mean_over_aligned_rollouts_and_the_mean_over_their_tokens() -> None:
    rollouts = [
        held("a", 10, -1.0),
        held("b", 20, 5.0, ended=False),
        held("d", 0, math.nan),
    ]
    row = validation.row(3, rollouts) | span_validation.columns(rollouts)
    assert row["response_log_ratio"] == pytest.approx(2.0) and row["finished"] == 1
    assert row["log_ratio"] == pytest.approx(4 / 30) and row["aligned"] == 2
    # Two problems: the mean, and 12.706 standard errors of it to each side.
    assert row["response_log_ratio_low"] == pytest.approx(2 - 12.7062 * 3, rel=1e-4)
    assert row["log_ratio_low"] < 4 / 30 < row["log_ratio_high"]
    assert math.isnan(row["reverse_kl"]) and row["tokens"] == 30
    nothing = span_validation.columns([held("d", 0, math.nan)])
    assert math.isnan(nothing["response_log_ratio"]) and math.isnan(nothing["log_ratio"])
    assert nothing["finished"] == nothing["aligned"] == 0


# --- a run
# ---------------------------------------------------------------------------


def test_a_run_lowers_the_held_out_log_ratio(run: Path) -> None:
    rows = pd.read_csv(run / "validation.csv")
    for column in ("log_ratio", "response_log_ratio"):
        assert rows[column].iloc[-1] < 0.95 * rows[column].iloc[0]
    assert rows.reverse_kl.isna().all() and (rows.aligned == 6).all()
    assert (rows.finished == rows.natural_stop_share * 6).all()


def test_its_records_hold_log_ratios_and_no_kl(run: Path) -> None:
    rows = pd.read_csv(run / "metrics.csv")
    assert np.allclose(rows.loss, rows.log_ratio) and (rows.log_ratio > 0).all()
    kl = [name for name in rows if "reverse_kl" in name] + ["teacher_entropy"]
    assert rows[kl].isna().all().all() and rows.student_entropy.gt(0).all()
    assert (rows.tokens_scored + rows.tokens_open == rows.tokens_sampled).all()
    assert (rows.spans <= rows.tokens_scored).all() and (rows.tokens_open > 0).all()
    notes = json.loads((run / "run.json").read_text())["notes"]
    assert two_tokenizers.DIFFERENT in notes and not any("left out:" in note for note in notes)


def test_its_page_card_and_curves_speak_of_log_ratios(run: Path) -> None:
    result = train_results.read(run, True)
    sentence = next(iter(training.page(result).verdict))
    assert "log-ratio of a response up to the budget from" in sentence and "KL" not in sentence
    held_out, steps = list(training.page(result).parts)
    assert "log-ratio, a token" in str(held_out) and "reverse KL" not in str(held_out)
    assert "log-ratio, nats per student token" in str(steps) and "KL" not in str(steps)
    about = (run / "step-000006" / "README.md").read_text()
    assert "log-ratio of a response up to the budget (nats)" in about
    assert "reverse KL (" not in about
    assert set(card.held_out(result.validation)["what"]) == {"accuracy", "response_log_ratio"}
    shown = curves.caption(result.metrics, result.validation)
    assert "log-ratio of responses up to the budget" in shown
    panels = curves.sheet(result.metrics, result.validation).parts.values()
    titles = [part.title for part in panels]
    assert "Held-out log-ratio up to the budget" in titles
    assert "Held-out reverse KL" not in titles


# --- what is refused, and what a reader is told
# ---------------------------------------------------------------------------


def refused(tmp_path: Path, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        train(tmp_path / "run", **{**PLAIN, **options})
    assert "\n" not in str(error.value) and not (tmp_path / "run" / "run.json").exists()
    return str(error.value)


def test_other_losses_are_refused_in_a_line_that_names_the_one_that_works(
    models: tuple[Policy, Policy], teacher: str, tmp_path: Path
) -> None:
    message = refused(tmp_path, teacher=teacher, divergence="reverse-kl")
    assert message.startswith("--divergence reverse-kl ")
    assert message.endswith("use --divergence policy-gradient")
    for other in set(DIVERGENCES) - {"policy-gradient"}:
        with pytest.raises(UserError, match=f"--divergence {other} "):
            two_tokenizers.aligner_of(TrainOptions(divergence=other), *models)


def test_selectors_that_need_a_teacher_at_each_token_are_refused(
    models: tuple[Policy, Policy],
) -> None:
    def complaint(selector: str) -> str:
        options = TrainOptions(divergence="policy-gradient", selector=selector)
        with pytest.raises(UserError) as error:
            two_tokenizers.aligner_of(options, *models)
        return str(error.value)

    message = complaint("top-reverse-kl")
    assert "--selector top-reverse-kl reads the teacher's law" in message
    message = complaint("after-teacher-prefix")
    assert "behind the teacher's own tokens" in message and "use one of prefix," in message
    allowed = set(two_tokenizers.selectors())
    needing = {name for name, one in SELECTORS.items() if one.needs_signals}
    assert allowed >= {"prefix", "full", "rising", "progressive", "random", "top-student-entropy"}
    assert allowed & needing == {"top-student-entropy"} and "importance" not in allowed
    fine = TrainOptions(divergence="policy-gradient", selector="suffix")
    assert isinstance(two_tokenizers.aligner_of(fine, *models), Aligner)


def test_a_pair_with_one_tokenizer_has_no_aligner(models: tuple[Policy, Policy]) -> None:
    same = policy("teacher", merging_tokenizer(OF_STUDENT), 2)
    assert two_tokenizers.aligner_of(TrainOptions(), models[0], same) is None


def test_another_temperature_is_noted_and_1_is_not(models: tuple[Policy, Policy]) -> None:
    def told(**changes: Any) -> str:
        options = TrainOptions(**{"temperature": 1.0, "top_p": 1.0, "top_k": 0, **changes})
        return " ".join(two_tokenizers.notes(options, *models))

    assert "estimate no KL" in told(temperature=0.7) and "estimate no KL" in told(top_p=0.9)
    assert "estimate no KL" in told(top_k=5) and "estimate no KL" not in told()


def test_the_share_of_rollouts_left_out_is_told_with_a_warning_above_two_percent() -> None:
    few = {"rollouts": 98.0, "left_out": 2.0, "unaligned": 1.0, "beyond_context": 0.0}
    assert two_tokenizers.left_out_words(few).startswith("2 of 100 training rollouts (2.0 %)")
    many = two_tokenizers.left_out_words({**few, "rollouts": 97.0, "left_out": 3.0})
    assert many.startswith("WARNING: 3 of 100 training rollouts (3.0 %)")
    assert two_tokenizers.left_out_words({**few, "left_out": 0.0}) == ""

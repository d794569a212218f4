"""`Probe` in a plain loop: its numbers against float64 over model logits, its folder as a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from probed import (
    BINS,
    PROBLEMS,
    SMALL,
    TEXTS,
    VOCAB,
    check,
    expected,
    naive_kl,
    probe,
    rollouts,
    student,
    teacher,
    wide,
)
from tiny_models import byte_tokenizer

import decaylab as dl
from decaylab.errors import UserError
from decaylab.maths import token_means
from decaylab.policies import loading
from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.policy import Policy
from decaylab.probing.probe import Probe
from decaylab.problems.tasks import EMBEDDED_LENGTHS
from decaylab.runs import found_runs
from decaylab.runs.skewed_cells import NO_TOKENS
from decaylab.runs.vocabulary import BASE, FRESH, FROZEN, row, select
from decaylab.trainer.alarms import Thresholds


def trained(model: Any, steps: int = 1) -> None:
    """Takes some steps of a plain loop."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    ids = torch.from_numpy(np.random.default_rng(3).integers(5, VOCAB, (4, 12)))
    for _ in range(steps):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_every_logged_mean_is_that_of_a_naive_computation_in_float64(tmp_path: Path) -> None:
    model, of = student(), teacher()
    watched = probe(tmp_path / "run", of)
    readings = []
    for step in (0, 2, 4):
        reading = watched.measure(model, step)
        check(reading.logs, expected(tmp_path / "run", step, wide(model), of))
        readings.append(reading)
        trained(model, 2)
    assert [each.checkpoint for each in readings] == ["base", "step-2", "step-4"]
    names = [name for name in readings[0].logs if name.startswith("decay/frozen")]
    assert names == [
        "decay/frozen/reverse_kl",
        "decay/frozen/reverse_kl_0-1",
        "decay/frozen/reverse_kl_2-4",
        "decay/frozen/reverse_kl_5-29",  # none of 30+: no rollout goes so far
    ]
    levels = [each.logs["decay/frozen/reverse_kl"] for each in readings]
    assert len({round(level, 3) for level in levels}) == 3  # the student of each step
    assert "reverse KL" in str(readings[1]) and "\n" not in str(readings[1])


def test_the_fresh_view_is_what_the_student_of_that_step_writes(tmp_path: Path) -> None:
    model = student()
    watched = probe(tmp_path / "run", temperature=0, max_tokens=5, samples=1)
    watched.measure(model, 0)
    trained(model, 3)
    watched.measure(model, 3)
    copied, written = wide(model), rollouts(tmp_path / "run", 3, FRESH)
    assert len(written) == len(TEXTS)
    for one in written:
        logits = copied(input_ids=torch.tensor([one.student_prompt + one.response])).logits[0]
        greedy = logits[len(one.student_prompt) - 1 : -1].argmax(-1)
        assert tuple(greedy.tolist()) == one.response
    base = [one.response for one in rollouts(tmp_path / "run", 0, FRESH)]
    assert base == [one.response for one in rollouts(tmp_path / "run", 3, FROZEN)]
    assert base != [one.response for one in written]


def test_the_folder_is_a_position_kl_run_with_the_steps_as_checkpoints(tmp_path: Path) -> None:
    out, model, of = tmp_path / "run", student(), teacher()
    watched = probe(out, of, rollout_length=3)
    before = wide(model)
    for step in (0, 5):
        watched.measure(model, step)
        trained(model)
    run = dl.open_run(out)
    frame = run.measurements
    assert set(frame["checkpoint"]) == {BASE, "step-5"} and set(frame["run"]) == {"run"}
    assert set(zip(frame["checkpoint"], frame["step"])) == {(BASE, 0.0), ("step-5", 5.0)}
    trained_rows = select(frame, checkpoint="step-5")
    assert set(trained_rows["rollout_length"]) == {3.0}
    assert select(frame, checkpoint=BASE)["rollout_length"].isna().all()
    cascade = row(frame, what="cascade_ratio", view=FROZEN)
    assert cascade["position_low"] == 3
    assert "measured while the student was trained" in " ".join(run.notes)
    # counts and intervals resample problems: two rollouts each
    kl = naive_kl(before, of.weights, rollouts(out, 0, FRESH))
    by_problem = [np.concatenate(kl[index : index + 2]) for index in range(0, len(kl), 2)]
    means = token_means.means(
        np.array([[one.sum()] for one in by_problem]),
        np.array([[float(len(one))] for one in by_problem]),
    )
    whole = row(frame, what="mean_reverse_kl", checkpoint=BASE, view=FROZEN)
    low, high = token_means.interval(means)
    np.testing.assert_allclose([whole["low"], whole["high"]], [low[0], high[0]], rtol=1e-4)
    assert (whole["problems"], whole["rollouts"]) == (len(TEXTS), 2 * len(TEXTS))
    empty = row(frame, what="reverse_kl", checkpoint=BASE, view=FRESH, position_low=30)
    assert np.isnan(empty["value"]) and empty["note"] == NO_TOKENS


def test_a_teacher_by_name_is_the_one_that_other_runs_of_the_pair_have(tmp_path: Path) -> None:
    pair = loading.load("abacus-student"), loading.load("abacus-teacher")
    before = torch.get_rng_state()
    watched = Probe(
        "abacus-teacher", pair[0].tokenizer, "abacus", tmp_path / "run", limit=2, max_tokens=6
    )
    watched.measure(pair[0].weights, 0)
    assert torch.equal(torch.get_rng_state(), before)  # a teacher that is loaded draws none
    found = found_runs.read(tmp_path / "run")
    assert found.command == "position-kl"
    hashed = pair[1].identity.content_hash
    assert found.pair == found_runs.Pair("abacus-student", "abacus-teacher", "", hashed)
    bins = select(found.measurements, what="reverse_kl", view=FRESH)["position_low"].tolist()
    assert bins == list(EMBEDDED_LENGTHS.bins)


def test_measuring_again_replaces_a_step_and_drops_the_later_ones(tmp_path: Path) -> None:
    out, model = tmp_path / "run", student()
    watched = probe(out)
    states = {}
    for step in (0, 2, 4, 6):
        states[step] = {name: weight.clone() for name, weight in model.state_dict().items()}
        watched.measure(model, step)
        trained(model)
    whole = pd.read_csv(out / "measurements.csv")
    # Another process resumes from step 4's weights, after a kill in the middle of a row.
    with (out / "steps.csv").open("a") as file:
        file.write("8,10,3")
    again, resumed = probe(out), student()
    resumed.load_state_dict(states[4])
    again.measure(resumed, 4)
    assert again.steps == (0, 2, 4) and not (out / "steps/step-000006.parquet").exists()
    trained(resumed)
    again.measure(resumed, 6)
    pd.testing.assert_frame_equal(pd.read_csv(out / "measurements.csv"), whole, rtol=1e-6)
    with pytest.raises(UserError, match="already holds the probe of a training run, up to step 6"):
        again.measure(resumed, 0)


def test_without_fresh_rollouts_a_measurement_is_one_scoring_of_those_of_base(
    tmp_path: Path,
) -> None:
    out, model = tmp_path / "run", student()
    watched = probe(out, fresh=False)
    watched.measure(model, 0)
    trained(model)
    reading = watched.measure(model, 1)
    assert set(reading.measurements["view"]) == {FROZEN}
    assert not [name for name in reading.logs if "fresh" in name or "tokens" in name]
    assert np.isnan(reading.behaviour.response_tokens) and not reading.alarms


def test_an_alarm_is_returned_logged_and_stored(tmp_path: Path, caplog: Any) -> None:
    out, model = tmp_path / "run", student()
    watched = probe(out, thresholds=Thresholds(length=0.5))
    assert watched.measure(model, 0).alarms == ()
    reading = watched.measure(model, 1)
    assert len(reading.alarms) == 1 and "responses have grown to" in reading.alarms[0]
    assert reading.logs["decay/alarms"] == 1 and reading.alarms[0] in caplog.text
    assert f"alarm at step 1: {reading.alarms[0]}" in dl.open_run(out).notes


class DrawsInItsForward(torch.nn.Module):
    """A module of somebody's own that draws numbers whether it is trained or not."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + 0 * torch.rand_like(hidden)


def test_modes_random_numbers_gradients_and_autocast_are_put_back(tmp_path: Path) -> None:
    model = student().train()
    model.model.norm = torch.nn.Sequential(model.model.norm, DrawsInItsForward().eval())
    model.lm_head.weight.grad = torch.ones_like(model.lm_head.weight)
    modes = [module.training for module in model.modules()]
    cast, plain = (probe(tmp_path / name) for name in ("cast", "plain"))
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    with torch.autocast("cpu", torch.bfloat16):
        reading = cast.measure(model, 0)
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()
    assert [module.training for module in model.modules()] == modes and len(set(modes)) == 2
    grads = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert grads == {"lm_head.weight"} and bool((model.lm_head.weight.grad == 1).all())
    assert reading.logs == plain.measure(model, 0).logs


def test_rollouts_are_cut_before_a_token_that_the_teacher_cannot_read(tmp_path: Path) -> None:
    model = student()
    probe(tmp_path / "all").measure(model, 0)
    whole = {one.rollout_id: one.response for one in rollouts(tmp_path / "all", 0, FRESH)}
    token = next(iter(whole.values()))[3]
    few, known = byte_tokenizer(), teacher()
    left = {text: index for text, index in few.get_vocab().items() if index != token}
    few.get_vocab = lambda: left
    blind = Policy("blind", known.model, few, PolicyIdentity("blind", "folder", "", ""))
    reading = probe(tmp_path / "cut", blind).measure(model, 0)
    found = {one.rollout_id: one.response for one in rollouts(tmp_path / "cut", 0, FRESH)}
    expected_cut = {}
    for name, response in whole.items():
        end = response.index(token) if token in response else len(response)
        if end:
            expected_cut[name] = response[:end]
    assert found == expected_cut and found != whole
    assert reading.behaviour.response_tokens > 4  # of whole rollouts
    assert "a token that the teacher lacks" in " ".join(dl.open_run(tmp_path / "cut").notes)


def test_what_cannot_be_measured_is_refused_in_one_line(tmp_path: Path) -> None:
    model, tokenizer, out = student(), byte_tokenizer(), tmp_path / "run"
    known = teacher()
    other = Policy("other", known.model, byte_tokenizer(shift=1), known.identity)
    with pytest.raises(UserError, match="the vocabularies differ: id"):
        probe(out, other).measure(model, 0)
    with pytest.raises(UserError, match=r"the teacher has 64 ids, .* tokenizer has 261.*by name"):
        Probe(student(vocab_size=64), tokenizer, PROBLEMS, out).measure(model, 0)
    with pytest.raises(UserError, match="no model 'nowhere'"):
        Probe("nowhere", tokenizer, PROBLEMS, out)
    with pytest.raises(UserError, match="--limit must be at least 1, got 0"):
        probe(out, limit=0)
    with pytest.raises(UserError, match="no option lengths of a probe; there are"):
        probe(out, lengths=3)
    with pytest.raises(UserError, match="--bins must begin with 0"):
        probe(out, bins=(1, 5))
    with pytest.raises(UserError, match="unknown problem set 'nothing'"):
        Probe(known, tokenizer, "nothing", out)
    none = type(PROBLEMS)("none", "1", "", "", "last_boxed", ())
    with pytest.raises(UserError, match="none has no problems, so a probe of it would have no tok"):
        Probe(known, tokenizer, none, out)
    with pytest.raises(UserError, match="do not fit into the context of the student .256.; give a"):
        probe(out, max_tokens=250).measure(model, 0)
    with pytest.raises(UserError, match="got NoneType: give the student's, as AutoTokenizer loads"):
        Probe(known, None, PROBLEMS, out)
    with pytest.raises(UserError, match="dtype has no effect: loaded models are used as they are"):
        probe(out, dtype="bfloat16")
    with pytest.raises(UserError, match="step must be at least 0, got -1"):
        probe(out).measure(model, -1)
    assert not out.exists() or not any(out.iterdir())


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    model, out = student(), tmp_path / "run"
    with pytest.raises(UserError, match="holds no measurement from before training, so step 7 has"):
        probe(out).measure(model, 7)
    probe(out).measure(model, 0)
    with pytest.raises(UserError, match=r"a probe with other settings \(--max-tokens 9 there, 8 "):
        probe(out, max_tokens=8).measure(model, 1)
    with pytest.raises(UserError, match="other settings .--teacher teacher there, another "):
        identity = PolicyIdentity("another", "folder", "", "")
        named = Policy("another", student(1), byte_tokenizer(), identity)
        probe(out, named).measure(model, 1)
    with pytest.raises(UserError, match="other settings .other probe"):
        probe(out, fresh=False).measure(model, 1)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("mine")
    with pytest.raises(UserError, match="notes is not empty and holds no probe; give another out"):
        probe(tmp_path / "notes").measure(model, 0)
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["mine.txt"]
    run = tmp_path / "decay"
    run.mkdir()
    (run / "run.json").write_text('{"identity": {"diagnostic": "signals"}}')
    with pytest.raises(UserError, match="decay contains a signals run, not a probe"):
        probe(run).measure(model, 0)


def test_bins_are_those_of_the_command_by_default(tmp_path: Path) -> None:
    reading = probe(tmp_path / "run", bins=None).measure(student(), 0)
    assert BINS != (0, 5) and "decay/fresh/reverse_kl_0-4" in reading.logs


def test_models_and_problems_in_memory_are_taken_as_they_are(tmp_path: Path) -> None:
    """A teacher with its tokenizer and problems as rows give what a policy and a set give."""
    model, of = student(), teacher()
    usual = probe(tmp_path / "usual", of).measure(model, 0)
    rows = [
        {"question": problem.question, "id": problem.problem_id, "answer": "1"}
        for problem in PROBLEMS.problems
    ]
    settings: dict[str, Any] = {**SMALL, "instruction": PROBLEMS.instruction}
    for name, problems in (("list", rows), ("frame", pd.DataFrame(rows))):
        given = (of.weights, byte_tokenizer())
        watched = Probe(given, byte_tokenizer(), problems, tmp_path / name, **settings)
        assert watched.measure(model, 0).logs == usual.logs
    record = json.loads((tmp_path / "list" / "run.json").read_text())["identity"]
    assert len(record["teacher"]["content_hash"]) == 64


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"problems": 3}, "problems must be a name, a list of dicts or a DataFrame, got int"),
        ({"problems": [3]}, "problems, row 1: must be a dict"),
        ({"teacher": (1, 2)}, "tokenizer"),
        ({"step": "0"}, "step must be a whole number, got '0'"),
    ],
)
def test_objects_that_are_neither_are_one_line(
    given: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=told) as error:
        watched = Probe(
            given.get("teacher", teacher()),
            byte_tokenizer(),
            given.get("problems", PROBLEMS),
            tmp_path / "run",
            **SMALL,
        )
        watched.measure(given.get("model", student()), given.get("step", 0))
    assert "\n" not in str(error.value)


def test_a_run_of_a_probe_says_where_its_tokens_are(tmp_path: Path) -> None:
    probe(tmp_path / "run").measure(student(), 0)
    run = dl.open_run(tmp_path / "run")
    for frame in ("tokens", "rollouts"):
        with pytest.raises(UserError, match="is the run of a probe: its scored tokens are in"):
            getattr(run, frame)
    text = dl.report(run.folder, out=tmp_path / "CARD.md", card=True).read_text()
    assert "# dl.Probe, in a training loop" in text and "decaylab position-kl" not in text

"""The card of finished runs: its numbers by a second route, what the hub reads in it, and what
stays on the machine."""

from __future__ import annotations

import csv
import html
import json
import math
import re
import shutil
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest
from command_line import decaylab
from huggingface_hub import ModelCard
from measured import MEASURED
from PIL import Image

from decaylab.claims import one_run
from decaylab.pages import card
from decaylab.runs import found_runs

Row = dict[str, str]


def card_of(out: Path, *runs: Path, figure: bool = False) -> str:
    """figure: whether it is drawn, which takes longer than all the rest."""
    draw = card.drawn if figure else lambda *given, **named: None
    with mock.patch.object(card, "drawn", draw):
        printed = decaylab("report", *runs, "--card", "--out", out)
    assert printed.code == 0, printed.err
    return out.read_text()


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The cards of committed runs, by run; of several together under "all"."""
    folder = tmp_path_factory.mktemp("cards")
    names = ("prefix-decay", "trained-position-kl", "trained-evaluate", "rollout-length")
    made = {name: card_of(folder / f"{name}.md", MEASURED / name) for name in names[:3]}
    made["all"] = card_of(folder / "all.md", *(MEASURED / name for name in names))
    return made


# Every number by a second route


def section(text: str, heading: str) -> str:
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0].strip()


def numbers(text: str) -> list[tuple[str, ...]]:
    """The cells of the table of numbers, without its head."""
    lines = [line for line in section(text, "Numbers").splitlines() if line.startswith("| ")][2:]
    return [tuple(line.removeprefix("| ").removesuffix(" |").split(" | ")) for line in lines]


def measured(name: str) -> list[Row]:
    with (MEASURED / name / "measurements.csv").open() as file:
        return list(csv.DictReader(file))


def tenths(text: str, *, signed: bool = False) -> str:
    number = (Decimal(f"{float(text):.14g}") * 100).quantize(Decimal("0.1"), ROUND_HALF_UP)
    return f"{number:+}" if signed and number else f"{number + 0}"


def three_digits(text: str) -> str:
    number = Decimal(text)
    last = Decimal(1).scaleb(number.adjusted() - 2)
    return str(number.quantize(last, ROUND_HALF_UP))


def bracketed(row: Row, shown: Any, **more: Any) -> str:
    value, low, high = (shown(row[name], **more) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def share(row: Row) -> tuple[str, str, str]:
    return bracketed(row, tenths), "%", row["problems"]


def gap(row: Row) -> tuple[str, str, str]:
    return bracketed(row, tenths, signed=True), "points", row["problems"]


def nats(row: Row, unit: str = "nats per token") -> tuple[str, str, str]:
    return bracketed(row, three_digits), unit, row["problems"]


def of_decay() -> Iterator[tuple[str, ...]]:
    rows = measured("prefix-decay")
    for row in rows:
        at = (row["what"], row["condition"], row["view"])
        if at == ("half_decay_length", "student-prefix", "open"):
            ends = [f"{float(row[name]):.0f}" for name in ("value", "low", "high")]
            yield (
                "half-decay length of the teacher's advantage",
                "{} [{}, {}]".format(*ends),
                "tokens",
                row["problems"],
            )
        if row["what"] == "accuracy" and row["condition"] in ("teacher", "student"):
            yield f"accuracy of the {row['condition']} alone", *share(row)
        if row["what"] == "teacher_advantage":
            yield "advantage of the teacher over the student", *gap(row)
        if row["what"] == "accuracy_difference" and row["view"] == "open":
            kinds = {
                "student-prefix": "student tokens",
                "own-prefix": "tokens of its own (control)",
            }
            if row["condition"] in kinds:
                length = f"{float(row['prefix_tokens']):g}"
                name = f"change of the teacher's accuracy after {length}"
                yield f"{name} {kinds[row['condition']]}", *gap(row)


def of_kl() -> Iterator[tuple[str, ...]]:
    for row in measured("trained-position-kl"):
        if row["view"] != "fresh" or row["condition"] != "all":
            continue
        if row["what"] == "mean_reverse_kl":
            names = {"base": "student before training"}
            yield f"mean reverse KL, {names.get(row['checkpoint'], row['checkpoint'])}", *nats(row)
        if row["what"] == "cascade_ratio":
            start = f"{float(row['position_low']):g}"
            name = f"reverse KL from position {start} on, after / before training"
            yield f"{name}, {row['checkpoint']}", *nats(row, "")


def of_evaluation() -> Iterator[tuple[str, ...]]:
    names = {"base": "student before training", "teacher": "teacher"}
    last = ("prefix-20-seed-0/step-000100", "full-seed-0/step-000100")
    for row in measured("trained-evaluate"):
        if row["view"] != "fresh" or row["condition"] != "last_boxed":
            continue
        label = row["checkpoint"]
        if row["what"] == "avg_at_1" and label in (*names, *last):
            yield f"avg@1, {names.get(label, label)}", *share(row)
        for other, words in names.items():
            if row["what"] == f"avg_at_1_minus_{other}" and label in last:
                yield f"avg@1, {label} against {words}", *gap(row)


def of_sweep() -> Iterator[tuple[str, ...]]:
    names = {"full": "full rollouts"}
    over = {
        "mean over rollouts, over these seeds": "",
        "mean over training seeds": ", interval over seeds",
    }
    for row in measured("rollout-length"):
        if (row["view"], row["condition"]) != ("last", "last_boxed"):
            continue
        label = names.get(row["checkpoint"], row["checkpoint"])
        if row["what"] == "avg_at_1" and over.get(row["estimand"]) == "":
            yield f"avg@1, {label}", *share(row)
        if row["what"] == "avg_at_1_minus_full" and row["estimand"] in over:
            yield f"avg@1, {label} against full rollouts{over[row['estimand']]}", *gap(row)


def check(found: list[tuple[str, ...]], expected: list[tuple[str, ...]]) -> None:
    """Whether these are the rows, in any order."""
    assert sorted(row[:4] for row in found) == sorted(expected) != []


def test_every_number_of_a_card_is_that_of_the_measurements(cards: dict[str, str]) -> None:
    check(numbers(cards["prefix-decay"]), [*of_decay()])
    check(numbers(cards["trained-position-kl"]), [*of_kl()])
    check(numbers(cards["trained-evaluate"]), [*of_evaluation()])
    by_run: dict[str, list[tuple[str, ...]]] = {}
    for row in numbers(cards["all"]):
        by_run.setdefault(row[4], []).append(row)
    expected = {
        "prefix-decay": of_decay(),
        "trained-position-kl": of_kl(),
        "trained-evaluate": of_evaluation(),
        "rollout-length": of_sweep(),
    }
    assert list(by_run) == list(expected)
    for name, rows in expected.items():
        check(by_run[name], [*rows])
    wrong = [(name, value.replace("8", "9"), *rest) for name, value, *rest in of_decay()]
    with pytest.raises(AssertionError):
        check(numbers(cards["prefix-decay"]), wrong)


def test_the_sentences_of_a_card_are_the_verdicts_of_the_runs(cards: dict[str, str]) -> None:
    plain = html.unescape(section(cards["all"], "What was found").replace("\\", ""))
    assert plain.startswith("**Train with full rollouts.")
    for run in found_runs.find([MEASURED / name for name in ("prefix-decay", "trained-evaluate")]):
        for sentence in one_run.verdict(run):
            assert f"- {sentence}" in plain, sentence
    assert "No setting is recommended" not in cards["prefix-decay"], "nothing was trained there"


# The hub


def test_the_hub_reads_a_card(cards: dict[str, str], tmp_path: Path) -> None:
    for name, text in cards.items():
        (tmp_path / "CARD.md").write_text(text)
        front = ModelCard.load(tmp_path / "CARD.md").data.to_dict()
        assert front["tags"] == ["on-policy-distillation", "decaylab", "teacher-decay"]
        assert ("base_model" in front) == (name != "prefix-decay"), name
        assert "model-index" not in front, "of an untrained pair, or of two students"


def test_one_evaluated_student_has_results_that_the_hub_can_show(tmp_path: Path) -> None:
    run = tmp_path / "evaluate"
    shutil.copytree(MEASURED / "trained-evaluate", run)
    frame = pd.read_csv(run / "measurements.csv", dtype=str, keep_default_na=False)
    kept = frame[~frame["checkpoint"].str.startswith("full")]
    kept.to_csv(run / "measurements.csv", index=False)
    hub = ModelCard(card_of(tmp_path / "CARD.md", run))
    (result,) = hub.data.eval_results
    (row,) = kept[
        (kept["what"] == "avg_at_1")
        & (kept["checkpoint"] == "prefix-20-seed-0/step-000100")
        & (kept["condition"] == "last_boxed")
        & (kept["view"] == "fresh")
    ].to_dict("records")
    shown = [result.metric_value, result.metric_args["low"], result.metric_args["high"]]
    assert [f"{number:.1f}" for number in shown] == [
        tenths(row[name]) for name in ("value", "low", "high")
    ]
    assert (result.metric_type, result.dataset_name) == ("accuracy", "abacus")
    assert hub.data.model_name == "prefix-20-seed-0-step-000100"
    kept.assign(problems="12").to_csv(run / "measurements.csv", index=False)
    few = ModelCard(card_of(tmp_path / "CARD.md", run))
    assert few.data.eval_results is None, "12 problems are too few for a verdict"


def test_the_figure_stands_beside_the_card_with_a_relative_link(tmp_path: Path) -> None:
    text = card_of(tmp_path / "deep" / "MY CARD.md", MEASURED / "submode", figure=True)
    alt, link = re.findall(r"!\[(.+)\]\((.+)\)", text)[0]
    assert link == "MY%20CARD-submode.png" and len(alt) > 30
    with Image.open(tmp_path / "deep" / "MY CARD-submode.png") as picture:
        assert 900 < picture.width < 1200
    again = card_of(tmp_path / "again" / "MY CARD.md", MEASURED / "submode", figure=True)
    assert again == text, "the same runs give the same card"


# What stays on the machine


def test_no_path_of_the_machine_no_user_and_no_password_is_in_a_card(tmp_path: Path) -> None:
    run = tmp_path / "home" / "alice" / "runs" / "decay"
    shutil.copytree(MEASURED / "prefix-decay", run)
    record = json.loads((run / "run.json").read_text())
    record["command"] = (
        "decaylab prefix-decay --student '/srv/alice/my models/small' --teacher ../large "
        "--problems=~alice/set.jsonl --base-url https://alice:secret@host:8000/v1 --out runs/decay"
    )
    record["identity"]["student"] |= {"name": "/srv/alice/my models/small", "source": "folder"}
    record["identity"]["problems"]["name"] = "/srv/alice/set.jsonl"
    record["notes"] = ["kept in /srv/alice/runs/decay/parts.", "from file:///srv/alice/x, too"]
    record["made"] = {
        "date": "2026-11-30T02:10:05Z",
        "seconds": 812.4,
        "hardware": "AMD EPYC, 2 cores, 31.3 GiB",
        "commit": None,
    }
    (run / "run.json").write_text(json.dumps(record))
    text = card_of(tmp_path / "CARD.md", run)
    for private in ("alice", "secret", "/srv", str(tmp_path), str(Path.home())):
        assert private not in text, private
    assert "# Teacher decay: small under abacus-teacher" in text
    assert (
        "decaylab prefix-decay --student small --teacher ../large --problems=set.jsonl "
        "--base-url https://host:8000/v1 --out runs/decay" in text
    )
    assert "kept in parts." in text and "from x, too" in text
    assert "2026-11-30, 14 min on AMD EPYC, 2 cores, 31.3 GiB" in text
    assert "300 of set.jsonl" in text and record["identity"]["teacher"]["content_hash"] in text


# Training runs


def training(folder: Path, **more: Any) -> Path:
    """A finished training run as its folder has it, without checkpoints."""
    pair = json.loads((MEASURED / "prefix-decay" / "run.json").read_text())["identity"]
    options = {"selector": "prefix", "rollout_length": "20", "full_finetune": False, "seed": 1}
    record = {
        "command": "dl.train",
        "finished": True,
        "notes": ["2 of 9 training problems are also in abacus, dropped"],
        "identity": {
            **{role: pair[role] for role in ("student", "teacher")},
            "problems": {"name": "abacus-train", "version": "abacus-1", "trained_on": 900},
            "training": options,
        },
        **more,
    }
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record))
    pd.DataFrame({"step": [1, 2], "loss": [0.3, 0.2]}).to_csv(folder / "metrics.csv", index=False)
    held_out = {
        "step": [0, 2],
        "problems": [100, 100],
        "accuracy": [0.44, 0.52],
        "accuracy_low": [0.3455, 0.4216],
        "accuracy_high": [0.5392, 0.6166],
        "reverse_kl": [0.2, 0.1],
        "reverse_kl_low": [0.18, 0.09],
        "reverse_kl_high": [0.22, math.nan],
        "response_tokens": [70.0, 71.0],
        "natural_stop_share": [1.0, 0.99],
    }
    pd.DataFrame(held_out).to_csv(folder / "validation.csv", index=False)
    return folder


def test_a_training_run_has_a_card_alone_and_beside_measured_runs(tmp_path: Path) -> None:
    run = training(tmp_path / "esr")
    alone = card_of(tmp_path / "CARD.md", run, figure=True)
    accuracy = ("held-out accuracy, step 2", "52.0 [42.2, 61.7]", "%", "100", "esr")
    assert accuracy in numbers(alone) and len(numbers(alone)) == 4
    assert "decaylab train --selector" not in alone and "--rollout-length 20 --seed 1" in alone
    assert "accuracy goes from 44.0 % to 52.0 %" in alone and "2 of 9 training problems" in alone
    front = ModelCard(alone).data
    assert (front.base_model, front.library_name) == ("abacus-student", "peft")
    assert (tmp_path / "CARD-training.png").exists()
    both = card_of(tmp_path / "both.md", run, MEASURED / "prefix-decay")
    assert {row[4] for row in numbers(both)} == {"esr", "prefix-decay"}


# What is refused


def test_what_cannot_be_a_card_is_one_line(tmp_path: Path) -> None:
    def refused(*words: object) -> str:
        return decaylab("report", *words, "--card").complaint

    assert "no such run folder" in refused(tmp_path / "nothing")
    assert "no measurements there or below" in refused(tmp_path)
    unfinished = training(tmp_path / "unfinished", finished=False)
    assert "the training is not finished" in refused(unfinished)
    assert "is a folder; give the card a name in it, such as" in refused(
        MEASURED / "prefix-decay", "--out", tmp_path
    )
    mine = tmp_path / "README.md"
    mine.write_text("# Mine\n")
    told = refused(MEASURED / "prefix-decay", "--out", mine)
    assert told.endswith("was not written by decaylab report --card; choose another --out")
    assert mine.read_text() == "# Mine\n"
    other = training(tmp_path / "other")
    record = json.loads((other / "run.json").read_text())
    record["identity"]["student"] |= {"name": "another", "content_hash": "another"}
    (other / "run.json").write_text(json.dumps(record))
    assert "runs of different pairs" in refused(MEASURED / "prefix-decay", other)

"""A run whose drawing fails is a finished run with one warning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import SMALL, decaylab

from decaylab.commands.drawing import drawn
from decaylab.figures import prefix_decay as figure


def test_what_was_drawn_adds_nothing() -> None:
    assert drawn(lambda: None, Path("run")) == ()


def test_a_measurement_stands_where_its_figure_cannot_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*more: object, **others: object) -> None:
        raise RuntimeError("no such font\nfor the axes")

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(figure, "draw", broken)
        outcome = decaylab("prefix-decay", *SMALL, "--controls", "none", "--quiet", "--out", out)
    assert outcome.code == 0, outcome.err
    told = [
        note for note in json.loads((out / "run.json").read_text())["notes"] if "not drawn" in note
    ]
    assert told == [
        "the figures were not drawn (RuntimeError: no such font); the measurements are whole, and "
        f"`decaylab figures {out} --all` draws them"
    ]
    assert " ".join(told[0].split()) in " ".join(outcome.out.split())
    assert (out / "measurements.parquet").exists() and not (out / "prefix-decay.png").exists()
    again = decaylab("prefix-decay", *SMALL, "--controls", "none", "--quiet", "--out", out)
    assert again.code == 0 and (out / "prefix-decay.png").exists() and "not drawn" not in again.out

"""Drawing is a step behind the measurement: nothing that measures loads matplotlib, and a run whose
drawing fails is a finished run with one warning."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import DATA, ENVIRONMENT, SMALL, decaylab

from decaylab.commands import drawing
from decaylab.figures import prefix_decay as figure
from decaylab.runs import store

STUB = (sys.executable, str(Path(__file__).parents[1] / "helpers" / "stub_decaylab.py"))
SWEEP = str(Path(__file__).parents[2] / "docs" / "measurements" / "selector")
# Runs commands one after another; drawing says what was loaded before it, and fails.
MEASURES = f"""
import json, sys
from decaylab.commands import children, drawing
from decaylab.cli import main as cli
children.PROGRAM = {STUB!r}
loaded = {{}}

def draw(folder, command, *, published):
    loaded[command] = sorted({{"matplotlib", "seaborn"}} & set(sys.modules))
    raise RuntimeError("nothing is drawn here")

drawing.draw = draw
for words in json.loads(sys.argv[1]):
    try:
        cli.main(words)
    except SystemExit as end:
        assert not end.code, (words, end.code)
loaded["at the end"] = sorted({{"matplotlib", "seaborn"}} & set(sys.modules))
print(json.dumps(loaded))
"""


def test_no_command_loads_matplotlib_in_order_to_measure(tmp_path: Path) -> None:
    small = ["--limit", "2", "--samples", "1", "--max-tokens", "12", "--quiet"]
    cached = [*small, "--floor-problems", "0", "--cache", str(tmp_path / "cache")]
    decay = ["prefix-decay", *small, "--prefix-lengths", "0,4", "--controls", "none"]
    own_teacher = ["--teacher", "abacus-student", "--student", "abacus-student"]
    commands = [
        [*decay],
        *([name, *cached] for name in ("position-kl", "category-kl", "submode", "signals")),
        *([name, *small, *cached[-2:]] for name in ("behaviour", "evaluate")),
        ["values", *small, *cached[-2:], "--grid", "0,4", "--draws", "2"],
        [*decay, *own_teacher, "--problems", "abacus"],
        ["token-truth", *small, *cached[-2:], "--max-tokens", "40"],
        ["interventions", *small, *cached[-2:], "--max-tokens", "90", "--chain-steps", "1"],
        ["arm-gains", SWEEP, *small, *cached[-2:], "--max-tokens", "60", "--tokens-per-arm", "2"],
        ["compare", str(tmp_path / "0"), str(tmp_path / "8"), "--quiet"],
        ["sweep", "rollout-length", "--values", "5", "--seeds", "1"],
        ["sweep", "selector", "--values", "prefix", "--budget", "5", "--seeds", "1"],
    ]
    for number, words in enumerate(commands):
        words += ["--out", str(tmp_path / str(number))]
    for words in commands[-2:]:
        words += ["--runs", str(tmp_path / "runs"), "--test-limit", "40", "--steps", "4", "--quiet"]
    ended = subprocess.run(
        [sys.executable, "-c", MEASURES, json.dumps(commands)],
        env=ENVIRONMENT,
        cwd=DATA.parent.parent,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    loaded = json.loads(ended.stdout.splitlines()[-1])
    assert set(loaded) == {*drawing.FIGURES, "at the end"}
    assert not any(loaded.values()), loaded
    for number in range(len(commands)):
        notes = store.RunFolder(tmp_path / str(number)).record["notes"]
        assert "nothing is drawn here" in notes[-1], (commands[number], notes)


def test_what_was_drawn_adds_no_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "draw", lambda *more, **others: None)
    folder = store.RunFolder(tmp_path)
    folder.update({"notes": ["one"]})
    assert drawing.drawn(folder, "signals", published=False) == {"notes": ["one"]}


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
    notes = json.loads((out / "run.json").read_text())["notes"]
    warnings = [note for note in notes if "not drawn" in note]
    assert warnings == [
        "the figures were not drawn (RuntimeError: no such font); the measurements are whole, and "
        f"`decaylab figures {out} --all` draws them"
    ]
    assert " ".join(warnings[0].split()) in " ".join(outcome.out.split())
    assert (out / "measurements.parquet").exists() and not (out / "prefix-decay.png").exists()
    again = decaylab("prefix-decay", *SMALL, "--controls", "none", "--quiet", "--out", out)
    assert again.code == 0 and (out / "prefix-decay.png").exists() and "not drawn" not in again.out

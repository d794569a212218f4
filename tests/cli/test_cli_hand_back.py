"""`prefix-decay --hand-back` on the embedded pair: what is printed, drawn and noted."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from command_line import SMALL, Outcome, decaylab

from decaylab.printing import percent, rounded

ASKED = ("prefix-decay", *SMALL, "--controls", "none", "--hand-back", "1,3")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("hand-back") / "run"
    return out, decaylab(*ASKED, "--out", out)


def of(folder: Path, **at: object) -> pd.DataFrame:
    rows = pd.read_csv(folder / "measurements.csv", keep_default_na=False, na_values=[""])
    for column, value in at.items():
        rows = rows[rows[column] == value]
    return rows


def test_the_printed_gains_are_the_measured_ones(finished: tuple[Path, Outcome]) -> None:
    folder, outcome = finished
    assert outcome.code == 0
    lines = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in outcome.out.splitlines()
        if line.startswith("│")
    ]
    for row in of(folder, what="corrective_gain", condition="hand-back").itertuples():
        count = row.category.rpartition(" ")[2]
        (cells,) = [cells for cells in lines if cells[:2] == [f"{row.prefix_tokens:g}", count]]
        assert int(cells[2]) == row.rollouts > 0
        assert cells[5].startswith(rounded(percent(row.value), 1, signed=True))
    assert "Hand-back controls: each interval should contain 0" in outcome.out


def test_the_figure_stands_beside_the_other_and_a_run_without_has_none(
    finished: tuple[Path, Outcome], tmp_path: Path
) -> None:
    folder, outcome = finished
    assert (folder / "hand-back.png").exists() and "hand-back.png" in outcome.out
    assert "teacher tokens after the first k" in (folder / "hand-back.txt").read_text()
    without = decaylab("prefix-decay", *SMALL, "--controls", "none", "--out", tmp_path / "run")
    assert not (tmp_path / "run" / "hand-back.png").exists()
    assert "ack" not in without.out.partition("Unfinished")[2].partition("figure")[0]


def test_at_temperature_0_both_controls_are_identities_and_are_said_to_be(tmp_path: Path) -> None:
    outcome = decaylab(*ASKED, "--temperature", 0, "--out", tmp_path / "run")
    assert "at temperature 0 they are identities" in outcome.out
    controls = of(tmp_path / "run", condition="hand-back-control")
    afresh = controls[controls.category == "teacher tokens: 0"]
    again = controls[controls.what == "corrective_gain_minus_continuation"]
    assert len(afresh) == len(again) == 2
    assert (afresh.value == 0).all() and (again.value == 0).all()


def test_rollouts_of_a_file_need_the_student_and_a_note_says_what_they_are(
    finished: tuple[Path, Outcome], tmp_path: Path
) -> None:
    table = pd.read_parquet(finished[0] / "rollouts.parquet")
    student = table[table.condition == "student"]
    lines = [
        json.dumps({"problem_id": row.problem_id, "response": row.text})
        for row in student.itertuples()
    ]
    theirs = tmp_path / "theirs.jsonl"
    theirs.write_text("\n".join(lines) + "\n")
    outcome = decaylab(
        *ASKED, "--rollouts", theirs, "--problems", "abacus", "--out", tmp_path / "run"
    )
    said = " ".join(outcome.out.split())
    assert outcome.code == 0
    assert "the gain subtracts the outcomes in" in said and "same settings" in said
    assert len(of(tmp_path / "run", what="corrective_gain", condition="hand-back")) == 4


def test_an_older_run_folder_without_the_column_is_still_read(
    finished: tuple[Path, Outcome], tmp_path: Path
) -> None:
    """Of a version that knew no hand-back: no column, and no option in its record."""
    import pyarrow.parquet as pq

    folder = tmp_path / "run"
    words = ("prefix-decay", *SMALL, "--controls", "none", "--out", folder)
    before = decaylab(*words)
    path = folder / "rollouts.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["teacher_tokens"]), path)
    record = json.loads((folder / "run.json").read_text())
    del record["identity"]["options"]["hand_back"]
    (folder / "run.json").write_text(json.dumps(record))
    again = decaylab(*words)
    assert again.code == 0 and "finished: nothing is sampled again" in again.err
    assert again.out == before.out

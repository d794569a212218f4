"""Which runs are found at a path, and what is said where they cannot stand together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from decaylab.errors import UserError
from decaylab.runs import measurements
from decaylab.runs.found_runs import Pair, find, of_pair, of_same_pair
from decaylab.runs.measurements import Measurement, to_frame

ROWS = to_frame(
    [
        Measurement("accuracy", "teacher", 1 / 3, "fraction", note='a "note", with a comma'),
        Measurement(
            "reverse_kl",
            "all",
            0.1 + 0.2,
            "nats",
            rollout_length=float("inf"),
            problems=3,
            token="NA",
        ),
        Measurement("js", "", float("nan"), "nats", under_floor=True, token="\n"),
    ]
)


def run(
    folder: Path,
    command: str = "position-kl",
    *,
    student: str = "s",
    rows: pd.DataFrame = ROWS,
    **more: Any,
) -> Path:
    """A finished run of a command."""
    folder.mkdir(parents=True)
    pair = {
        role: {"name": name, "content_hash": f"hash of {name}"} for role, name in pairs(student)
    }
    own: dict[str, Any] = {"diagnostic": command} if command != "prefix-decay" else {}
    record = {"identity": {**own, **pair, "options": {}}, **more}
    if command.startswith("sweep "):
        record = {
            "identity": {"options": {"over": command.split()[1]}, **more.pop("identity", {})},
            "pair": pair,
            **more,
        }
    (folder / "run.json").write_text(json.dumps(record))
    measurements.write(rows, folder / "measurements.parquet")
    return folder


def pairs(student: str) -> list[tuple[str, str]]:
    return [("student", student), ("teacher", "t")]


def test_a_run_is_found_with_its_command_pair_and_measurements(tmp_path: Path) -> None:
    (found,) = find([run(tmp_path / "mine")])
    assert (found.command, found.name, found.folder) == ("position-kl", "mine", tmp_path / "mine")
    assert found.pair == Pair("s", "t", "hash of s", "hash of t")
    pd.testing.assert_frame_equal(found.measurements, ROWS)
    assert found.holds(["accuracy", "js"]) and not found.holds(["accuracy", "mean_js"])


def test_a_run_without_a_diagnostic_is_one_of_prefix_decay_and_a_sweep_says_over_what(
    tmp_path: Path,
) -> None:
    run(tmp_path / "a", "prefix-decay")
    run(tmp_path / "b", "sweep selector")
    assert [one.command for one in find([tmp_path])] == ["prefix-decay", "sweep selector"]


def test_the_csv_beside_a_table_holds_the_same_values_to_the_last_bit(tmp_path: Path) -> None:
    folder = run(tmp_path / "mine")
    whole = find([folder])[0].measurements
    (folder / "measurements.parquet").unlink()
    pd.testing.assert_frame_equal(find([folder])[0].measurements, whole, check_exact=True)


def test_runs_are_looked_for_below_and_neither_in_caches_nor_twice(tmp_path: Path) -> None:
    run(tmp_path / "esr")
    run(tmp_path / "esr" / "submode", "submode")
    run(tmp_path / "cache" / "tokens")
    run(tmp_path / "esr" / ".hidden" / "run")
    (tmp_path / "figures").mkdir()  # as runs/* gives it
    names = [one.name for one in find([tmp_path, tmp_path / "esr", tmp_path / "figures"])]
    assert names == ["esr", "submode"]


def test_names_reach_as_far_up_as_tells_them_apart(tmp_path: Path) -> None:
    run(tmp_path / "esr" / "evaluate", "evaluate")
    run(tmp_path / "full" / "evaluate", "evaluate")
    assert [one.name for one in find([tmp_path])] == ["esr/evaluate", "full/evaluate"]


def test_the_evaluation_of_a_run_that_a_sweep_compares_is_left_out(tmp_path: Path) -> None:
    run(tmp_path / "runs" / "full-seed-0" / "evaluate", "evaluate")
    run(tmp_path / "runs" / "another" / "evaluate", "evaluate")
    arms = {"runs": {"full-seed-0": {}}}
    run(tmp_path / "compared", "sweep rollout-length", identity=arms, runs=str(tmp_path / "runs"))
    assert [one.name for one in find([tmp_path])] == ["compared", "evaluate"]
    assert [one.folder.parent.name for one in find([tmp_path])] == [tmp_path.name, "another"]


def test_runs_of_different_pairs_are_refused_in_one_line(tmp_path: Path) -> None:
    run(tmp_path / "a")
    run(tmp_path / "b", student="another")
    with pytest.raises(
        UserError, match=r"runs of different pairs: .*a measured s under t, .*b another under t"
    ):
        find([tmp_path])


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (Pair("s", "t", "1", "2"), Pair("another name", "t", "1", "2"), True),
        (Pair("s", "t", "1", "2"), Pair("s", "t", "3", "2"), False),
        (Pair("s", "t"), Pair("s", "t", "3", "2"), True),
        (Pair("s", "t"), Pair("s", "u"), False),
    ],
)
def test_pairs_are_the_same_by_contents_and_by_name_where_those_are_not_known(
    first: Pair, second: Pair, same: bool
) -> None:
    assert first.same(second) is second.same(first) is same


def test_a_policy_whose_weights_were_not_read_is_known_by_its_name(tmp_path: Path) -> None:
    """Its hash is of the tokenizer; a run on rollouts from a file records such a student."""
    whole, given = run(tmp_path / "whole"), run(tmp_path / "given", "prefix-decay")
    record = json.loads((given / "run.json").read_text())
    record["identity"]["student"] |= {"revision": "tokenizer only", "content_hash": "of tokens"}
    (given / "run.json").write_text(json.dumps(record))
    assert len(find([whole, given])) == 2
    record["identity"]["student"] |= {"name": "another"}
    (given / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="runs of different pairs"):
        find([whole, given])


def test_a_path_that_is_not_there_and_one_without_runs_say_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such run folder"):
        find([tmp_path / "nothing"])
    with pytest.raises(UserError, match="no measurements there or below; run a command such as"):
        find([tmp_path])


def test_each_path_that_holds_no_measured_run_is_named_beside_good_ones(tmp_path: Path) -> None:
    good, empty, file = run(tmp_path / "good"), tmp_path / "empty", tmp_path / "notes.txt"
    trained = tmp_path / "esr"
    empty.mkdir()
    trained.mkdir()
    file.write_text("not a run")
    (trained / "run.json").write_text('{"identity": {"training": {}}}')
    told = {
        empty: f"{empty}: no measurements there or below; ",
        file: f"{file} is a file, not a run folder; leave it out",
        trained: f"{trained} is a training run without measurements; `decaylab evaluate {trained}`",
    }
    for path, words in told.items():
        for paths in ([good, path], [path, good], [path]):
            with pytest.raises(UserError) as error:
                find(paths)
            assert str(error.value).startswith(words)


def test_a_table_of_another_schema_names_the_columns_that_differ(tmp_path: Path) -> None:
    folder = run(tmp_path / "old")
    (folder / "measurements.parquet").unlink()
    ROWS.drop(columns="training_seed").to_csv(folder / "measurements.csv", index=False)
    with pytest.raises(
        UserError, match=r"not have the schema decaylab.measurements/3 \(columns training_seed\)"
    ):
        _ = find([folder])[0].measurements


def test_a_record_that_names_no_pair_is_refused(tmp_path: Path) -> None:
    folder = run(tmp_path / "mine")
    (folder / "run.json").write_text("{}")
    with pytest.raises(UserError, match="does not record which student and teacher"):
        find([folder])


def test_runs_of_the_same_pair_are_found_and_what_cannot_be_read_is_passed_over(
    tmp_path: Path,
) -> None:
    mine = find([run(tmp_path / "mine")])[0]
    run(tmp_path / "runs" / "decay", "prefix-decay")
    run(tmp_path / "runs" / "theirs", "prefix-decay", student="another")
    run(tmp_path / "runs" / "kl")
    (run(tmp_path / "runs" / "broken", "prefix-decay") / "run.json").write_text("{")
    assert [one.folder.name for one in of_same_pair(mine, "prefix-decay", tmp_path / "runs")] == [
        "decay"
    ]
    assert of_same_pair(mine, "prefix-decay", tmp_path / "nothing") == []


def test_all_runs_of_a_pair_are_found_each_once_and_unreadable_ones_are_named(
    tmp_path: Path,
) -> None:
    mine = find([run(tmp_path / "runs" / "mine")])[0]
    run(tmp_path / "runs" / "deep" / "decay", "prefix-decay")
    run(tmp_path / "runs" / "theirs", "prefix-decay", student="another")
    damaged = run(tmp_path / "runs" / "damaged")
    (damaged / "measurements.parquet").write_bytes(b"no table")
    roots = [tmp_path / "runs" / "mine", tmp_path / "runs", tmp_path / "nothing"]
    runs, unreadable = of_pair(mine.pair, roots)
    assert [one.folder.name for one in runs] == ["mine", "decay"]
    (why,) = unreadable
    assert "damaged" in why

"""Tables made part by part: what is cut, what counts as made, and what a merge leaves behind."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from decaylab.errors import UserError
from decaylab.runs import store
from decaylab.runs.store import Parts, cut

SCHEMA = pa.schema({"rollout_id": pa.dictionary(pa.int32(), pa.string()), "x": pa.int32()})


def rows(*names: str) -> pa.Table:
    """Two rows per rollout."""
    ids = [name for name in names for _ in range(2)]
    return pa.table({"rollout_id": ids, "x": list(range(len(ids)))}).cast(SCHEMA)


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path, "part", "tests/1")


def test_a_cut_closes_a_part_once_it_is_large_enough() -> None:
    assert list(cut([3, 3, 1, 9, 2, 2], int, 5)) == [[3, 3], [1, 9], [2, 2]]
    assert list(cut([5, 5], int, 5)) == [[5], [5]]
    assert list(cut([], int, 5)) == []


def test_parts_are_known_by_their_numbers_and_by_their_rollouts(parts: Parts) -> None:
    parts.write(10, rows("c"))
    parts.write(2, rows("a", "b"))
    (parts.folder / "part-2.parquet").write_bytes(b"")  # not one of them
    (parts.folder / "top5-00000.parquet").write_bytes(b"")
    assert parts.numbers() == [2, 10]
    assert parts.holds(2, ["a", "b"]) and parts.holds(10, ["c"])
    assert not parts.holds(2, ["b", "a"]) and not parts.holds(2, ["a"]) and not parts.holds(0, [])


def test_a_merge_joins_parts_by_number_and_removes_all_of_them(parts: Parts) -> None:
    for number, table in ((1, rows("c")), (0, rows("a", "b")), (2, rows("of an older cut"))):
        parts.write(number, table)
    target = parts.folder / "whole.parquet"
    parts.merge(2, target, SCHEMA)
    assert store.read_table(target, "tests/1")["rollout_id"].to_pylist() == list("aabbcc")
    assert pq.ParquetFile(target).num_row_groups == 2
    assert sorted(path.name for path in parts.folder.iterdir()) == ["whole.parquet"]


def test_a_merge_after_a_kill_keeps_the_table_and_only_removes_parts(parts: Parts) -> None:
    target = parts.folder / "whole.parquet"
    store.write_table(rows("a"), target, "tests/1")
    before = target.read_bytes()
    parts.write(1, rows("b"))  # part 0 is removed already
    parts.merge(2, target, SCHEMA)
    assert target.read_bytes() == before and parts.numbers() == []


def test_a_merge_that_cannot_be_written_is_one_line_and_keeps_the_parts(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    parts.write(0, rows("a"))
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(UserError, match="no space left while writing"):
        parts.merge(1, parts.folder / "whole.parquet", SCHEMA)
    assert sorted(path.name for path in parts.folder.iterdir()) == ["part-00000.parquet"]

"""Files of edits: both forms, and what is wrong with a file in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from decaylab.errors import UserError
from decaylab.problems import edits

GOOD = 'problem,prefix,label\np0,"1+1=2\n",right\np0,"1+1=3\n",wrong\np1,so,right\n'


def write(tmp_path: Path, name: str, text: str) -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_a_csv_and_a_jsonl_of_the_same_rows_are_read_alike(tmp_path: Path) -> None:
    lines = (
        '{"problem": "p0", "prefix": "1+1=2\\n", "label": "right"}\n\n'
        '{"problem": "p0", "prefix": "1+1=3\\n", "label": "wrong"}\n'
        '{"problem": "p1", "prefix": "so", "label": "right", "more": 1}\n'
    )
    both = [
        edits.read(write(tmp_path, "a.csv", GOOD)),
        edits.read(write(tmp_path, "a.jsonl", lines)),
    ]
    first, second = ([(row.problem, row.prefix, row.label) for row in each.rows] for each in both)
    assert (
        first
        == second
        == [
            ("p0", "1+1=2\n", "right"),
            ("p0", "1+1=3\n", "wrong"),
            ("p1", "so", "right"),
        ]
    )
    assert both[0].labels == ("right", "wrong")
    assert (both[0].reference(None), both[0].reference("wrong")) == ("right", "wrong")
    with pytest.raises(UserError, match="the labels of a.csv are right, wrong; did you mean wro"):
        both[0].reference("wrang")


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.csv", "", "holds no rows"),
        ("a.jsonl", "\n", "holds no rows"),
        ("a.csv", "problem,prefix\np0,so\n", "line 2: no label; every row needs problem, prefix"),
        ("a.csv", "problem,prefix,label\np0,so\n", "line 2: no label"),
        ("a.csv", "problem,prefix,label\np0,so, \n", "line 2: the label is empty"),
        ("a.csv", "problem,prefix,label\np,s,l\nq,s,l\np,s,l\n", "line 4 repeats line 2; remove"),
        ("a.csv", "problem,prefix,label\np,s,l,m\n", "line 2: more values than columns"),
        ("a.csv", 'problem,prefix,label\np,"s\n\nt",l\nq,s,\n', "line 5: the label is empty"),
        ("a.jsonl", "{\n", "line 1: not JSON"),
        ("a.jsonl", "[1]\n", "line 1: not an object with problem, prefix, label"),
        ("a.jsonl", '{"problem": 3, "prefix": "", "label": "x"}', "line 1: problem must be text"),
        ("a.txt", GOOD, "must end in .csv or .jsonl"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(
    name: str, text: str, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        edits.read(write(tmp_path, name, text))
    assert complaint in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none.csv: no such file"):
        edits.read(str(tmp_path / "none.csv"))


def test_a_file_that_a_spreadsheet_wrote_is_read(tmp_path: Path) -> None:
    assert edits.read(write(tmp_path, "a.csv", "\ufeff" + GOOD)).labels == ("right", "wrong")

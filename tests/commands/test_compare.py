"""``decaylab compare`` on run folders made by hand: what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import made_decay
import pandas as pd
import pytest

import decaylab as dl
from decaylab.analyses import compare as analysis
from decaylab.commands.compare import compare
from decaylab.errors import UserError
from decaylab.options.comparing import CompareOptions
from decaylab.pages import gallery, reporting
from decaylab.paper import paper_items
from decaylab.printing import rounded
from decaylab.runs import found_runs, measurements
from decaylab.runs.vocabulary import MEAN_KL, SECONDS_A_ROLLOUT, difference
from decaylab.tables.shown import print_run

GOOD, FAIR = {20: 0.8, 40: 0.7}, {20: 0.6, 40: 0.4}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two teachers of one student; the commands' folder is the test's."""
    monkeypatch.chdir(tmp_path)
    timed = {"sampled": {"teacher rollouts": {"seconds": 40.0, "rollouts": 160, "tokens": 9000}}}
    made_decay.folder(tmp_path / "good", made_decay.rollouts(GOOD, seed=1), record=timed)
    fair = made_decay.rollouts(FAIR, alone=0.8, seed=2)
    made_decay.folder(tmp_path / "fair", fair, teacher="org/medium")
    return tmp_path


def compared(*folders: str, **options: Any) -> Any:
    return compare(CompareOptions(run_folders=folders, **options))


def refused(*folders: str, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        compared(*folders, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def other(path: Path, rows: pd.DataFrame | None = None, **more: Any) -> str:
    """A third run that is like the others but for what is given."""
    rows = made_decay.rollouts(FAIR, seed=3) if rows is None else rows
    made_decay.folder(path / "other", rows, **{"teacher": "third", **more})
    return "other"


# What is written


def test_a_comparison_is_a_run_folder_with_a_verdict(runs: Path) -> None:
    result = compared("good", "fair", out="both")
    assert result.verdict[0].startswith("Distil from large: ahead of the student by +")
    assert {path.name for path in Path("both").iterdir()} >= {
        *("run.json", "measurements.csv", "measurements.parquet"),
        *("compare.png", "compare.svg", "compare.txt"),
    }
    record = json.loads(Path("both/run.json").read_text())
    assert record["verdict"] == list(result.verdict)
    assert [one["name"] for one in record["compared"]] == ["large", "org/medium"]
    assert record["identity"]["problems"]["asked"] == 80
    assert result.notes == (
        "paired by rollout: the student's 160 rollouts are the same in all runs",
    )
    stored = measurements.read(Path("both/measurements.parquet"))
    pd.testing.assert_frame_equal(stored, result.measurements)
    timed = stored[stored.what == SECONDS_A_ROLLOUT]
    assert timed.checkpoint.tolist() == ["large"] and timed.value.tolist() == [0.25]


def test_the_same_command_finds_its_folder_and_another_has_another(runs: Path) -> None:
    first, again = compared("good", "fair"), compared("good", "fair")
    assert first.folder == again.folder and first.folder.parent == Path("runs")
    assert first.folder.name.startswith("compare-teachers-small-")
    assert compared("good", "fair", level=0.9).folder != first.folder
    pd.testing.assert_frame_equal(first.measurements, again.measurements)


def test_the_reference_is_the_first_run_or_the_one_that_is_named(runs: Path) -> None:
    def reference(**options: Any) -> str:
        frame = compared("good", "fair", **options).measurements
        return str(frame[frame.what == difference("accuracy")].condition.iloc[0])

    assert reference() == "against large"
    for name in ("org/medium", "fair", str(runs / "fair")):
        assert reference(reference=name) == "against org/medium"
    message = refused("good", "fair", reference="tiny")
    assert message == "--reference must be one of large, org/medium, got tiny"


def test_problems_and_lengths_that_one_run_lacks_are_left_out_and_counted(runs: Path) -> None:
    rows = made_decay.rollouts({20: 0.5, 60: 0.4}, problems=50, seed=4)
    made_decay.folder(runs / "few", rows, teacher="third", prefix_lengths=[0, 20, 60])
    result = compared("good", "few")
    assert result.notes[:2] == (
        "50 of up to 80 problems are in all runs; others left out: run all with one --limit to "
        "compare them too",
        "prefix lengths that not all runs have, left out: 40, 60; run all with the same "
        "--prefix-lengths to compare them too",
    )
    assert result.measurements.problems.max() == 50
    assert sorted(result.measurements.prefix_tokens.dropna().unique()) == [0, 20]


def test_rollouts_of_another_seed_are_paired_by_problem_and_that_is_said(runs: Path) -> None:
    rows = made_decay.rollouts(FAIR, seed=5, student_seed=6)
    result = compared("good", other(runs, rows))
    assert result.notes == (
        "paired by problem: 0 of the student's 160 rollouts are the same in all runs "
        "(another seed, engine or precision writes others)",
    )
    assert set(result.measurements.estimand) <= {"mean over problems"}


def test_several_students_of_one_teacher_are_compared_by_problem(runs: Path) -> None:
    rows = made_decay.rollouts(FAIR, seed=5, student_seed=6)
    result = compared("good", other(runs, rows, teacher="large", student="tiny"))
    assert set(result.measurements.category) == {"students"}
    assert list(result.measurements.checkpoint.unique()) == ["small", "tiny"]
    assert result.verdict[0].startswith("The teacher has a lasting advantage over small")


def test_one_answer_rule_for_all_can_be_named(runs: Path) -> None:
    name = other(runs, answer_rule="anywhere")
    assert "answer rule anywhere against last_boxed" in refused("good", name)
    frame = compared("good", name, answer_rule="first_boxed").measurements
    assert set(frame.answer_rule) == {"first_boxed"}


def test_the_terminal_shows_the_verdict_before_any_table(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = compared("good", "fair")
    print_run(found_runs.read(result.folder), verbose=True)
    printed = capsys.readouterr().out
    assert printed.index("Distil from large") < printed.index("large, the reference")
    accuracy = result.measurements.query("what == 'accuracy' and checkpoint == 'org/medium'")
    for value in accuracy.value:
        assert f"{100 * value:.1f}" in printed
    assert "0.25" in printed and "org/medium" in printed
    print_run(found_runs.read(result.folder))
    short = capsys.readouterr().out
    ahead = result.measurements.query("what == 'teacher_advantage'").value
    assert len(ahead) > 4 and all(rounded(100 * each, 1, signed=True) in short for each in ahead)
    assert "large, the reference" not in short


def test_python_has_the_verdict_too(runs: Path) -> None:
    comparison = dl.compare("good", "fair", quiet=True)
    assert comparison.verdict[0].startswith("Distil from large")
    assert comparison.verdict[0] in comparison._repr_html_().replace("&#x27;", "'")
    with pytest.raises(UserError, match="no option nonsense of compare"):
        dl.compare("good", "fair", nonsense=1)


def test_the_gallery_and_the_report_have_its_figure_and_tables(runs: Path) -> None:
    compared("good", "fair", out="both")
    known = found_runs.find(["good", "both"])
    assert [run.command for run in known] == ["prefix-decay", "compare"]
    entries = gallery.entries(known, [*paper_items.FIGURES, *paper_items.TABLES])
    assert [entry.item.kind for entry in entries if entry.name.startswith("compare")] == [
        *("figure", "table", "table"),
    ]
    written = gallery.write([e for e in entries if "compare" in e.name], runs / "drawn")
    assert {path.suffix for path in written} == {
        *(".png", ".svg", ".pdf"),
        *(".md", ".tex", ".csv"),
    }
    captions = [path.read_text() for path in (runs / "drawn").rglob("compare.txt")]
    assert len(captions) == 2 and all("\n\nDistil from large" in text for text in captions)
    page = reporting.report_page(["good", "both"])
    assert "teachers large, org/medium" in page
    assert 'id="figure-compare"' in page and "Distil from large" in page
    # A comparison belongs to each of its pairs, and two of its runs do not belong together.
    assert 'id="figure-compare"' in reporting.report_page(["fair", "both"])
    with pytest.raises(UserError, match="runs of different pairs"):
        found_runs.find(["good", "fair", "both"])


def test_kl_of_scored_tokens_that_are_gone_is_left_out_with_what_brings_it_back(
    runs: Path,
) -> None:
    decay = json.loads(Path("good/run.json").read_text())
    Path("kl").mkdir()
    decay["identity"]["diagnostic"] = "signals"
    decay |= {"tokens": ["cache/tokens-gone"], "command": "decaylab signals"}
    Path("kl/run.json").write_text(json.dumps(decay))
    measurements.write(pd.DataFrame(columns=measurements.COLUMNS), Path("kl/measurements.parquet"))
    result = compared("good", "fair", "kl")
    assert result.notes[-1] == (
        "kl: its scored tokens are gone, no KL; `decaylab signals` scores them again"
    )
    assert MEAN_KL not in set(result.measurements.what)


# What is refused


def test_what_is_no_finished_run_of_rollouts_is_refused(runs: Path) -> None:
    assert refused("good", "nowhere") == "nowhere: no such run folder"
    Path("empty").mkdir()
    assert refused("good", "empty") == "empty is no run folder: it holds no run.json"
    assert "needs at least two prefix-decay runs, got 1" in refused("good")
    other(runs)
    Path("other/measurements.parquet").unlink()
    Path("other/measurements.csv").unlink()
    assert refused("good", "other") == (
        "other is unfinished; `decaylab prefix-decay --teacher third` resumes it"
    )


def test_a_run_that_is_given_twice_and_a_file_are_named(runs: Path) -> None:
    assert refused("good", "good") == "good was given twice; give each run once"
    assert refused("good", "fair", "./good/") == "./good/ was given twice; give each run once"
    Path("notes.txt").write_text("not a run")
    assert refused("good", "notes.txt") == "notes.txt is a file, not a run folder; leave it out"


@pytest.mark.parametrize(
    "text",
    ['{"identity": null}', '{"identity": {"options": 3}}', "[]", '{"identity": ', "{}"]
    + ['{"identity": {"options": {"prefix_lengths": [0, 5]}}}'],
)
def test_an_odd_record_is_one_line_that_names_the_file(runs: Path, text: str) -> None:
    Path("fair/run.json").write_text(text)
    assert refused("good", "fair").startswith(("fair/run.json ", "fair is not a prefix-decay run"))


def test_a_missing_part_of_a_record_is_named(runs: Path) -> None:
    whole = Path("fair/run.json").read_text()
    for path in ("identity.student", "identity.teacher.content_hash", "answer_rule"):
        record = here = json.loads(whole)
        *above, last = path.split(".")
        for name in above:
            here = here[name]
        del here[last]
        Path("fair/run.json").write_text(json.dumps(record))
        assert f"fair/run.json lacks {path}; rerun its command" in refused("good", "fair")


def test_a_run_without_its_rollouts_or_of_another_command_is_refused(runs: Path) -> None:
    other(runs)
    Path("other/rollouts.parquet").unlink()
    assert "other holds no rollouts.parquet" in refused("good", "other")
    record = json.loads(Path("other/run.json").read_text())
    record["identity"]["diagnostic"] = "behaviour"
    Path("other/run.json").write_text(json.dumps(record))
    assert "other is not a prefix-decay run" in refused("good", "other")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"temperature": 1.0}, "temperature 1.0 against 0.7"),
        ({"max_tokens": 64}, "max tokens 64 against 320"),
        ({"samples": 4}, "samples 4 against 2"),
        ({"questions": "Which is {}?"}, "other problems (80 of 80 under the same id)"),
        ({"grader": "two"}, "graded by other versions of the grader"),
        ({"answer_rule": "anywhere"}, "answer rule anywhere against last_boxed"),
        ({"student": "tiny"}, "the runs differ in student and teacher"),
        ({"teacher": "large"}, "good and other both measured small under large"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_runs_that_cannot_be_paired_are_refused_with_what_differs(
    runs: Path, change: dict[str, Any], told: str
) -> None:
    assert told in refused("good", other(runs, **change))


def test_prompts_problems_and_lengths_that_do_not_meet_are_told(runs: Path) -> None:
    rows = made_decay.rollouts(FAIR, seed=3)
    asked = rows.assign(prompt_ids=[[9, 9]] * len(rows))
    assert "other prompts of the student" in refused("good", other(runs, asked))
    elsewhere = rows.assign(problem_id=rows.problem_id.str.replace("p/", "q/"))
    made_decay.folder(runs / "elsewhere", elsewhere, teacher="third")
    assert "no problem in common" in refused("good", "elsewhere")
    made_decay.folder(runs / "long", rows, teacher="third", prefix_lengths=[0, 60])
    told = "no prefix length in common beyond 0 (0,60 against 0,20,40)"
    assert told in refused("good", "long")


def test_a_kl_of_a_pair_that_is_not_compared_is_refused(runs: Path) -> None:
    other(runs)
    record = json.loads(Path("other/run.json").read_text())
    record["identity"]["diagnostic"] = "position-kl"
    Path("other/run.json").write_text(json.dumps(record))
    assert refused("good", "fair", "other") == (
        "other measured small under third, which none of the prefix-decay runs did; leave it out"
    )


def test_no_model_is_loaded_and_nothing_is_sampled(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from decaylab.policies import loading

    monkeypatch.setattr(loading, "load", lambda *more: pytest.fail("loaded"))
    assert compared("good", "fair").measurements.equals(
        analysis.measure(
            [
                analysis.Side("large", made_decay.rollouts(GOOD, seed=1), None, 0.25),
                analysis.Side("org/medium", made_decay.rollouts(FAIR, alone=0.8, seed=2)),
            ],
            analysis.Settings(
                made_decay.LENGTHS,
                made_decay.RULE,
                "teachers",
                True,
                run=compared("good", "fair").folder.name,
            ),
        )
    )

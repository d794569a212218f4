"""Figures and tables out of stored tables: which runs have what, what is written, and that no model
is loaded for it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import made_decay
import markov_values
import pandas as pd
import pytest
from command_line import decaylab
from measured import MEASURED
from viewed_tables import rollout_row, tables

from decaylab.errors import UserError
from decaylab.figures import style
from decaylab.pages import gallery, report
from decaylab.paper import paper_items
from decaylab.paper.paper_items import FIGURES, TABLES
from decaylab.runs import found_runs, measurements
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.vocabulary import OVER_SEEDS
from decaylab.tokens import viewed

ROOT = Path(__file__).resolve().parents[2]
NOT_HERE = {"case-study", "hand-back", "token-truth", "interventions", "arm-gains"}
"""Of rollouts to look at, which are not committed, and of commands that no committed run is of."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[FoundRun]:
    """What was measured on the embedded pair and is committed; and a comparison made by hand."""
    compared = made_decay.comparison(tmp_path_factory.mktemp("compared"))
    own = tmp_path_factory.mktemp("along") / "values"
    along = markov_values.run_like(own, MEASURED / "position-kl")
    return [*found_runs.find([MEASURED, along]), *found_runs.find([compared])]


def entry(
    name: str, runs: list[FoundRun], items: tuple[paper_items.PaperItem, ...] = FIGURES
) -> gallery.Entry:
    return gallery.demand(paper_items.item(name, items), runs)[0]


def test_a_figure_is_drawn_from_each_run_that_holds_it_and_named_after_it(
    runs: list[FoundRun],
) -> None:
    names = [one.name for one in gallery.entries(runs)]
    assert {
        "prefix-decay",
        "n-sweep",
        "position-kl-position-kl",
        "position-kl-trained-position-kl",
    } <= set(names)
    assert len(set(names)) == len(names)


def test_runs_whose_names_come_to_the_same_words_are_numbered(runs: list[FoundRun]) -> None:
    one = next(run for run in runs if run.command == "submode")
    called = [
        replace(one, name=name) for name in ("A/b", "a-b", "\u5b9f\u9a13", "\u8a66\u9a13", "a-b-2")
    ]
    names = [
        found.name for found in gallery.entries(called, [paper_items.item("submode", FIGURES)])
    ]
    assert names == ["submode-a-b", "submode-a-b-2", "submode", "submode-2", "submode-a-b-2-2"]
    page = reporting_page(called)
    assert all(f'id="figure-{name}"' in page for name in names)


def reporting_page(runs: list[FoundRun]) -> str:
    """A report of just these figures."""
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    found = gallery.entries(runs, [paper_items.item("submode", FIGURES)])
    figures = [report.ReportFigure(one.name, one.item.title, svg, svg, "", "") for one in found]
    sections = [report.Section(one.name, "S", figure=one) for one in figures]
    return report.render(
        report.ReportContent(title="R", student="s", teacher="t", problems="p", sections=sections)
    )


def test_what_no_run_holds_is_missing_and_what_needs_no_run_is_not(runs: list[FoundRun]) -> None:
    missing = {item.name for item in gallery.missing(runs)}
    # Rollouts to look at are not committed, and no committed run hands back.
    assert missing == NOT_HERE - {"mode-seeking"}
    assert "mode-seeking" in {one.name for one in gallery.entries([])}


@pytest.mark.parametrize(
    "name",
    [one.name for one in FIGURES if one.name not in NOT_HERE],
)
@pytest.mark.parametrize("width", gallery.WIDTHS)
def test_every_figure_is_drawn_at_both_widths_with_the_published_numbers(
    name: str, width: gallery.Width, runs: list[FoundRun]
) -> None:
    figure, caption = gallery.draw(entry(name, runs), published=True, width=width)
    assert figure.get_size_inches()[0] == pytest.approx(style.WIDTH_INCHES[width])
    assert caption.endswith(".") and len(caption) > 80


@pytest.mark.parametrize("name", [one.name for one in TABLES])
def test_every_table_is_made_measured_and_published(name: str, runs: list[FoundRun]) -> None:
    alone, both = (
        gallery.table(entry(name, runs, TABLES), published=shown) for shown in (False, True)
    )
    published = both.frame["source"].str.startswith("published").sum()
    if name == "scaling":
        assert published == len(alone.frame) == len(both.frame)
    elif name in ("choosing-n", "compare", "compare-totals"):  # nothing is published
        assert len(both.frame) == len(alone.frame) > 0
    else:
        assert 0 < len(alone.frame) == len(both.frame) - published < len(both.frame)


def test_no_model_and_no_torch_is_needed_to_draw(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from decaylab.cli import main as cli\n"
        f"words = ['figures', {str(MEASURED)!r}, '--only', 'prefix-decay,submode', '--width', "
        "'page', '--kinds', 'png',"
        f" '--out', {str(tmp_path)!r}]\n"
        "try:\n    cli.main(words)\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert (tmp_path / "page" / "prefix-decay.png").exists()


def test_the_rows_behind_a_figure_are_its_quantities_by_the_reported_rule(
    runs: list[FoundRun],
) -> None:
    one = entry("n-sweep", runs)
    assert one.run is not None
    rows = one.item.rows(one.run.measurements)
    assert set(rows["what"]) == {
        "avg_at_1",
        "avg_at_1_minus_full",
        "avg_at_1_minus_base",
        "mean_selected_position",
        "selected_kl_share",
    }
    assert set(rows["answer_rule"]) == {"last_boxed", ""}


def test_rollouts_without_tokens_are_told_as_such(
    runs: list[FoundRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    rollouts, tokens = tables([rollout_row("base", "p0", 0)], [["one"]])
    kept = viewed.Viewed(rollouts, tokens[:0])
    monkeypatch.setattr(viewed, "read", lambda folder: kept)
    item = paper_items.item("case-study", FIGURES)
    with pytest.raises(UserError, match=": the stored rollouts have no tokens$"):
        gallery.drawn(gallery.Entry(item, runs[0], item.name))


# The command


def test_the_list_names_each_item_with_its_place_and_what_measures_it() -> None:
    printed = decaylab("figures")
    flat = " ".join(printed.out.split())
    assert printed.code == 0
    for one in FIGURES:
        assert one.name in flat
    assert "Fig. 1 left" in flat and "decaylab submode" in flat


def test_the_list_says_which_runs_have_it() -> None:
    listed = pd.DataFrame(json.loads(decaylab("figures", MEASURED, "--json").out)).set_index(
        ["kind", "name"]
    )
    assert (
        listed.run["figure", "n-sweep"] == "rollout-length"
        and listed.run["figure", "case-study"] == ""
    )
    assert listed.run["table", "position-kl"] == "position-kl, trained-position-kl"


def test_named_figures_are_written_in_the_widths_and_kinds_that_were_asked_for(
    tmp_path: Path,
) -> None:
    words = (
        "--only",
        "mode-seeking,submode",
        "--width",
        "column",
        "--kinds",
        "svg,pdf",
        "--out",
        tmp_path,
    )
    printed = decaylab("figures", MEASURED / "submode", *words)
    assert printed.code == 0
    figures = {path.name for path in (tmp_path / "column").iterdir()}
    assert figures == {
        f"{name}.{kind}" for name in ("mode-seeking", "submode") for kind in ("svg", "pdf", "txt")
    }
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {
        f"submode.{kind}" for kind in ("md", "tex", "csv")
    }
    assert f"{tmp_path}/column/submode.svg/.pdf" in printed.out


def test_all_draws_what_there_is_and_tells_what_is_not(tmp_path: Path) -> None:
    printed = decaylab(
        "figures",
        MEASURED / "signals",
        "--all",
        "--width",
        "page",
        "--kinds",
        "png",
        "--out",
        tmp_path,
    )
    drawn = {path.stem for path in (tmp_path / "page").glob("*.png")}
    assert drawn == {"three-signals", "cumulative-kl", "mode-seeking"}
    assert (
        "not drawn: figure n-sweep, which needs what `decaylab sweep rollout-length" in printed.out
    )


def test_the_same_runs_give_the_same_files(tmp_path: Path) -> None:
    for place in ("first", "second"):
        decaylab("figures", MEASURED / "submode", "--only", "submode", "--out", tmp_path / place)
    first, second = (
        {p.name: p.read_bytes() for p in (tmp_path / one).rglob("*.*")}
        for one in ("first", "second")
    )
    assert (
        first == second
        and len(first) == 7
        and {Path(name).suffix for name in first} >= {".pdf", ".svg", ".png"}
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--only", "nonsense"), r"no figure or table 'nonsense'; there are prefix-decay, "),
        (
            ("--only", "submode"),
            r"figure submode needs what `decaylab submode .*` measures; it is not in",
        ),
        (("--all", "--width", "poster"), r"--width must be column, page or both, got poster"),
        (("--all", "--kinds", "gif"), r"--kinds must be among png, svg, pdf, got gif"),
        (("--only", ","), r"--only must name figures or tables"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(words: tuple[str, ...], complaint: str) -> None:
    told = decaylab("figures", MEASURED / "signals", *words).complaint
    assert pd.Series([told]).str.contains(complaint).all(), told


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = decaylab(
        "figures", MEASURED / "submode", "--only", "submode", "--out", tmp_path / "file", "--quiet"
    )
    assert told.complaint.startswith("cannot write ")


def test_a_run_without_measurements_is_one_line(tmp_path: Path) -> None:
    assert "no measurements there or below" in decaylab("figures", tmp_path, "--all").complaint
    with pytest.raises(UserError, match="no such run folder"):
        found_runs.find([tmp_path / "nothing"])


def test_a_figure_whose_rows_are_missing_is_one_line_that_says_which(tmp_path: Path) -> None:
    source = MEASURED / "rollout-length"
    folder = tmp_path / "run"
    folder.mkdir()
    for file in source.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    frame = measurements.read_csv(folder / "measurements.csv")
    lost = (frame.estimand == OVER_SEEDS) & frame.checkpoint.str.startswith("prefix-5")
    assert lost.any()
    frame[~lost].to_csv(folder / "measurements.csv", index=False)
    found = decaylab("figures", str(folder), "--all", "--out", str(tmp_path / "figures"))
    assert found.code == 2
    (line,) = found.err.strip().splitlines()[-1:]
    assert "n-sweep cannot be drawn" in line and "no row has estimand" in line

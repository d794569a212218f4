"""The commands that look at finished runs: show, figures, report, view. None of them loads a
model."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from decaylab.cli import output
from decaylab.cli.output import Output
from decaylab.cli.parameters import VERBOSE
from decaylab.cli.registering import page_command
from decaylab.errors import UserError
from decaylab.options.option_values import words
from decaylab.printing import rounded
from decaylab.progress import Reporter

if TYPE_CHECKING:
    import pandas as pd

    from decaylab.pages.gallery import Entry

Runs = Annotated[
    list[Path] | None,
    typer.Argument(help="Run folders; runs in them and below are found.", metavar="RUN"),
]
Paper = Annotated[
    bool, typer.Option("--paper", help="Draw the published numbers too, in grey panels.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Do not list what is written.")]


def show(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.", metavar="RUN")],
    verbose: Annotated[bool, typer.Option("--verbose", help=VERBOSE)] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the measurements as JSON.")
    ] = False,
) -> None:
    """Print a finished run again: the verdict and its table.

    This is what its command printed. `--verbose` prints every other table and how to read it. Loads
    no model.

    Examples:
        decaylab show runs/mine
        decaylab show runs/mine --verbose
    """
    from decaylab.runs import found_runs, train_results

    if train_results.is_training(run):
        from decaylab.tables.training import print_training

        result = train_results.read(run)
        if as_json:
            output.print_training(result)
        else:
            print_training(result, verbose=verbose)
        return
    Output(as_json, quiet=True, verbose=verbose).run(found_runs.read(run))


def figures(
    runs: Runs = None,
    draw_all: Annotated[
        bool, typer.Option("--all", help="Draw every figure and table that the runs allow.")
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(help="Draw these: prefix-decay,n-sweep.", metavar="NAME,..."),
    ] = None,
    paper: Paper = False,
    width: Annotated[
        str,
        typer.Option(
            help="Print width: column (at most 3.4 x 9 in) or page (7 x 8 in).",
            metavar="column|page|both",
        ),
    ] = "both",
    panel: Annotated[
        bool, typer.Option("--panel", help="Each panel as a file too, at most 3.4 x 3 in.")
    ] = False,
    kinds: Annotated[
        str, typer.Option(help="Files of each figure: png, svg, pdf.", metavar="KIND,...")
    ] = "png,svg,pdf",
    out: Annotated[Path, typer.Option(help="Where they are written.", metavar="FOLDER")] = Path(
        "runs/figures"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Draw the paper's figures and tables from your runs.

    Without `--all` or `--only`, lists each figure and table, with the run that has it or the
    command that measures what it needs. Figures come in two print widths, and with `--panel` each
    panel alone. A column of more than 9 inches keeps the panels that carry the claim; `--panel` has
    the others. A text file beside each has the caption and all that it leaves out. Tables come as
    Markdown, LaTeX (booktabs) and CSV.

    Examples:
        decaylab figures runs --all --paper
        decaylab figures  # what there is, and the command that measures it
        decaylab figures runs --only n-sweep --width column --kinds pdf  # one figure for a paper
    """
    if runs:
        _begin("figures", quiet or as_json)
    from decaylab.pages import gallery
    from decaylab.paper import paper_items
    from decaylab.runs import found_runs

    chosen = _chosen(only)
    known = found_runs.find(runs) if runs else []
    if not draw_all and only is None:
        _print_list(gallery.listing(known), as_json)
        return
    widths = [name for name in gallery.WIDTHS if width in (name, "both")]
    if not widths:
        raise UserError(f"--width must be column, page or both, got {width}")
    files = words(kinds)
    if not files or not set(files) <= set(gallery.KINDS):
        raise UserError(f"--kinds must be among {', '.join(gallery.KINDS)}, got {kinds or 'none'}")
    # What was named must be there; of all, what is there is drawn and the rest is listed.
    items = chosen or [*paper_items.FIGURES, *paper_items.TABLES]
    entries: list[Entry] = []
    for item in chosen:
        entries += gallery.demand(item, known)
    entries = entries or list(gallery.entries(known, items))

    def show(entry: Entry, written: list[Path]) -> None:
        if not quiet:
            print(f"{entry.item.kind} {entry.name}: {_places(written)}")

    gallery.write(
        entries, out, published=paper, widths=widths, panels=panel, kinds=files, told=show
    )
    if quiet or chosen:
        return
    for item in gallery.missing(known, items):
        print(f"not drawn: {item.kind} {item.name}, which needs what `{item.makes}` measures")


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders; runs in them and below are found.", metavar="RUN"),
    ],
    card: Annotated[
        bool, typer.Option("--card", help="Write a Markdown card for a model card, and its figure.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The page, by default report.html; with --card the card, by default CARD.md.",
            show_default=False,
            metavar="FILE",
        ),
    ] = None,
    paper: Paper = False,
    quiet: Quiet = False,
) -> None:
    """Write one HTML page of what the runs measured, answer first.

    The answer is how to train the pair, with the decay figure and the claims that decide it. Then
    comes a section per question, with one figure, two sentences, and its table folded. The page
    opens from disk in any browser, without network. The runs must be of one pair.

    With --card: the verdicts, the numbers with their intervals and one figure in Markdown, for a
    model card on the hub. A training run counts too.

    Examples:
        decaylab report runs/decay runs/esr runs/full --out report.html
        decaylab report runs/decay runs/esr --card  # a model card for the hub
    """
    _begin("report", quiet)
    if card:
        from decaylab.pages import card as cards

        written = cards.write(runs, out or Path("CARD.md"), published=paper)
        if not quiet:
            print(f"card: {', '.join(map(str, written))}")
        return
    from decaylab.pages import reporting

    page = reporting.report_page(runs, published=paper)
    _write("report", page, out or Path("report.html"), quiet)


def view(
    run: Annotated[
        Path, typer.Argument(help="A run folder whose diagnostic scored tokens.", metavar="RUN")
    ],
    decay: Annotated[
        Path | None,
        typer.Option(
            help="The prefix-decay run whose continuations are shown. Default: one at or below the "
            "run, or of the same pair under runs/.",
            metavar="RUN",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The page that is written. Default: view.html in the run.", metavar="FILE"
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write the rollouts of a run, token by token, as an HTML page.

    Tokens are coloured by KL, entropy, rank or category. Base, ESR and full rollout stand side by
    side; each token shows both policies' top 5; and where there is a prefix-decay run of the pair,
    what the teacher wrote from a prefix, correct or wrong.

    Examples:
        decaylab view runs/mine
    """
    _begin("view", quiet)
    from decaylab.pages import reporting

    page = reporting.view_page(run, decay)
    _write("token view", page, out or run / "view.html", quiet)


def _begin(command: str, quiet: bool) -> None:
    """The first line, before anything that takes long to import."""
    Reporter(quiet=quiet).note(f"decaylab {command}: reads the runs ...")


def _write(what: str, page: str, path: Path, quiet: bool) -> None:
    from decaylab.pages import reporting

    reporting.write_page(page, path)
    if not quiet:
        size = rounded(len(page.encode()) / 2**20, 1)
        print(f"{what}: {path}  ({size} MiB, self-contained)")


def _chosen(only: str | None) -> list[Any]:
    """The figures and tables that were named; a name that is both means both."""
    from decaylab.paper import paper_items

    if only is None:
        return []
    items = (*paper_items.FIGURES, *paper_items.TABLES)
    known = dict.fromkeys(item.name for item in items)
    for name in words(only):
        if name not in known:
            raise UserError(f"no figure or table {name!r}; there are {', '.join(known)}")
    if not words(only):
        raise UserError("--only must name figures or tables, with commas")
    return [item for name in words(only) for item in items if item.name == name]


def _places(written: list[Path]) -> str:
    """The files of one figure in a line: folder and stem once, with the kinds that there are."""
    stems: dict[Path, list[str]] = {}
    for path in written:
        stems.setdefault(path.with_suffix(""), []).append(path.suffix)
    return ", ".join(f"{stem}{'/'.join(kinds)}" for stem, kinds in stems.items())


def _print_list(listing: pd.DataFrame, as_json: bool) -> None:
    if as_json:
        print(json.dumps(listing.to_dict("records")))
        return
    for kind in ("figure", "table"):
        print(f"{kind}s")
        for row in listing[listing["kind"] == kind].to_dict("records"):
            print(f"  {row['name']:<18}{row['title']} ({row['place']})")
            print(f"  {'':<18}{_source(row)}")


def _source(row: Mapping[Hashable, Any]) -> str:
    """Which run has it, or what measures it."""
    if row["run"] == "always":
        return "needs no run"
    return f"in {row['run']}" if row["run"] else f"measured by: {row['makes']}"


for _one in (show, figures, report, view):
    page_command(_one)

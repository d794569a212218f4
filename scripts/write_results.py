"""Writes docs/embedded-pair.md, its figures and docs/paper.md, from templates and committed runs.

    python scripts/write_results.py                     # after a change of the template or the code
    python scripts/write_results.py runs/experiment     # takes new runs of `make experiment` first

Every number of the page comes from docs/measurements: the answers to the report's questions, the
verdicts on the claims, the tables. A test compares the page with what this writes.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from decaylab.claims.summary import Summary, summary
from decaylab.claims.verdicts import Finding, pick
from decaylab.claims.wording import PERCENT_OF, POINTS_OF, RATIO, Style
from decaylab.options.training import EMBEDDED_PRESET
from decaylab.pages import gallery, questions
from decaylab.pages.asked import Asked
from decaylab.pages.questions import Question
from decaylab.paper import paper_items
from decaylab.paper.paper_items import FIGURES, TABLES, PaperItem
from decaylab.printing import percent, rounded
from decaylab.runs import found_runs
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.vocabulary import (
    ALL,
    ALREADY_WRONG,
    BASE,
    CORRECT_SO_FAR,
    DIFFERENCE,
    FRESH,
    HALF_DECAY,
    LAST,
    OPEN,
    OVER_SEEDS,
    STUDENT_PREFIX,
    THESE_SEEDS,
)
from decaylab.tables.model import seen, to_markdown
from decaylab.tables.settings import settings

DOCS = Path(__file__).resolve().parents[1] / "docs"
MEASURED, PICTURES = DOCS / "measurements", DOCS / "figures"
PAGES = {"embedded-pair.md.jinja": DOCS / "embedded-pair.md", "paper.md.jinja": DOCS / "paper.md"}
SELECTORS = "token-selection"
FIRST, RATES = MEASURED / "first-edition.csv", MEASURED / "rates.csv"
LABORATORY, BY_STYLE = MEASURED / "laboratory.csv", MEASURED / "styles.csv"
STYLES = {
    "points": POINTS_OF,
    "per cent": PERCENT_OF,
    "ratio": RATIO,
    "nats": Style(" nats", 3),
    "tokens": Style(" tokens", 0),
}


class Results:
    """What the page says, in Markdown."""

    def __init__(self, runs: list[FoundRun]) -> None:
        self.runs = {run.name: run for run in runs}
        self.found: Summary = summary(runs)

    def question(self, name: str) -> str:
        """A question as a heading, its answer, its figure, and its tables folded."""
        (question,) = [one for one in questions.ASKED if one.name == name]
        merged = question.source(list(self.runs.values()))
        if merged is None or merged.run is None:
            raise ValueError(f"no run answers {question.heading}")
        answer = question.answer(Asked(merged.run, list(self.runs.values()), self.found.advice))
        made = gallery.drawn(merged.entry)
        parts = [
            f"## {question.heading}",
            " ".join(answer[:2]),
            picture(merged.item, made.caption),
            *self._folded(question),
        ]
        return "\n\n".join(parts)

    def figures(self) -> Iterator[tuple[str, bytes]]:
        """The file name and the picture of each question's figure."""
        from decaylab.figures import style

        runs = list(self.runs.values())
        drawn = {}
        for question in questions.ASKED:
            merged = question.source(runs)
            if merged is not None and merged.run is not None:
                drawn[merged.item.name] = gallery.drawn(merged.entry)
        drawn[SELECTORS] = gallery.drawn(self._of_selectors(FIGURES))
        for name, figure in drawn.items():
            picture = style.encoded(figure.sheet.draw("page"), "png")
            yield f"embedded-pair-{name}.png", bytes(picture)

    def selectors(self) -> str:
        """The figure of the selectors with its caption and its table folded."""
        entry = self._of_selectors(FIGURES)
        table = gallery.table(self._of_selectors(TABLES))
        shown = picture(entry.item, gallery.drawn(entry).caption)
        return "\n\n".join([shown, folded(table.title, to_markdown(table))])

    def _of_selectors(self, items: Sequence[PaperItem]) -> gallery.Entry:
        """The figure or the table of the sweep over selectors."""
        item = paper_items.item(SELECTORS, items)
        (entry,) = gallery.entries([self.runs["selector"]], [item])
        return entry

    def _folded(self, question: Question) -> Iterator[str]:
        if question is questions.LENGTHS and len(self.found.advice.candidates):
            table = settings(self.found.advice.candidates)
            yield folded(table.title, to_markdown(table))
        for item in question.items:
            found = gallery.entries(list(self.runs.values()), [item])
            for entry in found:
                if entry.run:
                    table = gallery.table(entry)
                    of_run = f" ({entry.run.name})" if len(found) > 1 else ""
                    yield folded(f"{table.title}{of_run}", to_markdown(table))

    @cached_property
    def claims(self) -> str:
        """The verdict on each claim in both editions, and whether it depends on the laboratory."""
        first = pd.read_csv(FIRST).set_index("claim")
        head = ["claim of the literature", "first edition", "second edition", "depends on the pair"]
        lines = [f"| {' | '.join(head)} |", "|:--|:--|:--|:--|"]
        for finding in (*self.found.controls, *self.found.claims):
            before = first["verdict"].get(finding.claim.name, "not a claim then")
            lines.append(
                f"| {cell(finding.claim.text)} | {before} | **{finding.verdict}** | "
                f"{dependence(before, finding.verdict)} |"
            )
        return "\n".join(lines)

    @cached_property
    def dependent(self) -> str:
        """How many of the claims that both editions decide have another answer in the second."""
        first = pd.read_csv(FIRST).set_index("claim")["verdict"]
        answers = [
            dependence(first.get(finding.claim.name, ""), finding.verdict)
            for finding in self.found.claims
        ]
        decided = [answer for answer in answers if not answer.startswith(NOT_KNOWN)]
        changed = len(decided) - decided.count("no")
        return f"{changed} of the {len(decided)} claims (of {len(answers)})"

    @cached_property
    def numbers_of_claims(self) -> str:
        """The sentences behind the verdicts of both editions."""
        first = pd.read_csv(FIRST).set_index("claim")
        lines = ["| claim | first edition | second edition |", "|:--|:--|:--|"]
        for finding in (*self.found.controls, *self.found.claims):
            before = first["sentence"].get(finding.claim.name, "not a claim then")
            lines.append(
                f"| {cell(finding.claim.text)} | {cell(before)} | {cell(finding.sentence)} |"
            )
        return folded("The numbers behind both editions", "\n".join(lines) + "\n")

    @property
    def laboratory(self) -> str:
        """Decay over parts of the student's rollouts: by style, notation and length."""
        frame = pd.read_csv(LABORATORY)
        lines = [
            "| rollouts of the student | number | after 40 tokens | after 80 tokens | "
            "after 80 that are right so far | after 80 with an error | half-decay length, tokens |",
            "|:--|--:|--:|--:|--:|--:|--:|",
        ]
        for (name, value), part in frame.groupby(["property", "value_of_property"], sort=False):
            lines.append(f"| {' | '.join(_of_part(name, value, part))} |")
        return "\n".join(lines)

    def style(self, arm: str, style: str) -> str:
        """Accuracy of the responses of a style, over the seeds of an arm."""
        rows = pd.read_csv(BY_STYLE).set_index(["arm", "style"])
        return _percent(rows.loc[(arm, style)])

    @property
    def styles(self) -> str:
        """Share and accuracy of each style, by arm."""
        rows = pd.read_csv(BY_STYLE).set_index(["arm", "style"])
        lines = [
            "| student | verbose | accuracy, concise | accuracy, verbose |",
            "|:--|--:|--:|--:|",
        ]
        for arm, label in ARMS.items():
            concise, verbose = rows.loc[(arm, "concise")], rows.loc[(arm, "verbose")]
            share = f"{rounded(percent(verbose['share']))} %"
            lines.append(f"| {label} | {share} | {_percent(concise)} | {_percent(verbose)} |")
        return "\n".join(lines)

    @property
    def rates(self) -> str:
        """Held-out KL and accuracy of full rollouts at each learning rate, after training."""
        frame = pd.read_csv(RATES, dtype={"learning_rate": str})
        before = frame[frame["step"] == 0].iloc[0]
        rate = frame["learning_rate"].astype(float)
        chosen = frame[rate == EMBEDDED_PRESET["learning_rate"]]
        best = chosen.loc[chosen["accuracy"].idxmax()]
        last = frame.groupby("learning_rate").tail(1).sort_values("reverse_kl")
        lines = ["| learning rate | held-out reverse KL, nats | accuracy |", "|:--|--:|--:|"]
        for row in last.to_dict("records"):
            lines.append(
                f"| {row['learning_rate']} | {rounded(row['reverse_kl'], 4)} | "
                f"{rounded(percent(row['accuracy']))} % |"
            )
        lead = (
            f"**Learning rate.** Chosen first: of {len(last)} rates, the one with the lowest "
            f"reverse KL on {before['problems']:g} held-out problems after {last['step'].max():g} "
            f"steps of full rollouts (before training: {rounded(before['reverse_kl'], 4)} nats, "
            f"{rounded(percent(before['accuracy']))} %). Nothing else was tried. By held-out "
            f"accuracy it would have been {last.loc[last['accuracy'].idxmax(), 'learning_rate']}; "
            f"{before['problems']:g} problems leave an accuracy uncertain by up to "
            f"{rounded(percent(0.98 / before['problems'] ** 0.5))} points either way. At the "
            f"chosen rate it was highest at step {best['step']:g}, "
            f"{rounded(percent(best['accuracy']))} %; the last checkpoint counts everywhere on "
            "this page. No other arm was trained at another rate."
        )
        return "\n\n".join([lead, "\n".join(lines)])

    def finding(self, name: str) -> Finding:
        (found,) = [each for each in self.found.findings if each.claim.name == name]
        return found

    def verdict(self, name: str) -> str:
        return str(self.finding(name).verdict)

    def number(self, run: str, what: str, style: str, **at: object) -> str:
        """A measured number with its interval."""
        rows = pick(self.runs[run].measurements, what, **at)
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} rows of {run} are {what} at {at}")
        return STYLES[style].number(rows[0])

    def both(self, run: str, arm: str) -> str:
        """An arm's difference from full rollouts, with both intervals."""
        at = {"checkpoint": arm, "condition": "last_boxed", "view": LAST, "estimand": OVER_SEEDS}
        (row,) = pick(self.runs[run].measurements, "avg_at_1_minus_full", **at)
        return f"{self.arm(run, arm)}, over seeds {POINTS_OF.interval(row)}"

    def tokens_before(self, position: int) -> str:
        """The share of the untrained student's tokens that stand before a position."""
        at = {"checkpoint": BASE, "view": FRESH, "category": "", "condition": ALL}
        bins = pick(self.runs["position-kl"].measurements, "winsorised_reverse_kl", **at)
        early = sum(row.tokens for row in bins if row.position_high <= position)
        return f"{PERCENT_OF.text(early / sum(row.tokens for row in bins))} %"

    def count(self, run: str, what: str, **at: object) -> str:
        """The number of rollouts behind a measured number."""
        (row,) = pick(self.runs[run].measurements, what, **at)
        return f"{row.rollouts:,.0f}"

    def arm(self, run: str, arm: str, what: str = "avg_at_1_minus_full") -> str:
        """A number of an arm of a sweep, over its seeds, with the interval over problems."""
        at = {"checkpoint": arm, "condition": "last_boxed", "view": LAST, "estimand": THESE_SEEDS}
        return self.number(run, what, "points", **at)

    def fall(self, condition: str, length: float) -> str:
        """How far the teacher's accuracy falls after prefixes of a length."""
        at = {"condition": condition, "view": OPEN, "prefix_tokens": length}
        return self.number("prefix-decay", DIFFERENCE, "points", **at)

    def each_seed(self, run: str, what: str, style: str, arm: str) -> str:
        """The lowest and the highest value of the students of an arm."""
        rows = pick(self.runs[run].measurements, what)
        values = [row.value for row in rows if row.checkpoint.startswith(f"{arm}-seed-")]
        if len(values) < 2:
            raise ValueError(f"{len(values)} students of {run} are of the arm {arm}")
        text = STYLES[style].text
        return f"{text(min(values))} to {text(max(values))}{STYLES[style].unit}"


ARMS = {
    "base": "before training",
    "prefix-40": "first 40 tokens",
    "full": "full rollouts",
    "teacher": "the teacher",
}
NOT_KNOWN = "not known"
FOR, AGAINST = ("holds",), ("contradicted", "not supported")


def dependence(first: str, second: str) -> str:
    """Whether the answer depends on the pair: only where both editions decide for or against."""
    for side in (FOR, AGAINST):
        if first in side and second in side:
            return "no"
    if {first, second} <= {*FOR, *AGAINST}:
        return "**yes**"
    return f"{NOT_KNOWN}: one edition leaves it open"


def _of_part(name: str, value: str, part: pd.DataFrame) -> list[str]:
    """The cells of one part of the rollouts: how far the teacher falls, and half-decay."""

    rows = part.drop(columns=["property", "value_of_property"])

    def fall(condition: str, length: float) -> str:
        (row,) = pick(rows, DIFFERENCE, condition=condition, view=OPEN, prefix_tokens=length)
        return POINTS_OF.number(row)

    (half,) = pick(rows, HALF_DECAY)
    label = "all" if name == value else f"{name}: {value}"
    return [
        label,
        f"{half.rollouts:,.0f}",
        fall(STUDENT_PREFIX, 40),
        fall(STUDENT_PREFIX, 80),
        fall(CORRECT_SO_FAR, 80),
        fall(ALREADY_WRONG, 80),
        Style("", 0).number(half),
    ]


def _percent(row: pd.Series) -> str:
    text = PERCENT_OF.text
    return f"{text(row['value'])} % [{text(row['low'])}, {text(row['high'])}]"


def picture(item: PaperItem, caption: str) -> str:
    return f"![{item.title}](figures/embedded-pair-{item.name}.png)\n\n*{caption}*"


def folded(title: str, text: str) -> str:
    return f'<details markdown="1">\n<summary>{title}</summary>\n\n{text}\n</details>'


def cell(text: str) -> str:
    return seen(text).replace("|", "\\|")


def pages(results: Results) -> dict[Path, str]:
    """The pages as they should be."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True)
    return {
        path: environment.get_template(template).render(results=results)
        for template, path in PAGES.items()
    }


def take(experiment: Path) -> None:
    """Copies the numbers and records of an experiment's runs to where they are committed."""
    for run in sorted(experiment.iterdir()):
        if (run / "measurements.csv").exists():
            (MEASURED / run.name).mkdir(exist_ok=True)
            for name in ("measurements.csv", "run.json"):
                shutil.copy(run / name, MEASURED / run.name)
    for table in (LABORATORY, BY_STYLE):
        shutil.copy(experiment / table.name, table)
    tables = []
    for rate in sorted((experiment / "rates").iterdir(), key=lambda folder: float(folder.name)):
        table = pd.read_csv(rate / "validation.csv")
        table.insert(0, "learning_rate", rate.name)
        tables.append(table)
    pd.concat(tables).to_csv(RATES, index=False)


def main() -> None:
    if len(sys.argv) > 1:
        take(Path(sys.argv[1]))
    results = Results(found_runs.find([MEASURED]))
    for path, text in pages(results).items():
        path.write_text(text)
    for name, picture in results.figures():
        (PICTURES / name).write_bytes(picture)


if __name__ == "__main__":
    main()

"""The tables of arXiv 2605.27028 out of measurements, the published rows beside them.

    table = build("main-results", measurements, paper.main_results())
    write(table, Path("tables"), table.name)          # tables/main-results.md, .tex and .csv

Rows are marked measured or published. Nothing is computed that the measurements do not hold;
fractions stand in per cent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from decaylab.paper import publication
from decaylab.runs import store
from decaylab.tables import of_tokens, of_training
from decaylab.tables.latex import to_latex
from decaylab.tables.model import Cell, Column, Row, Table, to_csv, to_markdown
from decaylab.tables.source import SOURCE, Source

__all__ = [
    "TABLES",
    "Table",
    "TableSpec",
    "build",
    "to_csv",
    "to_latex",
    "to_markdown",
    "write",
]


@dataclass(frozen=True)
class TableSpec:
    """A table of the paper.

    shows: what it shows, in the caption. needs: the quantity without which there is no table. rows:
    makes the rows of one source. published: the paper's numbers. printed: what must be known of
    those.
    """

    title: str
    shows: str
    needs: str
    rows: Callable[[Source], Iterator[Row]]
    published: Callable[[], pd.DataFrame] | None = None
    printed: str = ""


COUNTS = ("problems", "rollouts")
MATH = "MATH-500, 500 problems x 4 samples"
BEST_STEP = "best step on the test problems; answer rule not stated"
TABLES: Mapping[str, TableSpec] = {
    "prefix-curve": TableSpec(
        "Accuracy after a prefix",
        "How often an answer is right after so many tokens of the other policy, and paired on the "
        "same problems the "
        "difference to answers without a prefix. Still open: the rollouts that had not ended "
        "before that length",
        "accuracy after a prefix (accuracy of condition student-prefix, student or teacher)",
        of_tokens.prefix_curve,
        publication.prefix_curve,
        f"{MATH}; answer rule not stated; finished rollouts count as they stand",
    ),
    "main-results": TableSpec(
        "Main results",
        "Correct answers of base student, teacher and trained students (prefix-N is ESR at N "
        "tokens), and paired differences "
        "on the same problems",
        "avg_at_k",
        of_training.main_results,
        publication.main_results,
        f"{MATH}, HumanEval and HumanEval+ at T = 0, BFCL, 600 problems; {BEST_STEP}",
    ),
    "scaling": TableSpec(
        "Sizes and regimes of training",
        "Correct answers of base student, teacher and trained students by pair and by what is "
        "trained",
        "avg_at_k",
        of_training.scaling,
        publication.scaling,
        f"{MATH}; {BEST_STEP}",
    ),
    "n-sweep": TableSpec(
        "Accuracy against rollout length",
        "Training rollouts stop at N tokens (prefix-N is ESR at N). Over seeds: the interval is "
        "over training seeds and "
        "not over problems",
        "avg_at_k",
        of_training.n_sweep,
        publication.n_sweep,
        f"{MATH}; {BEST_STEP}",
    ),
    "token-selection": TableSpec(
        "Selectors at one budget of tokens",
        "Each arm takes the loss over the tokens that its selector chooses. Over seeds: the "
        "interval is over training seeds "
        "and not over problems",
        "avg_at_k",
        of_training.token_selection,
        publication.token_selection,
        f"{MATH}; {BEST_STEP}",
    ),
    "per-step": TableSpec(
        "Accuracy over checkpoints",
        "Correct answers of each checkpoint of each training run",
        "accuracy or avg_at_k of checkpoints by step",
        of_training.per_step,
        publication.per_step,
        f"{MATH}; HumanEval at T = 0; answer rule not stated",
    ),
    "efficiency": TableSpec(
        "Seconds and memory of a training step",
        "Seconds a step and the largest memory, by phase; ratios to full rollouts. Total: of "
        "seconds the sum of the phases, of "
        "memory the largest of them",
        "seconds_per_step",
        of_training.efficiency,
        publication.efficiency,
        "total memory is the sum of the phases there",
    ),
    "response-length": TableSpec(
        "Response lengths",
        "Length of the responses that each model wrote itself",
        "response_tokens_p50",
        of_tokens.response_length,
        publication.response_length,
        "characters / 3.5, called tokens there",
    ),
    "submode": TableSpec(
        "Sub-mode shares",
        "The student's likeliest token where the reverse KL is highest: its mean probability, and "
        "what it is to the teacher. "
        "Own: the highest tokens of the model itself; common: one set for all models; two modes: "
        "those of the set at which "
        "the teacher has a second choice",
        "equals_teacher_top1",
        of_tokens.submode,
        publication.submode,
        "the 10 % of each model's own tokens",
    ),
    "boxed-repetition": TableSpec(
        "Several boxes and repetition",
        "What responses look like, and how often they are right under each answer rule",
        "several_boxes_share",
        of_tokens.boxed_repetition,
        publication.boxed_repetition,
        "full rollout, 16 rollouts a problem; what counts as repetitive is not stated",
    ),
    "category-kl": TableSpec(
        "Reverse KL by kind of token and position",
        "Mean reverse KL of the student from the teacher",
        "reverse_kl by category",
        of_tokens.category_kl,
        publication.kl_by_category,
        "counts not stated",
    ),
    "high-kl-tokens": TableSpec(
        "Tokens of the highest reverse KL",
        "The tokens with the highest mean reverse KL of those that occur often enough; \u2423 is "
        "a space, \u21b5 a line's end",
        "token_mean_reverse_kl",
        of_tokens.high_kl_tokens,
        publication.high_kl_tokens,
        "at least 50 occurrences",
    ),
    "position-kl": TableSpec(
        "Reverse KL by position, before and after training",
        "Mean reverse KL of the student from the teacher by response position, and its change "
        "against base",
        "reverse_kl by position",
        of_tokens.position_kl,
        publication.position_kl,
        "read off the plot, +-0.03 nats",
    ),
    "choosing-n": TableSpec(
        "Choosing N",
        "The rollout lengths that the rules speak for, measured before training: where the "
        "cumulative reverse KL reaches a "
        "share of its total up to a horizon, and where the teacher has lost half of its advantage "
        "over the student",
        "cumulative_kl_position or half_decay_length",
        of_tokens.choosing_n,
    ),
}


def build(
    name: str,
    measurements: pd.DataFrame | None,
    published: pd.DataFrame | None = None,
    *,
    pair: str = "",
) -> Table:
    """A table from the measurements of one run, with the published rows below where they are given,
    or those alone.

    Args:
        name: one of `TABLES`.
        measurements: columns of `measurements.Measurement`; None: nothing was measured.
        published: the paper's rows, such as ``TABLES[name].published()``.
        pair: what the measured student and teacher are called.

    Raises:
        ValueError: no such table, or rows that lack the quantity that it shows.
        LookupError: several rows where one is needed: the measurements are not those of one run.
    """
    if name not in TABLES:
        raise ValueError(f"no table {name!r}; there are {', '.join(TABLES)}")
    spec = TABLES[name]
    sources = []
    if measurements is not None:
        sources.append(Source(measurements, pair=pair))
    if published is not None:
        sources.append(Source(published, published=True))
    if not sources:
        raise ValueError(
            f"nothing to show: neither measurements nor published rows hold {spec.needs}"
        )
    rows: list[Row] = []
    for source in sources:
        rows_of_source = [{**row, SOURCE: source.name} for row in spec.rows(source)]
        if not rows_of_source:
            kind = "published rows" if source.published else "measurements"
            raise ValueError(f"{kind} hold no {spec.needs}")
        rows += rows_of_source
    captions = [_of_source(source, spec) for source in sources]
    caption = " ".join([f"{spec.shows}.", *captions])
    return Table.of(spec.title, _without_constant_counts(rows), name=name, caption=caption)


def _without_constant_counts(rows: Sequence[Row]) -> list[Row]:
    """The rows without counts that are the same in every row: those stand in the caption."""
    counts: dict[tuple[Column, Cell], set[Cell]] = {}
    for row in rows:
        for column in row:
            if column.key in COUNTS:
                counts.setdefault((column, row[SOURCE]), set())
    for (column, source), values in counts.items():
        values |= {row.get(column, "") for row in rows if row[SOURCE] == source}
    vary = {column for (column, _), values in counts.items() if len(values) > 1}
    kept = []
    for row in rows:
        kept.append({c: cell for c, cell in row.items() if c.key not in COUNTS or c in vary})
    return kept


def _of_source(source: Source, spec: TableSpec) -> str:
    """What must be known to read the rows of one source: counts, intervals and answer rule, or what
    was not published."""
    used = source.used
    if source.published:
        remark = f"; {spec.printed}" if spec.printed else ""
        return f"Published: {publication.SOURCE}, single seed, no interval{remark}."
    parts = []
    if counts := [*filter(None, (_count(used[what], what) for what in COUNTS))]:
        parts.append(f"{' and '.join(counts)} behind a number")
    if methods := _names(used.loc[used["low"].notna(), "method"]):
        level = used["level"].iloc[0] * 100
        parts.append(f"brackets: {level:g} % intervals ({methods})")
    else:
        parts.append("no interval")
    if rules := _names(used["answer_rule"]):
        parts.append(f"answer rule {rules}")
    return f"Measured: {'; '.join(parts)}."


def _names(column: pd.Series[str]) -> str:
    return ", ".join(name for name in column.unique() if name)


def _count(counts: pd.Series[int], name: str) -> str:
    positive = counts[counts > 0]
    if positive.empty:
        return ""
    low, high = int(positive.min()), int(positive.max())
    return f"{low:,} {name}" if low == high else f"{low:,} to {high:,} {name}"


def write(table: Table, folder: Path, name: str) -> list[Path]:
    """Writes NAME.md, NAME.tex and NAME.csv into a folder; gives their paths.

    Raises:
        UserError: the folder cannot be written.
    """
    named = dataclasses.replace(table, name=name)
    texts = {"md": to_markdown(named), "tex": to_latex(named), "csv": to_csv(named)}
    for kind, text in texts.items():
        store.write_atomically(folder / f"{name}.{kind}", text.encode())
    return [folder / f"{name}.{kind}" for kind in texts]

"""What the diagnostics print: their measurements as tables, with intervals and noise floors.

Fractions are printed in per cent, all else in its unit. What is undefined is an en dash, and a line
below says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.claims import one_run
from decaylab.printing import UNDEFINED
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.skewed_cells import RARE_PROBLEMS
from decaylab.runs.vocabulary import (
    ABOVE_CAP,
    ALL,
    AT_BOUNDARIES,
    CUT_OFF,
    FINISHED,
    FRESH,
    FROZEN,
    LOG_RATIO_PER_BYTE,
    NEXT_BYTE_IS,
    RESPONSE_K3,
    RESPONSE_LOG_RATIO,
    SPAN_LOG_RATIO,
    SURVIVORS,
    kl_named,
    winsorised,
)
from decaylab.tables import of_responses, terminal
from decaylab.tables.by_model import (
    BRACKETS,
    Options,
    Parts,
    Places,
    bins,
    by_model,
    grouped,
    in_views,
    place,
    views,
)
from decaylab.tables.model import MARK, Number, Row, Table
from decaylab.tables.page import Page
from decaylab.tables.source import (
    GROUP,
    WHOLE,
    Source,
    bin_at,
    columns,
    positions,
    shown,
)

TOKENS_SHOWN, OVERLAPS_SHOWN = 10, 5
SERVED = "served-kl"  # by what vLLM returns: an approximation
ON_ROLLOUTS = ("behaviour", "evaluate")  # no token is scored
BASE_IS = "base: the student before training"
VIEWS = "fresh: each model on its own rollouts; frozen: every model on the rollouts of base"
NEXT_BYTE = (
    "next-byte KL: of student from teacher, of the byte that follows a boundary of both "
    "tokenizers, given the bytes so far as both have cut them; summed over one response it is no "
    "KL of whole texts, since other bytes have no such boundary (docs/two-tokenizers.md). Ranks: "
    "over the strings that are one token in both"
)
QUANTITIES = {
    "reverse_kl": "reverse KL",
    "forward_kl": "forward KL",
    "js": "JS divergence",
    "student_entropy": "student entropy",
    "teacher_entropy": "teacher entropy",
}
OF_RESPONSES = {
    "log-ratio, up to the budget": (RESPONSE_LOG_RATIO, ALL),
    "log-ratio, finished": (RESPONSE_LOG_RATIO, FINISHED),
    "log-ratio, cut off, up to the last span": (RESPONSE_LOG_RATIO, CUT_OFF),
    "k3, finished": (RESPONSE_K3, FINISHED),
    "log-ratio a byte, finished": (LOG_RATIO_PER_BYTE, FINISHED),
    "student entropy a token": ("student_entropy_per_own_token", ALL),
    "teacher entropy a token": ("teacher_entropy_per_own_token", ALL),
    "student entropy a byte": ("student_entropy_per_byte", ALL),
    "teacher entropy a byte": ("teacher_entropy_per_byte", ALL),
}
CURVES = {"survivors": "survivors: sum of the means by position", "mass": "sum over all tokens"}
TWO_MODES = ", two modes"  # ends the name of a set of tokens
KL = "reverse_kl"
POSITION, KIND, SET, SELECTOR = columns("diagnostic-labels")
QUANTITY, CURVE, SECOND, LARGEST_FLOOR, TOKEN = columns("more-labels")


def page(run: FoundRun) -> Page:
    """What was compared, the tables, what must be known to read them, and where the results are."""
    title, contents = PAGES[run.command]
    options, source = run.options, Source(run.measurements, notes=False)
    held, given, temperature, reading = "", "of the rollouts in", "", _reading
    figure: Path | None = run.folder / f"{run.command}.png"
    if run.command == SERVED:
        held, given, temperature, reading = ", held by vLLM,", "rollouts of", "1", _reading_served
    if run.command == SERVED or "probe" in run.record["identity"]:  # those draw none themselves
        figure = None
    elif run.command not in ON_ROLLOUTS:
        temperature = f"{options['score_temperature']:g}"
    advised = []
    if run.record.get("advice"):
        advised = [f"evidence, gain and cost: {run.folder / 'advice.txt'}"]
    return Page(
        title,
        f"{options['student']} with {options['teacher']}{held} as its teacher; "
        f"{terminal.asked(options, run.record['identity']['problems'], given)}"
        f"{temperature and f'; scored at temperature {temperature}'}",
        one_run.verdict(run),
        [_worded(part, run.measurements) for part in contents(source, options)],
        [*reading(run)],
        run.notes,
        [*advised, *terminal.measured_paths(run.folder, figure)],
        [f"scored tokens: {path}" for path in run.record.get("tokens") or ()],
        carrying=2 if run.command == "evaluate" else 1,  # accuracies, and what training changed
        brackets=BRACKETS.format(100 * source.frame["level"].iloc[0]),
    )


def _worded(part: Table | str, rows: pd.DataFrame) -> Table | str:
    """A part of the page, with the KL under its name."""
    words = partial(kl_named, rows=rows)
    return part.worded(words) if isinstance(part, Table) else words(part)


def _reading(run: FoundRun) -> Iterator[str]:
    """What the words and signs of the tables mean, and why a number or an interval is missing."""
    frame = run.measurements
    yield BASE_IS
    if run.command not in ON_ROLLOUTS:
        yield VIEWS
        if frame["estimand"].str.endswith(AT_BOUNDARIES).any():
            yield NEXT_BYTE
        if frame["what"].str.startswith(winsorised("")).any():
            yield (
                "winsorised: mean of the problems' means, the highest and the lowest tenth of the "
                "problems pulled in; the plain mean of a bin has no reliable interval, since one "
                "problem can make up much of it (largest problem, % of KL)"
            )
        if frame["noise_floor"].isna().all():
            yield "floor: not measured, since nothing was scored twice (--floor-problems)"
        else:
            yield (
                "floor: how much the same number changes with the route of scoring (one by one, "
                "in wider precision), over the rollouts scored twice; "
                f"{UNDEFINED} where they do not hold it"
            )
        if under := int(frame["under_floor"].sum()):
            yield (
                f"{MARK}: closer to no effect than twice its floor, so rounding may explain it "
                f"({under} of {len(frame)} numbers)"
            )
    notes = frame["note"].str.removeprefix(RARE_PROBLEMS).str.removeprefix("; ")
    noted = frame.assign(note=notes)[(notes != "") & (frame["what"] != "cumulative_kl_share")]
    for note, rows in noted.groupby("note", sort=False):
        whats = rows["what"].unique()
        yield undefined(note, rows, ", ".join(whats) if len(whats) < 3 else f"{len(rows)} numbers")


def undefined(reason: Any, rows: pd.DataFrame, which: str) -> str:
    """A remark on numbers, marked where all of them are undefined."""
    mark = f"{UNDEFINED}: " if rows["value"].isna().all() else ""
    return f"{mark}{reason} ({which} of {', '.join(rows['checkpoint'].unique())})"


def _reading_served(run: FoundRun) -> Iterator[str]:
    """The same of served-kl, whose numbers are bounds."""
    frame = run.measurements
    yield BASE_IS
    if len(run.record.get("tokens") or ()) > 1:
        yield VIEWS
    yield (
        "at least: the exact reverse KL is not known and not below it; a difference of two bounds "
        "bounds nothing. Mass: each policy's probability of the ids behind the bound, 100 where "
        "nothing can be missed"
    )
    yield (
        "log-ratio taken: mean of log student - log teacher of the tokens that were written, exact"
    )
    for note, rows in frame.groupby("note", sort=False):
        reason = str(note).partition("; ")[2]
        if reason not in ("", RARE_PROBLEMS):
            yield undefined(reason, rows, f"{len(rows)} numbers")


# The commands


def _position_kl(source: Source, options: Options) -> Parts:
    title = "Reverse KL of the student from the teacher by response position, nats"
    yield _curve(source, title, ALL)
    means = {name: {"what": f"mean_{what}", **WHOLE} for what, name in QUANTITIES.items()}
    title = "Means over the whole response, nats"
    yield grouped(title, source, QUANTITY, means, in_views(source))
    yield from _whole_responses(source)
    for span in source.spans("cascade_ratio"):
        title = (
            f"Cascade ratio: mean reverse KL from position {span[0]:.0f} on, after training over "
            "before (1: unchanged)"
        )
        rows = by_model(source, in_views(source), what="cascade_ratio", **bin_at(span))
        yield Table.of(title, rows)
    if (least := options["survivors"]) is not None:
        title = f"The same over the rollouts of at least {least} tokens alone, nats"
        yield _curve(source, title, SURVIVORS)


def _whole_responses(source: Source) -> Iterator[Table]:
    """What is measured with two tokenizers alone: no token of one is a token of the other."""
    if not source.values(SPAN_LOG_RATIO, "checkpoint"):
        return
    fresh = columns("in-views")[:2]
    next_byte = f"{NEXT_BYTE_IS}{winsorised(KL)}"
    if spans := source.spans(next_byte):
        by_position = {positions(span): {"what": next_byte, **bin_at(span)} for span in spans}
        title = "Next-byte KL of the student from the teacher by position, winsorised means, nats"
        yield grouped(title, source, POSITION, by_position, in_views(source))
    places: Places = {
        label: {"what": what, "condition": condition}
        for label, (what, condition) in OF_RESPONSES.items()
    }
    title = "Log-ratio of whole responses, student over teacher, and entropies, nats (fresh)"
    yield grouped(title, source, QUANTITY, places, fresh)
    by_span: Places = {}
    for label, span in bins(source, SPAN_LOG_RATIO).items():
        by_span[label] = {"what": SPAN_LOG_RATIO, "condition": ALL, **span}
    capped = {"next-byte KL above 10 nats": {"what": ABOVE_CAP}}
    yield grouped("Share of the boundaries, % (fresh)", source, QUANTITY, capped, fresh)
    title = (
        "Mean log-ratio of the spans that begin at a position, nats (fresh): a description, no KL, "
        "since where a span ends depends on later text"
    )
    yield grouped(title, source, POSITION, by_span, fresh)


def _curve(source: Source, title: str, condition: str) -> Table:
    if len(views(source)) > 1:
        title += " (fresh), and the geometric mean of the problems' changes from base"
    places = bins(source, KL, condition=condition)
    return grouped(title, source, POSITION, places, columns("curve"))


def _category_kl(source: Source, options: Options) -> Parts:
    kinds = source.values("kl_share", "category")
    for view in views(source):
        title = f"Share of the reverse KL by kind of token ({view}), and its mean, nats"
        places: Places = {kind: {"category": kind, "view": view, **WHOLE} for kind in kinds}
        yield grouped(title, source, KIND, places, columns("kinds"))
    title = (
        "Mean reverse KL by kind of token and response position, nats "
        "(fresh; the winsorised means in the measurements have intervals)"
    )
    yield Table.of(title, _kinds_by_position(source, kinds))
    title = (
        f"The {TOKENS_SHOWN} tokens of the highest mean reverse KL (fresh, nats) that occur at "
        f"least {options['min_count']} times; \u2423 is a space, \u21b5 a line's end"
    )
    yield Table.of(title, _highest(source))


def _kinds_by_position(source: Source, kinds: list[str]) -> Iterator[Row]:
    spans = []
    for label, span in bins(source, KL).items():
        at = tuple(span.items())
        spans.append(shown(KL, label, "thousandths", at=at, bare=True))
    for checkpoint in source.models:
        for kind in kinds:
            of_kind = {"checkpoint": checkpoint, "condition": ALL, "view": FRESH, "category": kind}
            floors = source.rows(KL, of_kind)["noise_floor"]
            cells = source.line(spans, of_kind)
            yield {GROUP: checkpoint, KIND: kind, **cells, LARGEST_FLOOR: Number(floors.max())}


def _highest(source: Source) -> Iterator[Row]:
    mean = "token_mean_reverse_kl"
    for checkpoint in source.models:
        fresh = {"checkpoint": checkpoint, "view": FRESH}
        for row in source.largest(mean, TOKENS_SHOWN, fresh):
            at = place(checkpoint, category=row.category, token=row.token) | WHOLE
            labels: Row = {GROUP: checkpoint, TOKEN: row.token, KIND: row.category}
            yield {**labels, **source.line(columns("tokens"), at)}


def _submode(source: Source, options: Options) -> Parts:
    trained = len(views(source)) > 1
    ranks = columns("ranks")
    common, own = ("common", FROZEN), [("own", FROZEN), ("own", FRESH)]
    title = (
        "The student's most likely token where the reverse KL is highest "
        f"({100 * options['share']:g} % of tokens): its mean probability, and what it is to the "
        "teacher, %"
    )
    yield Table.of(title, _sets(source, [common] if trained else own[1:]))
    meaning = ""
    if trained:
        title = "The same where the reverse KL of each model itself is highest, %"
        yield Table.of(title, _sets(source, own))
        rows: list[Row] = []
        for condition in ("common", f"common{TWO_MODES}"):
            at = {"condition": condition, "view": FROZEN, "ending": "_change"}
            rows += by_model(source, ranks, SET, condition, **at)
        yield Table.of("Change against base over the common set, points", rows)
        meaning = (
            "common: one frozen set, of the highest KL averaged over the models; own: the highest "
            "of the model itself; "
        )
    yield (
        f"{meaning}two modes: the tokens of a set at which the teacher gives its second token "
        f"{options['second_mode']:g} or more, and their share of it"
    )
    if rows := by_model(source, columns("verbose"), condition=""):
        yield Table.of("Verbose, against concise, responses (fresh)", rows)


def _sets(source: Source, sets: Sequence[tuple[str, str]]) -> list[Row]:
    """Each model on each of these sets of tokens, and on its tokens with two modes.

    sets: name and view of each.
    """
    shares, rows = (*columns("ranks"), *columns("of-set")), []
    for name, view in sets:
        for condition in (name, f"{name}{TWO_MODES}"):
            group = condition if name == "common" else f"{condition}, {view}"
            rows += by_model(source, shares, SET, group, condition=condition, view=view)
    return rows


def _signals(source: Source, options: Options) -> Parts:
    title = "The three signals by response position, winsorised means, nats (fresh)"
    places = bins(source, KL)
    yield grouped(title, source, POSITION, places, columns("signals"))
    title = (
        "The 16 most likely tokens of student and teacher: how many are in both, and the "
        "probability of those, winsorised, %"
    )
    yield grouped(title, source, POSITION, places, columns("overlaps"))
    (span,) = source.spans("cumulative_kl_position")
    curves = {words: {"condition": curve, **bin_at(span)} for curve, words in CURVES.items()}
    title = (
        f"N: the response tokens that hold {100 * options['cumulative_share']:g} % of the reverse "
        "KL up to the horizon"
    )
    yield grouped(title, source, CURVE, curves, columns("cumulative"))
    tops = []
    for top in source.values("kl_concentration", "condition"):
        name = top.replace("-", " ").replace(" percent", " %")
        tops.append(shown("kl_concentration", name, at=(("condition", top),)))
    title = "Concentration: share of a rollout's reverse KL in its tokens of the highest KL, %"
    yield Table.of(title, by_model(source, tops))
    selectors = source.values("selector_kl_share", "condition")
    title = (
        f"Selectors, each choosing {options['rollout_length']} tokens of a rollout: what they "
        "would train on"
    )
    places = {_product(name): {"condition": name} for name in selectors}
    yield grouped(title, source, SELECTOR, places, columns("selectors"))
    title = (
        f"The {OVERLAPS_SHOWN} pairs of selectors that agree most: chosen by both, of what either "
        "chooses"
    )
    yield Table.of(title, _overlaps(source))


def _overlaps(source: Source) -> Iterator[Row]:
    (overlap,) = columns("selector-pairs")
    for checkpoint in source.models:
        fresh = {"checkpoint": checkpoint, "view": FRESH}
        for pair in source.largest(overlap.of, OVERLAPS_SHOWN, fresh):
            first, other = _product(pair.condition).split("|")
            cells = source.line([overlap], place(checkpoint, pair.condition))
            yield {GROUP: checkpoint, SELECTOR: first, SECOND: other, **cells}


def _product(selector: str) -> str:
    """A selector by a product of signals, with the sign of multiplication apart."""
    return selector.replace("-x-", " x ")


def _served_kl(source: Source, options: Options) -> Parts:
    for view in views(source):
        places = bins(source, "reverse_kl_bound", what=winsorised(""), view=view)
        places["all"] = {"what": "mean_", "view": view, **WHOLE}
        title = (
            f"Approximation: a lower bound of the reverse KL by response position, nats ({view}); "
            "by bin the winsorised mean over problems, for the whole response the plain mean"
        )
        yield grouped(title, source, POSITION, places, columns("bound"))


PAGES: Mapping[str, tuple[str, Callable[[Source, Options], Parts]]] = {
    "position-kl": ("KL by position", _position_kl),
    "category-kl": ("KL by kind of token", _category_kl),
    "submode": ("Sub-mode commitment", _submode),
    "signals": ("The three signals", _signals),
    "behaviour": ("Rollout behaviour", of_responses.behaviour),
    SERVED: ("KL by position, approximated", _served_kl),
    "evaluate": ("Evaluation", of_responses.evaluate),
}

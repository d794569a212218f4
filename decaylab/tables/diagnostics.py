"""What the diagnostics print: their measurements as tables, intervals beside the numbers and the
noise floor beside each KL.

Fractions are printed in per cent, all else in its unit. What is undefined is n/a, and a line below
says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import RenderableType
from rich.markup import escape
from rich.text import Text

from decaylab.runs.skewed_cells import RARE_PROBLEMS
from decaylab.tables import evaluation, terminal
from decaylab.tables.diagnostic_cells import (
    MARK,
    WHOLE,
    Lines,
    Page,
    Span,
    brief,
    positions,
    sections,
    shown,
    small,
    spoken,
    with_floor,
)

if TYPE_CHECKING:
    from decaylab.commands.diagnose import DiagnosticResult


TOKENS_SHOWN, OVERLAPS_SHOWN = 10, 5
ON_ROLLOUTS = ("behaviour", "evaluate")  # no token is scored
QUANTITIES = {
    "reverse_kl": "reverse KL",
    "forward_kl": "forward KL",
    "js": "JS divergence",
    "student_entropy": "student entropy",
    "teacher_entropy": "teacher entropy",
}
ENTROPIES = {"student_entropy": "student entropy", "teacher_entropy": "teacher entropy"}
PLAIN = {"reverse_kl": "plain mean", "reverse_kl_largest_problem": "largest problem, %"}
RANKS = {
    "student_top1_probability": "its probability",
    "equals_teacher_top1": "is the teacher's 1st",
    "in_teacher_top2to5": "teacher's 2nd to 5th",
    "outside_teacher_top5": "beyond the 5th",
}
OVERLAPS = {
    "overlap_ratio": "in both top 16",
    "student_overlap_mass": "student's probability there",
    "teacher_overlap_mass": "teacher's probability there",
}
CURVES = {"survivors": "mean over rollouts still open", "mass": "sum over all tokens"}
LENGTHS = {
    "response_tokens_p10": "10th percentile",
    "response_tokens_p50": "median",
    "response_tokens_p90": "90th percentile",
    "response_tokens_mean": "mean",
    "natural_stop_share": "ended by itself, %",
}
TEXTS = {
    "repetition_3gram": "repeated 3-grams, %",
    "several_boxes_share": "several boxes, %",
    "boxes_mean": "boxes per response",
}


def print_diagnostic(result: DiagnosticResult) -> None:
    """What was compared, the tables, what must be known to read them, and where everything
    stands."""
    console = terminal.terminal()
    page, wrap = Page(result, console), not console.is_terminal
    title, contents = PAGES[result.command]
    console.print(f"\n[bold]{title}[/bold]: {escape(_compared(result))}", soft_wrap=wrap)
    for part in contents(page):
        console.print(part)
    console.print()
    for line in (*_reading(result), *(f"note: {note}" for note in result.notes)):
        console.print(f"- {line}", markup=False, emoji=False, soft_wrap=wrap)
    if result.advice:
        console.print(Text.assemble(("\nAdvice\n", "bold"), result.advice))
    console.print(_paths(result), markup=False, emoji=False, soft_wrap=True)


def _compared(result: DiagnosticResult) -> str:
    identity = result.record["identity"]
    options, problems = identity["options"], identity["problems"]
    scored = f"; scored at temperature {options['score_temperature']:g}"
    how = (
        f"x {options['samples']} samples at T = {options['temperature']:g}, budget "
        f"{options['max_tokens']} tokens"
    )
    if options.get("rollouts"):
        how = f"of the rollouts in {options['rollouts']}"
    return (
        f"{options['student']} with {options['teacher']} as its teacher; {problems['name']}, "
        f"{problems['asked']} problems "
        f"{how}{'' if result.command in ON_ROLLOUTS else scored}"
    )


def _reading(result: DiagnosticResult) -> Iterator[str]:
    """What the words and signs of the tables mean, and why a number or an interval is missing."""
    frame = result.measurements
    yield (
        f"base: the student before training. Brackets: {100 * frame['level'].iloc[0]:g} % "
        "intervals over problems"
    )
    if result.command not in ON_ROLLOUTS:
        yield "fresh: each model on its own rollouts; frozen: every model on the rollouts of base"
        if frame["what"].str.startswith("winsorised").any():
            yield (
                "winsorised: mean of the problems' means, the highest and the lowest tenth of the "
                "problems pulled in; no "
                "interval holds for the plain mean of a bin, of which one problem may hold much "
                "(largest problem, %)"
            )
        if frame["noise_floor"].isna().all():
            yield "floor: not measured, since nothing was scored twice (--floor-problems)"
        else:
            yield (
                "floor: how much the same number changes with the route of scoring (one by one, "
                "in wider precision), over "
                "the rollouts scored twice; n/a where they do not hold it"
            )
        if under := int(frame["under_floor"].sum()):
            yield (
                f"{MARK}: closer to no effect than twice its floor, so it says nothing ({under} "
                f"of {len(frame)} numbers)"
            )
    notes = frame["note"].str.removeprefix(RARE_PROBLEMS).str.removeprefix("; ")
    noted = frame.assign(note=notes)[(notes != "") & (frame["what"] != "cumulative_kl_share")]
    for note, rows in noted.groupby("note", sort=False):
        missing, whats = "n/a: " if rows["value"].isna().all() else "", list(rows["what"].unique())
        which = ", ".join(whats) if len(whats) < 3 else f"{len(rows)} numbers"
        yield f"{missing}{note} ({which} of {', '.join(rows['checkpoint'].unique())})"


def _paths(result: DiagnosticResult) -> str:
    folder = result.folder
    lines = [f"figure: {folder / result.command}.png  (and .svg)"]
    lines += [f"measurements: {folder / 'measurements.csv'}  (and .parquet)"]
    lines += [f"scored tokens: {path}" for path in result.tokens]
    return "\n" + "\n".join(lines)


# The commands


def _position_kl(page: Page) -> Iterator[RenderableType]:
    yield _curve(
        page, "all", "Reverse KL of the student from the teacher by response position, nats"
    )
    columns = [name for view in page.views for name in (view, "floor")]

    def both(what: str, checkpoint: str, span: Span) -> list[str]:
        return with_floor(
            *(page.find(what, checkpoint, view=view, span=span) for view in page.views)
        )

    def means(checkpoint: str) -> Lines:
        return [
            [words, *both(f"mean_{what}", checkpoint, WHOLE)] for what, words in QUANTITIES.items()
        ]

    yield page.table(
        "Means over the whole response, nats", ["quantity", *columns], page.by_model(means)
    )
    for span in page.spans("cascade_ratio"):
        rows = [
            [name, *both("cascade_ratio", name, span)]
            for name in page.checkpoints
            if name != "base"
        ]
        title = (
            f"Cascade ratio: mean reverse KL from position {span[0]:.0f} on, after training "
            "over before (1: unchanged)"
        )
        yield page.table(title, ["model", *columns], rows)
    if (least := page.options["survivors"]) is not None:
        yield _curve(
            page, "survivors", f"The same over the rollouts of at least {least} tokens alone, nats"
        )


def _curve(page: Page, condition: str, title: str) -> RenderableType:
    changed = {f"change {view}, %": view for view in page.views} if page.trained else {}

    def bins(checkpoint: str) -> Lines:
        lines = []
        for span in page.spans("reverse_kl"):
            row = page.find("winsorised_reverse_kl", checkpoint, condition, span=span)
            changes = (
                page.find(
                    "winsorised_reverse_kl_relative_change", checkpoint, condition, view, span=span
                )
                for view in changed.values()
            )
            plain = page.shown(PLAIN, checkpoint, condition, span=span)
            lines.append(
                [
                    positions(span),
                    *with_floor(row),
                    *map(shown, changes),
                    *plain,
                    str(row.tokens),
                    str(row.problems),
                ]
            )
        return lines

    columns = ["position", "winsorised", "floor", *changed, *PLAIN.values(), "tokens", "problems"]
    return page.table(
        f"{title}{' (fresh), and its change against base' * page.trained}",
        columns,
        page.by_model(bins),
    )


def _category_kl(page: Page) -> Iterator[RenderableType]:
    kinds, spans = page.values("category", "kl_share"), page.spans("reverse_kl")

    def by_position(checkpoint: str) -> Lines:
        found = {
            kind: [page.find("reverse_kl", checkpoint, span=span, category=kind) for span in spans]
            for kind in kinds
        }
        floors = {
            kind: pd.Series([row.noise_floor for row in rows]).max() for kind, rows in found.items()
        }
        return [[kind, *map(brief, rows), small(floors[kind])] for kind, rows in found.items()]

    title = "Mean reverse KL by kind of token and response position, nats "
    title += "(fresh; the winsorised means in the measurements have intervals)"
    yield page.table(
        title, ["kind", *map(positions, spans), "floor up to"], page.by_model(by_position)
    )

    def shares(view: str, checkpoint: str) -> Lines:
        lines = []
        for kind in kinds:
            at: dict[str, Any] = {"span": WHOLE, "category": kind}
            row = page.find("mean_reverse_kl", checkpoint, view=view, **at)
            held = page.shown(("token_share", "kl_share"), checkpoint, "all", view, **at)
            robust = page.shown(["winsorised_mean_reverse_kl"], checkpoint, "all", view, **at)
            lines.append([kind, str(row.tokens), *held, *with_floor(row), *robust])
        return lines

    columns = ["kind", "tokens", "% of tokens", "% of the KL", "mean KL", "floor", "winsorised"]
    for view in page.views:
        title = f"What each kind of token holds of the reverse KL ({view}), and its mean, nats"
        yield page.table(title, columns, page.by_model(partial(shares, view)))

    def highest(checkpoint: str) -> Lines:
        rows = page.frame[
            (page.frame["what"] == "token_mean_reverse_kl")
            & (page.frame["checkpoint"] == checkpoint)
        ]
        rows = rows[rows["view"] == "fresh"].sort_values("value", ascending=False, kind="stable")
        lines = []
        for row in rows.head(TOKENS_SHOWN).itertuples():
            at: dict[str, Any] = {"span": WHOLE, "category": row.category, "token": row.token}
            others = page.shown(
                ("winsorised_token_mean_reverse_kl", "token_kl_share"), checkpoint, "all", **at
            )
            lines.append(
                [str(row.token), str(row.category), str(row.tokens), *with_floor(row), *others]
            )
        return lines

    title = (
        f"The {TOKENS_SHOWN} tokens of the highest mean reverse KL (fresh, nats) that occur at "
        "least "
        f"{page.options['min_count']} times; \u2423 is a space, \u21b5 a line's end"
    )
    columns = ["token", "kind", "count", "mean KL", "floor", "winsorised", "% of the KL"]
    yield page.table(title, columns, page.by_model(highest), words=2)


def _submode(page: Page) -> Iterator[RenderableType]:
    ranks, sets = [*RANKS.values()], [("common", "frozen"), ("own", "frozen"), ("own", "fresh")]
    sets = [
        (f"{name}{part}", view)
        for name, view in sets[-3 if page.trained else -1 :]
        for part in ("", ", two modes")
    ]

    def shares(condition: str, view: str) -> Lines:
        found = {
            name: page.find("equals_teacher_top1", name, condition, view)
            for name in page.checkpoints
        }
        whats = (*RANKS, "two_mode_share")
        return [
            [name, *page.shown(whats, name, condition, view), str(row.tokens)]
            for name, row in found.items()
        ]

    def changes(condition: str) -> Lines:
        whats = [f"{what}_change" for what in RANKS]
        return [
            [name, *page.shown(whats, name, condition, "frozen")]
            for name in page.checkpoints
            if name != "base"
        ]

    title = (
        "The student's most likely token where the reverse KL is highest "
        f"({100 * page.options['share']:g} % of tokens): "
        "its mean probability, and what it is to the teacher, %"
    )
    rows = sections(
        (name if name.startswith("common") else f"{name}, {view}", shares(name, view))
        for name, view in sets
    )
    yield page.table(title, ["set of tokens", *ranks, "two modes", "tokens"], rows)
    if page.trained:
        rows = sections((name, changes(name)) for name in ("common", "common, two modes"))
        yield page.table(
            "Change against base over the common set, points", ["set of tokens", *ranks], rows
        )
    common = (
        "common: one frozen set, of the highest KL averaged over the models; own: the "
        "highest of the model itself; "
    )
    yield Text(
        f"\n{common * page.trained}two modes: the tokens of a set at which the teacher gives its "
        "second token "
        f"{page.options['second_mode']:g} or more, and their share of it"
    )
    if len(terminal.pick(page.frame, "wordy_share", "")):
        rows = [
            [name, *page.shown(("wordy_share", "wordy_share_change"), name, "")]
            for name in page.checkpoints
        ]
        yield page.table(
            "Wordy, against terse, responses (fresh)", ["model", "wordy, %", "change, points"], rows
        )


def _signals(page: Page) -> Iterator[RenderableType]:
    def bins(checkpoint: str) -> Lines:
        lines = []
        for span in page.spans("reverse_kl"):
            row = page.find("winsorised_reverse_kl", checkpoint, span=span)
            entropies = page.shown(
                map("winsorised_{}".format, ENTROPIES), checkpoint, "all", span=span
            )
            plain = page.shown(PLAIN, checkpoint, "all", span=span)
            lines.append(
                [
                    positions(span),
                    *entropies,
                    *with_floor(row),
                    *plain,
                    str(row.tokens),
                    str(row.problems),
                ]
            )
        return lines

    columns = [
        "position",
        *ENTROPIES.values(),
        "reverse KL",
        "floor",
        *PLAIN.values(),
        "tokens",
        "problems",
    ]
    title = "The three signals by response position, winsorised means, nats (fresh)"
    yield page.table(title, columns, page.by_model(bins))

    def top16(checkpoint: str) -> Lines:
        return [
            [
                positions(span),
                *page.shown(map("winsorised_{}".format, OVERLAPS), checkpoint, "all", span=span),
            ]
            for span in page.spans("reverse_kl")
        ]

    title = (
        "The 16 most likely tokens of student and teacher: how many are in both, and the "
        "probability of those, "
        "winsorised, %"
    )
    yield page.table(title, ["position", *OVERLAPS.values()], page.by_model(top16))

    def lengths(checkpoint: str) -> Lines:
        lines = []
        for curve, words in CURVES.items():
            (span,) = page.spans("cumulative_kl_position")
            found = page.find("cumulative_kl_position", checkpoint, curve, span=span)
            horizon = page.find("cumulative_kl_horizon", checkpoint, curve, span=span)
            lines.append(
                [
                    words,
                    *with_floor(found),
                    f"{horizon.value:.0f}",
                    str(found.rollouts),
                    str(found.problems),
                ]
            )
        return lines

    title = (
        f"N: the response tokens that hold {100 * page.options['cumulative_share']:g} % of "
        "the reverse KL up to the horizon"
    )
    columns = ["KL cumulated as", "N, tokens", "floor", "horizon, tokens", "rollouts", "problems"]
    yield page.table(title, columns, page.by_model(lengths))
    tops = page.values("condition", "kl_concentration")
    rows = [
        [name, *(shown(page.find("kl_concentration", name, top)) for top in tops)]
        for name in page.checkpoints
    ]
    title = "Concentration: share of a rollout's reverse KL in its tokens of the highest KL, %"
    yield page.table(
        title, ["model", *(top.replace("-", " ").replace(" percent", " %") for top in tops)], rows
    )
    yield from _selectors(page)


def _selectors(page: Page) -> Iterator[RenderableType]:
    whats, names = (
        ("selector_kl_share", "selector_mean_position"),
        page.values("condition", "selector_kl_share"),
    )
    title = (
        f"Selectors, each choosing {page.options['rollout_length']} tokens of a rollout: what "
        "they would train on"
    )
    rows = page.by_model(
        lambda checkpoint: [[spoken(name), *page.shown(whats, checkpoint, name)] for name in names]
    )
    yield page.table(title, ["selector", "% of the KL", "mean position"], rows)

    def strongest(checkpoint: str) -> Lines:
        rows = page.frame[
            (page.frame["what"] == "selector_overlap") & (page.frame["checkpoint"] == checkpoint)
        ]
        rows = (
            rows.dropna(subset="value")
            .sort_values("value", ascending=False, kind="stable")
            .head(OVERLAPS_SHOWN)
        )
        return [[*spoken(str(row.condition)).split("|"), shown(row)] for row in rows.itertuples()]

    title = (
        f"The {OVERLAPS_SHOWN} pairs of selectors that agree most: chosen by both, of what "
        "either chooses"
    )
    yield page.table(title, ["selector", "and", "overlap, %"], page.by_model(strongest), words=2)


def _thoughts(page: Page) -> dict[str, str]:
    """The column of rollouts that end inside a thought; none where none does."""
    rows = page.frame[page.frame["what"] == "open_thought_share"]
    return {"open_thought_share": "open thought, %"} if (rows["value"] > 0).any() else {}


def _behaviour(page: Page) -> Iterator[RenderableType]:
    def lines(whats: Sequence[str], condition: str = "") -> Lines:
        found = ((name, page.shown(whats, name, condition)) for name in page.checkpoints)
        return [[name, *cells] for name, cells in found if any(cells)]

    for title, whats in (
        ("Response length in tokens, and its change against base", LENGTHS),
        ("Repetition and boxed answers, and their change against base", TEXTS | _thoughts(page)),
    ):
        levels, changes = lines([*whats]), lines([f"{what}_change" for what in whats])
        under = [None, *sections([("change", changes)])] if changes else []
        yield page.table(title, ["model", *whats.values()], [*levels, *under])
    counts = [
        page.find("accuracy", name, page.values("condition", "accuracy")[0])
        for name in page.checkpoints
    ]
    yield Text(
        "rollouts and problems: "
        + "; ".join(f"{row.checkpoint} {row.rollouts} and {row.problems}" for row in counts)
    )
    rules = page.values("condition", "accuracy")
    named = {"accuracy": "right", "no_answer_share": "no answer found"}

    def grades(what: str) -> Lines:
        found = (
            (name, [shown(page.find(what, name, rule)) for rule in rules])
            for name in page.checkpoints
        )
        return [[name, *cells] for name, cells in found if any(cells)]

    rows = sections(
        (f"{words}{told}", grades(f"{what}{end}"))
        for what, words in named.items()
        for end, told in (("", ""), ("_change", ", change against base"))
    )
    columns = ["model", *(page.judged("accuracy", rule) for rule in rules)]
    yield page.table("Accuracy under each answer rule, %", columns, rows)


PAGES: Mapping[str, tuple[str, Callable[[Page], Iterator[RenderableType]]]] = {
    "position-kl": ("KL by position", _position_kl),
    "category-kl": ("KL by kind of token", _category_kl),
    "submode": ("Sub-mode commitment", _submode),
    "signals": ("The three signals", _signals),
    "behaviour": ("Rollout behaviour", _behaviour),
    "evaluate": ("Evaluation", evaluation.contents),
}

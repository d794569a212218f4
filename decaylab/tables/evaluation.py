"""What ``decaylab evaluate`` prints: each model by the reported rule, the checkpoint rules,
differences, every answer rule."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from decaylab.tables import terminal
from decaylab.tables.diagnostic_cells import Lines, Page, sections, shown

OTHERS = {"base": "base", "teacher": "the teacher"}
CHECKPOINT_RULES = ("last", "best")


def contents(page: Page) -> Iterator[RenderableType]:
    one = _Evaluation(page)
    yield one.levels()
    if any(one.taken.values()):
        yield one.checkpoint_rules()
    for other in OTHERS:
        if rows := one.differences(other):
            title = f"Less {OTHERS[other]} on the same problems, by the rule {one.rule}, points"
            yield page.table(title, ["model", "difference", "p (Holm)", "detectable"], rows)
    yield one.answer_rules()
    yield Text(
        "\np (Holm): sign-flip test, corrected over the checkpoints that a table holds for the "
        "same quantity; detectable: the "
        "smallest true difference that this many problems would show with a power of 80 %"
    )


class _Evaluation:
    """The measurements of one evaluation as tables. named: the quantities and how they are printed,
    avg@4."""

    def __init__(self, page: Page) -> None:
        self.page, samples = page, int(page.options["samples"])
        self.average = f"avg_at_{samples}"
        self.rules = page.values("condition", self.average)
        self.rule = self.rules[0]  # the reported one
        passes = {
            str(what)
            for what in page.frame["what"]
            if str(what).removeprefix("pass_at_").isdecimal()
        }
        several = sorted(
            passes - {"pass_at_1"}, key=lambda what: int(what.removeprefix("pass_at_"))
        )  # pass@1 is avg@k
        self.named = {
            what: what.replace("_at_", "@")
            for what in (self.average, f"maj_at_{samples}", *several)
        }
        views = {view: page.frame[page.frame["view"] == view] for view in CHECKPOINT_RULES}
        self.taken = {
            view: [str(name) for name in rows["checkpoint"].unique()]
            for view, rows in views.items()
        }

    def label(self, name: str) -> str:
        """The model, and the checkpoint rules that take it."""
        rules = [view for view, names in self.taken.items() if name in names]
        return f"{name} ({', '.join(rules)})" if rules else name

    def levels(self) -> RenderableType:
        rows = [
            [self.label(name), *self.page.shown(self.named, name, self.rule)]
            for name in self.page.checkpoints
        ]
        return self.page.table(
            f"Right by the rule {self.page.judged(self.average, self.rule)}, %",
            ["model", *self.named.values()],
            rows,
        )

    def against(self, what: str, other: str, name: str, view: str = "fresh") -> list[str]:
        """A difference and its corrected p-value; nothing where there is no such comparison."""
        difference = self.page.find(f"{what}_minus_{other}", name, self.rule, view)
        return (
            []
            if difference is None
            else [shown(difference), terminal.p_value(difference.p_value_holm)]
        )

    def checkpoint_rules(self) -> RenderableType:
        rows = [
            [view, name, shown(self.page.find(self.average, name, self.rule, view))]
            + [cell for other in OTHERS for cell in self.against(self.average, other, name, view)]
            for view, names in self.taken.items()
            for name in names
        ]
        label = self.named[self.average]
        columns = [
            "rule",
            "checkpoint",
            label,
            "less base",
            "p (Holm)",
            "less the teacher",
            "p (Holm)",
        ]
        return self.page.table(
            f"What each checkpoint rule takes, {label} by {self.rule}, %", columns, rows, words=2
        )

    def differences(self, other: str) -> list[list[str] | None]:
        def lines(what: str) -> Lines:
            found = ((name, self.against(what, other, name)) for name in self.page.checkpoints)
            return [
                [self.label(name), *cells, self.least(f"{what}_minus_{other}_detectable", name)]
                for name, cells in found
                if cells
            ]

        return sections((label, lines(what)) for what, label in self.named.items())

    def least(self, what: str, name: str) -> str:
        return shown(self.page.find(what, name, self.rule))

    def answer_rules(self) -> RenderableType:
        def lines(ending: str) -> Lines:
            what = self.average + ending
            found = (
                (name, [shown(self.page.find(what, name, rule)) for rule in self.rules])
                for name in self.page.checkpoints
            )
            return [[self.label(name), *cells] for name, cells in found if any(cells)]

        endings = {
            "": "right",
            **{f"_minus_{other}": f"less {words}" for other, words in OTHERS.items()},
        }
        rows = sections((words, lines(ending)) for ending, words in endings.items())
        title = f"{self.named[self.average]} under each answer rule, %"
        return self.page.table(
            title, ["model", *(self.page.judged(self.average, rule) for rule in self.rules)], rows
        )

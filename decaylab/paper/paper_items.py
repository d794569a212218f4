"""Every figure and table of arXiv 2605.27028: what it shows, what it needs, what draws it;
docs/paper.md tells it in prose.

A figure is drawn by ``figures/MODULE.py`` from the measurements of one run, a table by
`paper_tables.build`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from decaylab.errors import UserError
from decaylab.paper import publication
from decaylab.runs.found_runs import FoundRun

SWEEP = ("sweep rollout-length", "sweep selector")
ARMS = r"avg_at_\d+(_minus_(full|base))?|mean_selected_position|selected_kl_share"
# what stands in place of a command where no measurement is needed but rollouts to look at
VIEWED = "viewed tokens"


@dataclass(frozen=True)
class PaperItem:
    """A figure or table.

    name: on the command line and of its files. place: in the paper. question: what one reads off
    it. commands: whose runs can hold what it needs; none: it needs no run. needs: the quantities
    (``what``) that must all be there.
    makes: the command line that measures it. published: the paper's numbers in the same shape.
    shows: a pattern of the quantities that are drawn.
    """

    name: str
    kind: Literal["figure", "table"]
    title: str
    place: str
    question: str
    commands: tuple[str, ...]
    needs: tuple[str, ...]
    makes: str
    published: Callable[[], pd.DataFrame] | None = None
    shows: str = ".*"

    @property
    def module(self) -> str:
        """Of a figure, under ``figures``."""
        return self.name.replace("-", "_")

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The measurements behind the figure: its quantities, by the answer rule that is reported,
        the first one."""
        rules = [rule for rule in dict.fromkeys(frame["answer_rule"]) if rule]
        drawn = frame["what"].str.fullmatch(self.shows) & frame["answer_rule"].isin(
            ["", *rules[:1]]
        )
        return frame[drawn]

    def within(self, run: FoundRun) -> bool:
        """Whether the run holds what is needed."""
        return run.command in self.commands and run.holds(self.needs)


FIGURES = (
    PaperItem(
        "prefix-decay",
        "figure",
        "Teacher accuracy after k student tokens",
        "Fig. 1 left",
        "How far into a rollout does the teacher still correct it?",
        ("prefix-decay",),
        ("accuracy", "accuracy_difference"),
        "decaylab prefix-decay --controls all",
        publication.prefix_curve,
    ),
    PaperItem(
        "n-sweep",
        "figure",
        "Accuracy against rollout length",
        "Fig. 1 right",
        "At which N should a rollout stop?",
        ("sweep rollout-length",),
        ("mean_selected_position",),
        "decaylab sweep rollout-length --values 5,10,20,40,60,full --seeds 3",
        publication.n_sweep,
        ARMS,
    ),
    PaperItem(
        "case-study",
        "figure",
        "One rollout, first and last 100 tokens",
        "Fig. 2 left",
        "What do the tokens look like at which the two disagree?",
        (VIEWED,),
        (),
        "decaylab position-kl",
    ),
    PaperItem(
        "token-selection",
        "figure",
        "Selectors at one budget of tokens",
        "Fig. 2 right, table of section 5.1",
        "Which tokens are worth training on?",
        ("sweep selector",),
        ("mean_selected_position",),
        "decaylab sweep selector --values prefix,full,random,top-reverse-kl --seeds 3",
        publication.token_selection,
        ARMS,
    ),
    PaperItem(
        "three-signals",
        "figure",
        "Entropies and reverse KL by position",
        "Fig. 3 left",
        "What do the signals look like along a rollout?",
        ("signals",),
        ("winsorised_student_entropy", "winsorised_teacher_entropy", "winsorised_reverse_kl"),
        "decaylab signals",
        publication.three_signals,
        "(winsorised_)?(student_entropy|teacher_entropy|reverse_kl)",
    ),
    PaperItem(
        "position-kl",
        "figure",
        "Reverse KL by position, before and after training",
        "Fig. 3 right",
        "Does the KL fall at positions that were never trained?",
        ("position-kl",),
        ("winsorised_reverse_kl",),
        "decaylab position-kl runs/esr runs/full",
        publication.position_kl,
        "(mean_|winsorised_)?reverse_kl.*|(mean_|winsorised_)?(student|teacher)_entropy|cascade_ratio",
    ),
    PaperItem(
        "mode-seeking",
        "figure",
        "Forward and reverse KL fits to a bimodal teacher",
        "Fig. 4",
        "Why does reverse KL commit to a mode?",
        (),
        (),
        "",
    ),
    PaperItem(
        "cumulative-kl",
        "figure",
        "Cumulative KL and N",
        "the rule for choosing N",
        "Where does the KL of a rollout lie?",
        ("signals",),
        ("cumulative_kl_share",),
        "decaylab signals",
        shows="cumulative_kl_.*",
    ),
    PaperItem(
        "category-map",
        "figure",
        "Reverse KL by token category and position",
        "category table",
        "What kind of token holds the KL, and where?",
        ("category-kl",),
        ("reverse_kl",),
        "decaylab category-kl",
        publication.kl_by_category,
        "(winsorised_)?(mean_)?reverse_kl|kl_share|token_share",
    ),
    PaperItem(
        "high-kl-tokens",
        "figure",
        "Tokens of the highest reverse KL",
        "table of high-KL tokens",
        "At which tokens do the two disagree most?",
        ("category-kl",),
        ("token_mean_reverse_kl",),
        "decaylab category-kl",
        publication.high_kl_tokens,
        "token_(mean_reverse_kl|kl_share)",
    ),
    PaperItem(
        "submode",
        "figure",
        "Sub-mode shares",
        "behaviour table, right",
        "Does training commit the student to the teacher's second choice?",
        ("submode",),
        ("in_teacher_top2to5",),
        "decaylab submode runs/esr runs/full",
        publication.submode,
    ),
    PaperItem(
        "response-length",
        "figure",
        "Response lengths",
        "behaviour table, left",
        "Do responses grow or shrink?",
        ("behaviour",),
        ("response_tokens_p50",),
        "decaylab behaviour runs/esr runs/full",
        publication.response_length,
        "response_tokens_.*",
    ),
    PaperItem(
        "stability",
        "figure",
        "Accuracy over checkpoints",
        "per-step tables",
        "Does a student fall after its best step?",
        SWEEP,
        ("peak_accuracy",),
        "decaylab sweep rollout-length --values 20,full --seeds 3",
        publication.per_step,
        "(peak_|last_|lowest_)?accuracy|peak_minus_(last|lowest)",
    ),
    PaperItem(
        "boxed-repetition",
        "figure",
        "Several boxes and repetition",
        "boxed repetition table",
        "Is a collapse one of content, or of the answer rule?",
        ("behaviour",),
        ("several_boxes_share",),
        "decaylab behaviour runs/full/step-*",
        publication.boxed_repetition,
        "several_boxes_share|boxes_mean|repetition_3gram|natural_stop_share|accuracy",
    ),
    PaperItem(
        "efficiency",
        "figure",
        "Seconds and memory of a training step",
        "efficiency table",
        "What does stopping early save?",
        SWEEP,
        ("seconds_per_step",),
        "decaylab sweep rollout-length --values 20,full --seeds 3 --workers 1",
        publication.efficiency,
        "seconds_.*|peak_(gib|ratio)|tokens_(ratio|sampled_per_step)",
    ),
    PaperItem(
        "evaluation",
        "figure",
        "Accuracy of checkpoints beside base and teacher",
        "main table",
        "Is the trained student better?",
        ("evaluate",),
        (),
        "decaylab evaluate runs/esr runs/full",
        shows=r"(avg|maj|pass)_at_\d+(_minus_base)?",
    ),
)


def _table(
    name: str,
    title: str,
    place: str,
    like: str,
    published: Callable[[], pd.DataFrame] | None = None,
    *,
    needs: tuple[str, ...] | None = None,
) -> PaperItem:
    """A table of what a figure shows. like: the figure whose runs hold it. needs: where they are
    others than the figure's."""
    one = next(figure for figure in FIGURES if figure.name == like)
    wanted = one.needs if needs is None else needs
    return PaperItem(
        name,
        "table",
        title,
        place,
        one.question,
        one.commands,
        wanted,
        one.makes,
        published or one.published,
    )


TABLES = (
    _table(
        "prefix-curve", "Teacher accuracy after k student tokens", "Fig. 1 left", "prefix-decay"
    ),
    _table(
        "main-results",
        "Student, teacher and trained students",
        "main table",
        "evaluation",
        publication.main_results,
    ),
    PaperItem(
        "scaling",
        "table",
        "Full fine-tuning and model sizes",
        "full fine-tuning and scaling table",
        "Does it hold at other sizes?",
        (),
        (),
        "",
        publication.scaling,
    ),
    _table("n-sweep", "Accuracy by rollout length", "Fig. 1 right", "n-sweep"),
    _table(
        "token-selection",
        "Selectors at one budget of tokens",
        "table of section 5.1",
        "token-selection",
    ),
    _table("per-step", "Accuracy over checkpoints", "per-step tables", "stability"),
    _table("efficiency", "Seconds and memory of a training step", "efficiency table", "efficiency"),
    _table("response-length", "Response lengths", "behaviour table, left", "response-length"),
    _table("submode", "Sub-mode shares", "behaviour table, right", "submode"),
    _table(
        "boxed-repetition",
        "Several boxes and repetition",
        "boxed repetition table",
        "boxed-repetition",
    ),
    _table(
        "category-kl", "Reverse KL by token category and position", "category table", "category-map"
    ),
    _table(
        "high-kl-tokens",
        "Tokens of the highest reverse KL",
        "table of high-KL tokens",
        "high-kl-tokens",
    ),
    _table("position-kl", "Reverse KL by position", "Fig. 3 right", "position-kl"),
    _table(
        "choosing-n", "Choosing N by the cumulative KL", "the rule for choosing N", "cumulative-kl"
    ),
)


def item(name: str, items: Sequence[PaperItem]) -> PaperItem:
    """The item of that name.

    Raises:
        UserError: there is none; lists those that there are.
    """
    found = [one for one in items if one.name == name]
    if not found:
        kind = items[0].kind
        raise UserError(f"no {kind} {name!r}; there are {', '.join(one.name for one in items)}")
    return found[0]

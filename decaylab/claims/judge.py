"""Which claims of the paper and of the literature hold on a pair, by the measurements of its runs.

findings = judge(runs)          # one a claim, in the order of `CLAIMS`
findings[1].verdict, findings[1].sentence

Each claim has its rule (`Claim.rule`), and all have this one (`RULE`).
"""

from __future__ import annotations

from collections.abc import Sequence

from decaylab.claims import on_behaviour, on_decay, on_sweeps, on_tokens
from decaylab.claims.verdicts import (
    CONTRADICTED,
    HOLDS,
    LEAST_PROBLEMS,
    LEAST_STEPS,
    NOT_MEASURED,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    SHOWN_IN_SDS,
    UNDECIDED,
    Claim,
    Finding,
    Judged,
    Rule,
    Verdict,
)
from decaylab.maths.seeds import APART, FACTOR, LEAST_SEEDS
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import to_frame

__all__ = ["CLAIMS", "RULE", "Claim", "Finding", "Verdict", "judge"]
RULE = (
    "Each claim states an effect with its direction and the smallest size that counts. It holds "
    "where the effect is shown: "
    "the 95 % interval over problems lies on its side of none, and the p-value, where there is "
    "one, corrected by Holm, is "
    "below 0.05. It is contradicted where the opposite is shown and a size that counts is not "
    "excluded; not supported where "
    "neither is shown and the interval excludes an effect of the size that counts; not testable "
    "here where the interval holds "
    "both none and an effect that counts, and then the finding says what would test it. Where one "
    "of several numbers would do, "
    "their intervals are corrected for how many they are. Two numbers without a paired difference "
    "are held apart by the ends "
    "of their intervals. Of trained students the interval over training seeds must say the same "
    "as the one over problems; "
    f"fewer than {LEAST_SEEDS} seeds are undecided, and so are seeds that disagree: neighbours "
    f"more than {100 * APART:g} "
    f"points (25 for shares of responses) and four standard errors apart, a factor of {FACTOR:g} "
    "for ratios, half of the "
    "length for lengths. How many seeds would decide is by the noncentral t at 0.05 over the "
    "numbers compared, for 80 % power "
    f"and an effect of {SHOWN_IN_SDS:g} standard deviations between seeds. At least "
    f"{LEAST_PROBLEMS} problems, and "
    f"{LEAST_STEPS} steps of training, stand behind every verdict. Intervals at less than 95 % "
    "and numbers under twice their "
    "noise floor decide nothing. Of several runs that measured a claim the one with the most "
    "problems decides, of those that "
    "can; where another decides otherwise, the claim is undecided."
)
AGAINST = {CONTRADICTED, NOT_SUPPORTED}
_RULES: dict[str, tuple[Claim, Rule]] = {
    claim.name: (claim, rule)
    for claim, rule in (*on_decay.RULES, *on_tokens.RULES, *on_sweeps.RULES, *on_behaviour.RULES)
}
_ORDER = (
    *("own-prefix", "teacher-decay", "content", "early-kl", "concentrated-kl"),
    *(
        "early-stopping-beats-full",
        "peak-between",
        "cascade",
        "selectors-worse",
        "first-beats-last",
    ),
    *("falling-weights", "rising-weights", "sub-mode"),
    *("collapse", "several-boxes", "shorter-responses", "longer-responses", "cheaper"),
)
CLAIMS: tuple[Claim, ...] = tuple(_RULES[name][0] for name in _ORDER)


def judge(runs: Sequence[FoundRun]) -> list[Finding]:
    """What the runs of one pair say of every claim, in the order of `CLAIMS`; the first is a
    control."""
    return [_finding(*_RULES[claim.name], runs) for claim in CLAIMS]


def _finding(claim: Claim, rule: Rule, runs: Sequence[FoundRun]) -> Finding:
    asked = [run for run in runs if run.command in claim.commands]
    judged = [(run, found) for run in asked if (found := rule(run)) is not None]
    if not judged:
        return Finding(claim, NOT_MEASURED, f"`{claim.needs}` measures it.", to_frame([]))
    order = {UNDECIDED: 1, NOT_TESTABLE: 2}  # of what decides nothing, after what does
    (run, found), *others = sorted(
        judged,
        key=lambda one: (
            order.get(one[1].verdict, 0),
            -_problems(one[1]),
            claim.commands.index(one[0].command),
        ),
    )
    conflict = [
        other
        for other in others
        if HOLDS in (pair := {other[1].verdict, found.verdict}) and pair & AGAINST
    ]
    said = [f"{found.sentence} {_where(run, found)}"]
    said += [
        f"{other.name} by itself says otherwise ({its.verdict}): {its.sentence}"
        for other, its in conflict
    ]
    rows = [*found.rows, *(row for _, its in conflict for row in its.rows)]
    return Finding(claim, UNDECIDED if conflict else found.verdict, " ".join(said), to_frame(rows))


def _problems(found: Judged) -> int:
    return max(row.problems for row in found.rows)


def _where(run: FoundRun, found: Judged) -> str:
    """Which run it is, and how much stands behind it."""
    counts = {"problems": _problems(found), "rollouts": max(row.rollouts for row in found.rows)}
    told = [f"{count:,} {name}" for name, count in counts.items() if count]
    return f"({', '.join([run.name, *told])})"

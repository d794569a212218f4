"""Which claims of the paper and of the literature hold on a pair, by the measurements of its runs.

findings = judge(runs)          # one a claim, in the order of `CLAIMS`
findings[1].verdict, findings[1].sentence

Each claim has its rule (`Claim.rule`), and all have this one (`RULE`).
"""

from __future__ import annotations

from collections.abc import Sequence

from decaylab import behaviour_claims, decay_claims, sweep_claims, token_claims
from decaylab.found_runs import FoundRun
from decaylab.measurements import to_frame
from decaylab.verdicts import CONTRADICTED, HOLDS, NOT_MEASURED, UNDECIDED, Claim, Finding, Judged, Rule, Verdict

__all__ = ["CLAIMS", "RULE", "Claim", "Finding", "Verdict", "judge"]
RULE = (
    "A number lies above (or below) another where its 95 % interval over problems does and its p-value, where it has one, "
    "corrected by Holm, is below 0.05; where several training seeds stand behind it, the interval over the seeds must say the "
    "same. Two numbers without a paired difference are apart where their intervals do not touch. Intervals at less than 95 % "
    "and numbers under twice their noise floor decide nothing. What no rule decides is undecided, whatever the numbers look "
    "like. Of several runs that measured a claim the one with the most problems decides; where another decides otherwise, the "
    "claim is undecided."
)
_RULES: dict[str, tuple[Claim, Rule]] = {
    claim.name: (claim, rule)
    for claim, rule in (*decay_claims.RULES, *token_claims.RULES, *sweep_claims.RULES, *behaviour_claims.RULES)
}
_ORDER = (
    *("own-prefix", "teacher-decay", "content", "early-kl", "concentrated-kl"),
    *("early-stopping-beats-full", "peak-between", "cascade", "selectors-worse", "first-beats-last"),
    *("falling-weights", "rising-weights", "sub-mode"),
    *("collapse", "several-boxes", "shorter-responses", "longer-responses", "cheaper"),
)
CLAIMS: tuple[Claim, ...] = tuple(_RULES[name][0] for name in _ORDER)


def judge(runs: Sequence[FoundRun]) -> list[Finding]:
    """What the runs of one pair say of every claim, in the order of `CLAIMS`; the first is a control."""
    return [_finding(*_RULES[claim.name], runs) for claim in CLAIMS]


def _finding(claim: Claim, rule: Rule, runs: Sequence[FoundRun]) -> Finding:
    asked = [run for run in runs if run.command in claim.commands]
    judged = [(run, found) for run in asked if (found := rule(run)) is not None]
    if not judged:
        return Finding(claim, NOT_MEASURED, f"`{claim.needs}` measures it.", to_frame([]))
    (run, found), *others = sorted(judged, key=lambda one: (-_problems(one[1]), claim.commands.index(one[0].command)))
    conflict = [other for other in others if {other[1].verdict, found.verdict} == {HOLDS, CONTRADICTED}]
    said = [f"{found.sentence} {_where(run, found)}"]
    said += [f"{other.name} by itself says otherwise ({its.verdict}): {its.sentence}" for other, its in conflict]
    rows = [*found.rows, *(row for _, its in conflict for row in its.rows)]
    return Finding(claim, UNDECIDED if conflict else found.verdict, " ".join(said), to_frame(rows))


def _problems(found: Judged) -> int:
    return max((row.problems for row in found.rows), default=0)


def _where(run: FoundRun, found: Judged) -> str:
    """Which run it is, and how much stands behind it."""
    counts = {"problems": _problems(found), "rollouts": max((row.rollouts for row in found.rows), default=0)}
    told = [f"{count:,} {name}" for name, count in counts.items() if count]
    return f"({', '.join([run.name, *told])})"

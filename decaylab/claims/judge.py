"""Judges which claims of the literature hold on a pair, by the measurements of its runs.

findings = judge(runs)          # one per claim, in the order of `CLAIMS`
findings[1].verdict, findings[1].sentence

`claims.toml` states the claims; the modules ``on_*`` judge each with the rule of its name. `RULE`
states the common rule.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib import resources

from decaylab.claims import on_behaviour, on_decay, on_scores, on_sweeps, on_tokens, on_values
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
    Verdict,
)
from decaylab.maths.seeds import APART, FACTOR, LEAST_SEEDS
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import to_frame

__all__ = ["CLAIMS", "RULE", "RULES", "Claim", "Finding", "Verdict", "judge"]
RULE = (
    "Each claim states an effect: its direction, and the smallest size that counts. The claim "
    "holds if the effect is shown: the 95 % interval over problems lies entirely on the claimed "
    "side of no effect, and the Holm-corrected p-value, if any, is below 0.05. It is contradicted "
    "if the opposite is shown and a size that counts is not excluded. It is not supported if "
    "neither is shown and the interval excludes an effect of the size that counts. It is not "
    "testable here if the interval contains both no effect and an effect that counts; the finding "
    "then states what would test it. If one of several numbers is enough, their intervals are "
    "corrected for the number of comparisons. Two numbers without a paired difference are "
    "compared by the ends of their intervals. For trained students, the interval over training "
    "seeds must agree with the one over problems. A claim is undecided with fewer than "
    f"{LEAST_SEEDS} seeds or if seeds disagree: neighbours more than {100 * APART:g} points (25 "
    "for shares of responses) and four standard errors apart, a factor of "
    f"{FACTOR:g} for ratios, half of the length for lengths. The number of seeds needed follows "
    "from the noncentral t at 0.05 over the numbers compared, for 80 % power and an effect of "
    f"{SHOWN_IN_SDS:g} standard deviations between seeds. Every verdict needs at least "
    f"{LEAST_PROBLEMS} problems and {LEAST_STEPS} training steps. Intervals at less than 95 % and "
    "numbers under twice their noise floor are not used. If several runs measured a claim, the "
    "run with the most problems among those that can decide it counts; if another one disagrees, "
    "the claim is undecided."
)
AGAINST = {CONTRADICTED, NOT_SUPPORTED}
RULES = {
    **on_decay.RULES,
    **on_scores.RULES,
    **on_tokens.RULES,
    **on_sweeps.RULES,
    **on_behaviour.RULES,
    **on_values.RULES,
}


def _claims() -> tuple[Claim, ...]:
    text = resources.files("decaylab.claims").joinpath("claims.toml").read_text(encoding="utf-8")
    claims = []
    for entry in tomllib.loads(text)["claim"]:
        claims.append(Claim(**{**entry, "commands": tuple(entry["commands"])}))
    return tuple(claims)


CLAIMS = _claims()


def judge(runs: Sequence[FoundRun]) -> list[Finding]:
    """The findings of one pair's runs on every claim, in the order of `CLAIMS`; the first is a
    control."""
    return [_finding(claim, runs) for claim in CLAIMS]


def _finding(claim: Claim, runs: Sequence[FoundRun]) -> Finding:
    judged = []
    for run in runs:
        result = RULES[claim.name](run) if run.command in claim.commands else None
        if result is not None:
            judged.append((run, result))
    if not judged:
        return Finding(claim, NOT_MEASURED, f"`{claim.needs}` measures it.", to_frame([]))
    order = {UNDECIDED: 1, NOT_TESTABLE: 2}  # after the verdicts that decide

    def rank(result: tuple[FoundRun, Judged]) -> tuple[int, int, int]:
        run, found = result
        place = claim.commands.index(run.command)
        return order.get(found.verdict, 0), -_problems(found), place

    (run, found), *others = sorted(judged, key=rank)
    sentences, rows = [f"{found.sentence} {_where(run, found)}"], [*found.rows]
    verdict: Verdict = found.verdict
    for other, theirs in others:
        pair = {found.verdict, theirs.verdict}
        if HOLDS in pair and pair & AGAINST:
            verdict = UNDECIDED
            rows += theirs.rows
            sentences.append(f"{other.name} alone disagrees ({theirs.verdict}): {theirs.sentence}")
    return Finding(claim, verdict, " ".join(sentences), to_frame(rows))


def _problems(found: Judged) -> int:
    return max(row.problems for row in found.rows)


def _where(run: FoundRun, found: Judged) -> str:
    """The run's name and its amounts of data, the most behind any of the numbers."""
    counts = {
        "problems": {row.problems for row in found.rows},
        "rollouts": {row.rollouts for row in found.rows},
    }
    parts = [
        f"{'up to ' * (len(some) > 1)}{max(some):,} {name}"
        for name, some in counts.items()
        if max(some)
    ]
    return f"({', '.join([run.name, *parts])})"

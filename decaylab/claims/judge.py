"""Which claims of the paper and of the literature hold on a pair, by the measurements of its runs.

findings = judge(runs)          # one per claim, in the order of `CLAIMS`
findings[1].verdict, findings[1].sentence

The claims are `claims.toml`, in words; what judges each is the rule of its name in the modules
``on_*``. All are judged by the one rule that `RULE` states.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib import resources

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
    Verdict,
)
from decaylab.maths.seeds import APART, FACTOR, LEAST_SEEDS
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import to_frame

__all__ = ["CLAIMS", "RULE", "RULES", "Claim", "Finding", "Verdict", "judge"]
RULE = (
    "Each claim states an effect with its direction and the smallest size that counts. It holds "
    "where the effect is shown: the 95 % interval over problems lies on its side of none, and "
    "the p-value, where there is one, corrected by Holm, is below 0.05. It is contradicted "
    "where the opposite is shown and a size that counts is not excluded; not supported where "
    "neither is shown and the interval excludes an effect of the size that counts; not testable "
    "here where the interval holds both none and an effect that counts, and then the finding "
    "says what would test it. Where one of several numbers would do, their intervals are "
    "corrected for how many they are. Two numbers without a paired difference are held apart by "
    "the ends of their intervals. Of trained students the interval over training seeds must say "
    f"the same as the one over problems; fewer than {LEAST_SEEDS} seeds are undecided, and so "
    f"are seeds that disagree: neighbours more than {100 * APART:g} points (25 for shares of "
    f"responses) and four standard errors apart, a factor of {FACTOR:g} for ratios, half of the "
    "length for lengths. How many seeds would decide is by the noncentral t at 0.05 over the "
    f"numbers compared, for 80 % power and an effect of {SHOWN_IN_SDS:g} standard deviations "
    f"between seeds. At least {LEAST_PROBLEMS} problems, and {LEAST_STEPS} steps of training, "
    "stand behind every verdict. Intervals at less than 95 % and numbers under twice their "
    "noise floor decide nothing. Of several runs that measured a claim the one with the most "
    "problems decides, of those that can; where another decides otherwise, the claim is "
    "undecided."
)
AGAINST = {CONTRADICTED, NOT_SUPPORTED}
RULES = {**on_decay.RULES, **on_tokens.RULES, **on_sweeps.RULES, **on_behaviour.RULES}


def _claims() -> tuple[Claim, ...]:
    text = resources.files("decaylab.claims").joinpath("claims.toml").read_text(encoding="utf-8")
    claims = []
    for entry in tomllib.loads(text)["claim"]:
        claims.append(Claim(**{**entry, "commands": tuple(entry["commands"])}))
    return tuple(claims)


CLAIMS = _claims()


def judge(runs: Sequence[FoundRun]) -> list[Finding]:
    """What the runs of one pair say about every claim, in the order of `CLAIMS`; the first is a
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
    order = {UNDECIDED: 1, NOT_TESTABLE: 2}  # of what decides nothing, after what does

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
            sentences.append(
                f"{other.name} by itself says otherwise ({theirs.verdict}): {theirs.sentence}"
            )
    return Finding(claim, verdict, " ".join(sentences), to_frame(rows))


def _problems(found: Judged) -> int:
    return max(row.problems for row in found.rows)


def _where(run: FoundRun, found: Judged) -> str:
    """Which run it is, and how much data is behind it."""
    counts = {"problems": _problems(found), "rollouts": max(row.rollouts for row in found.rows)}
    parts = [f"{count:,} {name}" for name, count in counts.items() if count]
    return f"({', '.join([run.name, *parts])})"

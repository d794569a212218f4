"""The results of a pair's sweeps, those trained and tested in the same way together."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from decaylab.claims.advice_candidates import (
    FULL_ROLLOUTS,
    MORE,
    Candidate,
    Measured,
    Setting,
)
from decaylab.claims.sweep_arms import Arms
from decaylab.claims.verdicts import CONTRADICTED, HOLDS
from decaylab.claims.wording import listed, points
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.vocabulary import BASE, FULL, minus

# Options that differ between the arms of a sweep, or change neither training nor test.
OF_AN_ARM = ("selector", "rollout_length", "budget", "seed", "seeds", "over", "values")
OF_RECORDS = ("bins", "checkpoint_every", "batch_tokens", "test_limit")
GRADED = ("answer rule", "checkpoint rule")
RULES_DIFFER = "by different rules"


class Sweep(NamedTuple):
    """A sweep that compares accuracies. way: the options of training and test that its arms
    share."""

    run: FoundRun
    arms: Arms
    way: Mapping[str, Hashable]

    @classmethod
    def of(cls, run: FoundRun) -> Sweep | None:
        arms = Arms.of(run)
        if arms is None:
            return None
        runs = run.record.get("identity", {}).get("runs") or {}
        full = [one for one in runs.values() if one.get("selector") == FULL]
        training = full[0].get("training") if full else None
        shared = {**run.options, **(training if isinstance(training, Mapping) else {})}
        shared.pop("checkpoint_rule", None)
        way = {
            name: str(value)
            for name, value in shared.items()
            if name not in (*OF_AN_ARM, *OF_RECORDS)
        }
        way |= dict(zip(GRADED, (arms.at["condition"], arms.at["view"]), strict=True))
        return cls(run, arms, way)

    @property
    def trained(self) -> frozenset[tuple[str, Hashable]]:
        return frozenset(item for item in self.way.items() if item[0] not in GRADED)

    @property
    def next_seed(self) -> int:
        """The first training seed above its own."""
        options = self.run.options
        counted = int(options.get("seed") or 0) + int(options.get("seeds") or 0)
        rows = self.arms.rows
        seeds = [row.training_seed for row in rows if math.isfinite(row.training_seed)]
        return max([counted, *(int(seed) + 1 for seed in seeds)])


@dataclass(frozen=True)
class Compared:
    """The results of sweeps that trained and tested in the same way.

    candidates: each setting once, in the order of the runs, without full rollouts. full: accuracy
    of full rollouts against the untrained student, or None. conflicts: settings on which two sweeps
    of the same training disagree, with a description. notes: which results were pooled or left out.
    sweeps: what was compared.
    """

    candidates: tuple[Candidate, ...] = ()
    full: Candidate | None = None
    conflicts: Mapping[Setting, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sweeps: tuple[Sweep, ...] = ()

    @classmethod
    def of(cls, sweeps: Sequence[Sweep], others: Sequence[Sweep] = ()) -> Compared:
        """others: sweeps of the same training that were graded differently."""
        found = _settings(sweeps)
        next_seed = max((sweep.next_seed for sweep in sweeps), default=0)
        candidates = [
            Candidate.of(setting, measured, len(found), next_seed)
            for setting, measured in found.items()
        ]
        elsewhere = _settings(others)
        conflicts = {}
        for setting, measured in found.items():
            if conflict := _conflict(setting, [*measured, *elsewhere.get(setting, ())]):
                conflicts[setting] = conflict
        notes = [note for each in candidates for note in _notes(each, found[each.setting])]
        notes += [note for sweep in sweeps for note in _unpaired(sweep)]
        full = _measured(sweeps, FULL, lambda what: minus(what, BASE))
        reference = Candidate.of(FULL_ROLLOUTS, full, 1, next_seed) if full else None
        return cls(tuple(candidates), reference, conflicts, tuple(notes), tuple(sweeps))

    def those(self, verdict: str) -> list[Candidate]:
        return [each for each in self.candidates if each.verdict == verdict]

    @property
    def names(self) -> str:
        return listed(sweep.run.name for sweep in self.sweeps)

    def differs(self, other: Compared) -> str:
        """How the training or test of these sweeps differs from that of others: ``learning rate
        0.01 instead of 0.0001``."""
        mine, theirs = self.sweeps[0].way, other.sweeps[0].way
        names = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
        return listed(
            f"{name.replace('_', ' ')} {mine.get(name, 'default')} instead of "
            f"{theirs.get(name, 'default')}"
            for name in names
        )

    @property
    def table(self) -> pd.DataFrame:
        """One row per candidate."""
        return pd.DataFrame([_row(each) for each in self.candidates], columns=list(COLUMNS))


def compare(runs: Sequence[FoundRun]) -> list[Compared]:
    """The results of a pair's sweeps. Sweeps that trained or tested in another way are compared
    apart; first those whose settings have known gains, then those whose best setting reaches the
    highest accuracy over the untrained student, then those with the most results."""
    groups: dict[frozenset[tuple[str, Hashable]], list[Sweep]] = {}
    sweeps = [sweep for run in runs if (sweep := Sweep.of(run))]
    for sweep in sweeps:
        groups.setdefault(frozenset(sweep.way.items()), []).append(sweep)
    compared = []
    for same in groups.values():
        trained = same[0].trained
        others = [each for each in sweeps if each not in same and each.trained == trained]
        compared.append(Compared.of(same, others))
    return sorted(filter(lambda each: each.candidates, compared), key=_weight, reverse=True)


def _weight(compared: Compared) -> tuple[bool, float, int]:
    known = [each for each in compared.candidates if each.gain.known]
    reached = compared.full.number.value if compared.full else -math.inf
    best = max([0.0, *(each.gain.low for each in known)])
    results = sum(each.number.seeds * each.parts[0].problems for each in compared.candidates)
    return bool(known), reached + best, results


def _settings(sweeps: Sequence[Sweep]) -> dict[Setting, list[Measured]]:
    """Each setting with its difference from full rollouts in each sweep."""
    every: dict[Setting, list[Measured]] = {}
    for run, arms, _ in sweeps:
        what, numbers = minus(arms.what, FULL), arms.numbers(list(arms.selectors))
        for arm, number in numbers.items():
            setting = Setting(arms.selectors[arm], arms.lengths[arm], arm)
            measured = Measured(run, arms, arm, what, number, len(numbers))
            every.setdefault(setting, []).append(measured)
    return every


def _measured(sweeps: Sequence[Sweep], arm: str, what: Callable[[str], str]) -> list[Measured]:
    """One quantity of an arm in each sweep that has it."""
    found = []
    for run, arms, _ in sweeps:
        number = arms.number(arm, what(arms.what)) if arm in arms.selectors else None
        if number is not None:
            found.append(Measured(run, arms, arm, what(arms.what), number, 1))
    return found


def _conflict(setting: Setting, found: Sequence[Measured]) -> str:
    """How one sweep shows a setting to be better and another shows it to be worse, or ""."""
    graded = {(each.arms.at["condition"], each.arms.at["view"]) for each in found}
    shown: dict[str, str] = {}
    for each in found:
        verdict = each.number.decided(MORE, each.rivals)
        if verdict in (HOLDS, CONTRADICTED):
            rule = f" (answer rule {each.arms.at['condition']}, {each.arms.at['view']} checkpoint)"
            row = each.number.over_problems[0]
            shown[verdict] = f"{points(row)} in {each.run.name}{rule if len(graded) > 1 else ''}"
    if len(shown) < 2:
        return ""
    how = f", {RULES_DIFFER}" if len(graded) > 1 else ""
    return f"two sweeps disagree on {setting.arm}{how}: {listed(shown.values())}"


def _notes(candidate: Candidate, found: Sequence[Measured]) -> list[str]:
    """Which sweeps of a setting were pooled, and which were left out. Sweeps may share runs."""
    notes, arm = [], candidate.setting.arm
    if len(candidate.parts) > 1:
        names = listed(part.run.name for part in candidate.parts)
        notes.append(f"{arm} is the mean over {candidate.number.seeds} training seeds of {names}")
    others = [
        each.run.name
        for each in found
        if each not in candidate.parts
        and not set(each.number.by_seed) <= set(candidate.number.by_seed)
    ]
    if others:
        used = listed(part.run.name for part in candidate.parts)
        notes.append(f"for {arm}, {used} is used, the more precise result, not {listed(others)}")
    return notes


def _unpaired(sweep: Sweep) -> list[str]:
    """Arms that no training seed of full rollouts is paired with."""
    arms = sweep.arms
    alone = [arm for arm in arms.selectors if arm != FULL]
    numbers = arms.numbers(alone)
    missing = [arm for arm in alone if arm not in numbers]
    if not numbers or not missing:
        return []
    return [
        f"in {sweep.run.name}, {listed(missing)} has no training seed in common with full rollouts "
        "and is not compared"
    ]


COLUMNS = (
    "arm",
    "selector",
    "rollout_length",
    "verdict",
    "measured_gain",
    "problems_low",
    "problems_high",
    "gain_at_even_odds",
    "low",
    "high",
    "among",
    "seeds",
    "problems",
    "tokens_ratio",
    "seconds_ratio",
    "run",
)


def _row(each: Candidate) -> dict[str, Any]:
    gain, tokens, seconds = each.gain, each.tokens, each.seconds
    over_problems = each.number.over_problems[0]
    return {
        "arm": each.setting.arm,
        "selector": each.setting.selector,
        "rollout_length": each.setting.rollout_length,
        "verdict": each.verdict,
        "measured_gain": gain.measured,
        "problems_low": over_problems.low,
        "problems_high": over_problems.high,
        "gain_at_even_odds": gain.even_odds,
        "low": gain.low,
        "high": gain.high,
        "among": gain.among,
        "seeds": each.number.seeds,
        "problems": each.parts[0].problems,
        "tokens_ratio": tokens.value if tokens else math.nan,
        "seconds_ratio": seconds.value if seconds else math.nan,
        "run": listed(part.run.name for part in each.parts),
    }

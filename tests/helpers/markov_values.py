"""Values along rollouts of Markov policies: what a run would measure, and its truth.

law = ValueLaw(markov.decaying_world(), 12, (0, 2, 4))
law.value("teacher", 4)              # mean over the student's rollouts unfinished there
law.covariance(2, 4)                 # of a segment's score with the change of value, by writing
                                     # out every text that the segment can hold
law.auroc_of_position(problems, samples)      # expected concordant pairs over expected pairs
rollouts, tokens = collected(...)    # by the product's own stages
prefixes = sampled(...)              # the prefixes alone, for thousands of runs
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markov import (
    END,
    FIRST_KIND,
    GOLD,
    RULE,
    TOKENS,
    DecayLaw,
    Floats,
    MarkovEngine,
    MemoryFolder,
    World,
    decaying_world,
    draw_problems,
    gold,
    grade,
    paths,
)

from decaylab.analyses import value_signals, values
from decaylab.progress import Reporter
from decaylab.rollouts.sampling import SamplingSettings
from decaylab.rollouts.stages import Stages, StageSettings
from decaylab.rollouts.value_draws import ValueDraws, ValuePlan
from decaylab.runs import measurements
from decaylab.runs.graded import Judge
from decaylab.runs.value_prefixes import SCORES, SIGNALS, Settings

ANSWERS = np.array([TOKENS.index(letter) for letter in GOLD])
LOG_RATIO = "log-ratio so far"
DIGITS = 9  # sums of logarithms are equal up to here


class ValueLaw:
    """The expectation of what is measured of values. Sums are over (kind, last token, position)."""

    def __init__(self, world: World, max_tokens: int, grid: Sequence[int]) -> None:
        self.decay, self.grid, self.max_tokens = (
            DecayLaw(world, max_tokens),
            tuple(grid),
            max_tokens,
        )
        self._values: dict[tuple[str, int], Floats] = {}
        self.student, self.teacher = world.student.law, world.teacher.law
        self.shares = np.array(world.shares)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.ratios = np.log(self.teacher) - np.log(self.student)

    def value(self, author: str, position: int) -> float:
        return self.decay.mean(self.at(author, position), "student", position)

    def at(self, author: str, position: int) -> Floats:
        """The value of a prefix of this length by its last token, [kinds, last token]."""
        if (author, position) not in self._values:
            room = self.max_tokens - position
            self._values[author, position] = self.decay.right(author, room)
        return self._values[author, position]

    def advantage(self, position: int) -> float:
        return self.value("teacher", position) - self.value("student", position)

    def covariance(self, start: int, end: int) -> float:
        """Of the summed log teacher / student of a segment with the change of the student's value,
        over the rollouts that are unfinished at its start."""
        moments = np.zeros(4)
        reach = self.shares[:, None] * self.decay.reach("student", start)
        for kind, last in zip(*np.nonzero(reach), strict=True):
            for text, chance in paths(self.student, kind, last, end - start):
                score, final = self._scored(kind, last, text, end - start)
                change = final - self.at("student", start)[kind, last]
                if len(text) == end - start:
                    change += self.at("student", end)[kind, text[-1]]
                weight = reach[kind, last] * chance
                moments += weight * np.array([1.0, score, change, score * change])
        mass, score, change, both = moments
        return float(both / mass - score / mass * change / mass)

    def _scored(
        self, kind: int, last: int, text: tuple[int, ...], room: int
    ) -> tuple[float, float]:
        """The score of a text, with its end where it has one; and its outcome, 0 while it lasts."""
        score, place = 0.0, last
        for token in text:
            score += self.ratios[kind, place, token]
            place = token
        if len(text) == room:
            return score, 0.0
        return score + self.ratios[kind, place, END], float(place == ANSWERS[kind])

    # AUROC: expected concordant pairs over expected pairs of a right and a wrong continuation

    def auroc_of_position(self, problems: int, samples: int) -> float:
        """Over all prefixes behind position 0."""
        sums = np.zeros(2)
        for right, wrong in product(self.grid[1:], repeat=2):
            one, other = self._masses(right)[0], self._masses(wrong)[1]
            pairs = problems * (problems - 1) * samples**2 * (one.sum() * other.sum())
            by_kind = (one.sum(axis=1) * other.sum(axis=1) / self.shares).sum()
            pairs += problems * samples * (samples - 1) * by_kind
            if right != wrong:
                pairs += problems * samples * self._along(right, wrong)
            sums += pairs * np.array([(right > wrong) + 0.5 * (right == wrong), 1.0])
        return float(sums[0] / sums[1])

    def _masses(self, position: int) -> tuple[Floats, Floats]:
        """P(unfinished there, and a continuation is right), and wrong, [kinds, last token]."""
        reach = self.shares[:, None] * self.decay.reach("student", position)
        value = self.at("student", position)
        return reach * value, reach * (1 - value)

    def _along(self, right: int, wrong: int) -> float:
        """P(a rollout is unfinished at both, and a continuation is right at one, wrong at the
        other)."""
        first, second = min(right, wrong), max(right, wrong)
        moved = self.student.copy()
        moved[:, :, END] = 0.0
        steps = np.stack([np.linalg.matrix_power(law, second - first) for law in moved])
        reach = self.shares[:, None] * self.decay.reach("student", first)
        here, there = self.at("student", first), self.at("student", second)
        if right < wrong:
            there = 1 - there
        else:
            here = 1 - here
        return float(np.einsum("ku,kuv,kv->", reach * here, steps, there))

    def auroc_of_log_ratio(self, problems: int, samples: int, same_problem: bool) -> float:
        """At one position: over all problems, or of one problem."""
        sums = np.zeros(2)
        for position in self.grid[1:]:
            cells = self._texts(position)
            for (kind, score, right, _), (its, lower, _, wrong) in product(cells, repeat=2):
                number = 0.0 if same_problem else problems * (problems - 1) * samples**2
                if kind == its:
                    number += problems * samples * (samples - 1) / self.shares[kind]
                pairs = number * right * wrong
                sums += pairs * np.array([(score > lower) + 0.5 * (score == lower), 1.0])
        return float(sums[0] / sums[1])

    def _texts(self, position: int) -> list[tuple[int, float, float, float]]:
        """Kind, log-ratio and masses of right and wrong continuations, by log-ratio."""
        cells: dict[tuple[int, float], Floats] = {}
        for kind, share in enumerate(self.shares):
            for text, chance in paths(self.student, kind, 0, position):
                if len(text) == position:
                    score = round(self._scored(kind, 0, text, position)[0], DIGITS)
                    value = self.at("student", position)[kind, text[-1]]
                    mass = share * chance * np.array([value, 1 - value])
                    cells[kind, score] = cells.get((kind, score), np.zeros(2)) + mass
        return [(*key, *mass.tolist()) for key, mass in cells.items()]


# Runs


def sampled(
    law: ValueLaw, problems: int, samples: int, draws: int, rng: np.random.Generator
) -> pd.DataFrame:
    """The prefixes of one run as `value_prefixes.prefixes` gives them, without a table of rollouts.
    Of the signals, position and log-ratio are those of the law; all others repeat the position."""
    kinds = np.repeat(rng.choice(len(GOLD), problems, p=law.shares), samples)
    last, ratio = np.zeros_like(kinds), np.zeros(kinds.size)
    written, is_open = np.zeros_like(kinds), np.ones(kinds.size, dtype=bool)
    at: dict[int, tuple[Any, ...]] = {}
    for position in range(law.max_tokens + 1):
        at[position] = last.copy(), ratio.copy(), is_open.copy()
        steps = law.student[kinds, last].cumsum(axis=1)
        token = np.minimum((steps <= rng.random(kinds.size)[:, None]).sum(axis=1), len(TOKENS) - 1)
        if position < law.max_tokens:
            ratio += np.where(is_open, law.ratios[kinds, last, token], 0.0)
        is_open = is_open & (token != END)
        if position < law.max_tokens:
            written += is_open
            last = np.where(is_open, token, last)
    outcome = (last == ANSWERS[kinds]).astype(np.int64)
    tables = []
    for start, end in zip(law.grid, (*law.grid[1:], law.max_tokens), strict=True):
        last, before, rows = at[start]
        columns = {
            "rollout_id": np.arange(kinds.size),
            "problem": np.arange(kinds.size) // samples,
            "position": start,
            "written": written,
            "outcome": outcome,
            "score": at[end][1] - before,
        }
        value = {role: law.at(role, start)[kinds, last] for role in ("student", "teacher")}
        for name, of, size in (
            *(("student", "student", draws), ("teacher", "teacher", draws)),
            *(("first", "student", draws // 2), ("second", "student", draws - draws // 2)),
        ):
            columns |= {f"{name}_right": rng.binomial(size, value[of]), f"{name}_draws": size}
        columns |= dict.fromkeys(SIGNALS, float(start)) | {LOG_RATIO: before.round(DIGITS)}
        tables.append(pd.DataFrame(columns)[rows])
    return pd.concat(tables).sort_values(["rollout_id", "position"], ignore_index=True)


def stages_of(
    world: World, problems: int, seed: int, max_tokens: int, folder: Any = None, **failing: int
) -> tuple[Stages, list[Any], dict[str, dict[str, tuple[int, ...]]]]:
    """The product's stages over Markov engines, with problems and prompts. failing: of the
    teacher's engine."""
    asked, prompts = draw_problems(world, problems, seed)
    engines = {
        "student": MarkovEngine(world.student),
        "teacher": MarkovEngine(world.teacher, **failing),
    }
    judge = Judge(grade, (RULE,), gold(asked), {"student": world.student, "teacher": world.teacher})
    settings = StageSettings(max_tokens, SamplingSettings(1.0, seed=seed))
    where = folder or MemoryFolder()
    return Stages(engines, settings, judge, where, Reporter(quiet=True)), asked, prompts


def collected(
    world: World,
    problems: int,
    samples: int,
    plan: ValuePlan,
    max_tokens: int,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rollouts with all draws, and the scored tokens of the student's own, by the product."""
    stages, asked, prompts = stages_of(world, problems, seed, max_tokens)
    own = stages.plain("student", asked, prompts["student"], samples)
    drawn = ValueDraws(stages, asked, prompts, plan, Reporter(quiet=True)).collect(own)
    rollouts = pd.concat([table.to_pandas() for table in (own, *drawn)], ignore_index=True)
    return rollouts, scored(world, own.to_pandas())


def scored(world: World, rollouts: pd.DataFrame) -> pd.DataFrame:
    """The scored tokens of rollouts, from the laws."""
    rows = []
    for row in rollouts.itertuples():
        kind, last = row.prompt_ids[-1] - FIRST_KIND, 0
        for position, token in enumerate(row.response_ids):
            student, teacher = world.student.law[kind, last], world.teacher.law[kind, last]
            some = student > 0
            numbers = {
                "reverse_kl": (student[some] * np.log(student[some] / teacher[some])).sum(),
                "student_entropy": -(student[some] * np.log(student[some])).sum(),
                "teacher_entropy": -(teacher[teacher > 0] * np.log(teacher[teacher > 0])).sum(),
                "student_logprob": np.log(student[token]),
                "teacher_logprob": np.log(teacher[token]),
            }
            rows.append({"rollout_id": row.rollout_id, "position": position, **numbers})
            last = token
    return pd.DataFrame(rows, columns=["rollout_id", "position", *SCORES])


def run_like(path: Path, other: Path) -> Path:
    """A finished run of values of the pair of another run: its record, and measurements of
    `sampled` prefixes."""
    law = ValueLaw(decaying_world(), 12, (0, 2, 4))
    settings = Settings(law.grid, RULE)
    found = sampled(law, 40, 2, 8, np.random.default_rng(0))
    parts = values.measure(found, settings), value_signals.measure(found, settings)
    record = json.loads((other / "run.json").read_text())
    record["identity"]["diagnostic"] = "values"
    path.mkdir()
    (path / "run.json").write_text(json.dumps(record))
    measurements.write(pd.concat(parts, ignore_index=True), path / "measurements.parquet")
    return path

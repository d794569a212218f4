"""The experiment that would tell the most after what a pair's runs measured: its command, and what
it costs by the seconds of these runs."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from decaylab import printing
from decaylab.claims.advice_candidates import MORE, PREFIX, Candidate
from decaylab.claims.advice_runs import problems_of
from decaylab.claims.verdicts import MOST_SPREAD, pick, problems_needed, seeds_needed
from decaylab.maths.seeds import LEAST_SEEDS
from decaylab.options.measuring import EMBEDDED_STUDENT, EMBEDDED_TEACHER
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.vocabulary import FULL, OVER_SEEDS

# Of a sweep's command: what another sweep chooses anew.
CHOSEN = ("--values", "--seeds", "--seed", "--out", "--budget")
FLAGS = ("--quiet", "--overwrite", "--paper", "--json")
MOST_SEEDS = MOST_SPREAD**2
PAIR = ("teacher", "student", "problems")


@dataclass(frozen=True)
class Experiment:
    """command: as it is typed. purpose: what it tells. cost: in words. seconds: of training, NaN
    where no run was timed."""

    command: str
    purpose: str
    cost: str
    seconds: float = math.nan

    @property
    def words(self) -> str:
        return f"{self.purpose}: `{self.command}` ({self.cost})."


def repeat(candidate: Candidate, purpose: str) -> Experiment:
    """One way of training and full rollouts again, with seeds that chose nothing, as many as tell
    the smallest difference that counts."""
    needed = seeds_needed(MORE, [candidate.number])
    seeds = max(LEAST_SEEDS, needed or LEAST_SEEDS)
    options, setting = candidate.run.options, candidate.setting
    first = int(options.get("seed") or 0) + int(options.get("seeds") or candidate.number.seeds)
    over, value, budget = "rollout-length", f"{setting.rollout_length:g}", []
    if setting.selector != PREFIX:
        over, value = "selector", setting.selector
        length = setting.arm.removeprefix(f"{setting.selector}-").split("-")[0]
        budget = ["--budget", length] if length.isdigit() else []
    chosen = ["--values", f"{value},{FULL}", *budget]
    chosen += ["--seeds", str(seeds), "--seed", str(first)]
    command = ["decaylab", "sweep", over, *chosen, *kept_options(candidate.run)]
    seconds = _seconds(candidate, seeds)
    runs, steps = 2 * seeds, candidate.number.steps
    cost = f"{runs} runs" + ("" if math.isnan(steps) else f" of {steps:g} steps")
    if math.isnan(seconds):
        cost += "; how long they take is not known, since no step of these runs was timed"
    else:
        cost += f", about {printing.seconds(seconds)} of training by the seconds of these runs"
    if problems := problems_needed(MORE, candidate.number.over_problems):
        cost += f"; about {problems:,} test problems tell a difference of 2 points"
    if needed is None:
        cost += f"; by how far its seeds differ, more than {MOST_SEEDS} would be needed to be sure"
    return Experiment(shlex.join(command), purpose, cost, seconds)


def first_sweep(tokens: int, run: FoundRun | None) -> Experiment:
    """Full rollouts against the suggested length, its half and its double."""
    lengths = sorted({(tokens + 1) // 2, tokens, 2 * tokens})
    values = ",".join([*map(str, lengths), FULL])
    command = ["decaylab", "sweep", "rollout-length", "--values", values]
    command += ["--seeds", str(LEAST_SEEDS), *_training_options(run)]
    runs = LEAST_SEEDS * (len(lengths) + 1)
    cost = (
        f"{runs} training runs; how long they take is not known, since none was timed: `decaylab "
        "plan --only train` estimates it"
    )
    return Experiment(shlex.join(command), "Compare the length with full rollouts", cost)


def more_seeds(candidates: Sequence[Candidate]) -> Experiment:
    """The same sweep with as many seeds as its numbers need."""
    first = candidates[0]
    run, seeds = first.run, max(LEAST_SEEDS, first.number.seeds + 1)
    spoken = _words(run, drop=("--seeds",))
    if not spoken:
        over = run.command.removeprefix("sweep ")
        spoken = ["decaylab", "sweep", over, *_training_options(run)]
    command = [*spoken, "--seeds", str(seeds)]
    lacking = max(seeds - first.number.seeds, 0)
    step = sum(seconds for each in candidates if (seconds := _step(each, each.setting.arm)))
    seconds = lacking * first.number.steps * (step + (_step(first, FULL) or 0.0))
    cost = f"{lacking * (len(candidates) + 1)} more runs"
    if step and not math.isnan(seconds):
        cost += f", about {printing.seconds(seconds)} of training by the seconds of these runs"
    return Experiment(shlex.join(command), "Train the same sweep with more seeds", cost, seconds)


def decay_run(run: FoundRun | None) -> Experiment:
    """What a pair of which little is known is measured by first."""
    command = ["decaylab", "prefix-decay", *_pair_options(run)]
    cost = "no training; `decaylab preflight` estimates memory and time"
    return Experiment(shlex.join(command), "Measure how far the teacher can be trusted", cost)


def more_problems(decay: FoundRun) -> Experiment:
    """The decay run again on twice the problems, and 100 at least."""
    problems = max(2 * problems_of(decay), 100)
    command = ["decaylab", "prefix-decay", *_pair_options(decay), "--limit", str(problems)]
    cost = "no training; `decaylab preflight` with the same options estimates memory and time"
    return Experiment(shlex.join(command), "Measure the decay on more problems", cost)


def other_selectors(candidate: Candidate) -> Experiment:
    """Selectors, where only lengths were compared."""
    values = "full,top-reverse-kl,random"
    command = ["decaylab", "sweep", "selector", "--values", values]
    command += ["--seeds", str(LEAST_SEEDS), *kept_options(candidate.run)]
    runs = 3 * LEAST_SEEDS
    full, steps = _step(candidate, FULL), candidate.number.steps
    seconds = runs * steps * full if full else math.nan
    cost = f"{runs} runs"
    if not math.isnan(seconds):
        cost += f", about {printing.seconds(seconds)} if each takes as long as full rollouts"
    purpose = "Compare selectors, which no run of this pair did"
    return Experiment(shlex.join(command), purpose, cost, seconds)


def _seconds(candidate: Candidate, seeds: int) -> float:
    """Seconds of training of an arm and of full rollouts with so many seeds; NaN without times."""
    mine, full = _step(candidate, candidate.setting.arm), _step(candidate, FULL)
    if mine is None or full is None:
        return math.nan
    return seeds * candidate.number.steps * (mine + full)


def _step(candidate: Candidate, arm: str) -> float | None:
    """Mean seconds of a step of an arm, as its sweep timed it; None where it did not."""
    frame = candidate.run.measurements
    at = {"checkpoint": arm, "condition": "total"}
    rows = pick(frame, "seconds_per_step", estimand=OVER_SEEDS, **at)
    rows = rows or pick(frame, "seconds_per_step", **at)
    values = [row.value for row in rows if not math.isnan(row.value)]
    return sum(values) / len(values) if values else None


def kept_options(run: FoundRun) -> list[str]:
    """The options of a sweep's command that another one keeps; those of the pair where the command
    is not known."""
    words = _words(run, drop=CHOSEN)
    return words[3:] if words else _training_options(run)


def _words(run: FoundRun, drop: Sequence[str]) -> list[str]:
    """A sweep's command as it was typed, without these options; [] where it is not known."""
    words = shlex.split(str(run.record.get("command", "")))
    if words[1:2] != ["sweep"]:
        return []
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in drop:
            skip = True
        elif word not in FLAGS and word.split("=")[0] not in drop:
            kept.append(word)
    return kept


def _pair_options(run: FoundRun | None) -> list[str]:
    """The options that name the pair and its problems, as far as a run recorded them; none of the
    embedded pair, which is the default."""
    if run is None or (run.pair.teacher, run.pair.student) == (EMBEDDED_TEACHER, EMBEDDED_STUDENT):
        return []
    given = {name: run.options.get(name) for name in PAIR}
    if not given["teacher"]:
        given |= {"teacher": run.pair.teacher, "student": run.pair.student}
    return [word for name, value in given.items() if value for word in (f"--{name}", str(value))]


def _training_options(run: FoundRun | None) -> list[str]:
    """Those of a training: what the pair was measured on is its test, and it is trained on problems
    that only the user knows."""
    words = _pair_options(run)
    if "--problems" in words:
        place = words.index("--problems")
        words[place : place + 1] = ["--problems", "TRAINING_SET", "--test-problems"]
    return words

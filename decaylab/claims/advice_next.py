"""The most useful next experiment on a pair: its command, and its cost by the times of its runs."""

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
from decaylab.options.pair_options import EMBEDDED_STUDENT, EMBEDDED_TEACHER
from decaylab.plugins.origins import PLUGINS, SELECTOR
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.vocabulary import FULL, OVER_SEEDS

# Options of a sweep's command that the next sweep sets anew.
CHOSEN = ("--values", "--seeds", "--seed", "--out", "--budget")
FLAGS = ("--quiet", "--overwrite", "--paper", "--json")
MOST_SEEDS = MOST_SPREAD**2
MOST_PROPOSED = 10  # seeds of one experiment
PAIR = ("teacher", "student", "problems")


@dataclass(frozen=True)
class Experiment:
    """command: as typed in a shell. purpose, cost: in words. seconds: of training, NaN if no run
    was timed."""

    command: str
    purpose: str
    cost: str
    seconds: float = math.nan

    @property
    def words(self) -> str:
        return f"{self.purpose}: `{self.command}` ({self.cost})."


def repeat(candidate: Candidate, purpose: str) -> Experiment:
    """Repeats a setting and full rollouts with new seeds: as many as detect the smallest relevant
    difference, at most `MOST_PROPOSED`."""
    needed = seeds_needed(MORE, [candidate.number])
    wanted = max(LEAST_SEEDS, needed or LEAST_SEEDS)
    seeds = min(wanted, MOST_PROPOSED) if needed is not None else MOST_PROPOSED
    setting = candidate.setting
    over, value, budget = "rollout-length", f"{setting.rollout_length:g}", []
    if setting.selector != PREFIX:
        over, value = "selector", setting.selector
        length = setting.arm.removeprefix(f"{setting.selector}-").split("-")[0]
        budget = ["--budget", length] if length.isdigit() else []
    chosen = ["--values", f"{value},{FULL}", *budget]
    chosen += ["--seeds", str(seeds), "--seed", str(candidate.next_seed)]
    command = ["decaylab", "sweep", over, *chosen, *kept_options(candidate.run)]
    own = candidate.run.record["identity"].get(PLUGINS, {}).get(f"{SELECTOR} {setting.selector}")
    if own and "--plugin" not in command:
        command += ["--plugin", own["file"]]
    seconds = _seconds(candidate, seeds)
    runs, steps = 2 * seeds, candidate.number.steps
    cost = f"{runs} runs" + ("" if math.isnan(steps) else f" of {steps:g} steps")
    if math.isnan(seconds):
        cost += "; their duration is unknown, since no step of these runs was timed"
    else:
        cost += f", about {printing.seconds(seconds)} of training at the speed of these runs"
    if problems := problems_needed(MORE, candidate.number.over_problems):
        cost += f"; detecting a difference of 2 points takes about {problems:,} test problems"
    if needed is None:
        cost += f"; at this spread between seeds, certainty would take more than {MOST_SEEDS} seeds"
    elif wanted > seeds:
        cost += f"; at this spread between seeds, certainty would take about {wanted} seeds"
    return Experiment(shlex.join(command), purpose, cost, seconds)


def with_more_steps(candidate: Candidate, steps: int) -> Experiment:
    """The same sweep with the default number of steps."""
    purpose = f"Train the same sweep for at least {steps} steps"
    return _again(candidate, ("--steps",), [], purpose, "the default number of steps")


def on_all_problems(candidate: Candidate) -> Experiment:
    """The same sweep, tested on every test problem."""
    purpose = "Test the same students on every test problem"
    return _again(candidate, ("--test-limit",), [], purpose, "no training: its runs are kept")


def at_level(candidate: Candidate, level: float) -> Experiment:
    """The same sweep with intervals at another level."""
    options = ["--level", f"{level:g}"]
    purpose = "Compute the intervals again"
    return _again(candidate, ("--level",), options, purpose, "no training: its runs are kept")


def _again(
    candidate: Candidate, drop: Sequence[str], add: Sequence[str], purpose: str, cost: str
) -> Experiment:
    run = candidate.run
    command = _words(run, drop=(*drop, "--out")) or [
        *("decaylab", "sweep", run.command.removeprefix("sweep ")),
        *_training_options(run),
    ]
    return Experiment(shlex.join([*command, *add]), purpose, cost)


def first_sweep(tokens: int, run: FoundRun | None) -> Experiment:
    """Compares full rollouts with the suggested length, half of it and twice it."""
    lengths = sorted({(tokens + 1) // 2, tokens, 2 * tokens})
    values = ",".join([*map(str, lengths), FULL])
    command = ["decaylab", "sweep", "rollout-length", "--values", values]
    command += ["--seeds", str(LEAST_SEEDS), *_training_options(run)]
    runs = LEAST_SEEDS * (len(lengths) + 1)
    cost = (
        f"{runs} training runs; their duration is unknown, since none was timed: `decaylab plan "
        "--only train --probe` estimates it"
    )
    return Experiment(shlex.join(command), "Compare the length with full rollouts", cost)


def more_seeds(candidates: Sequence[Candidate]) -> Experiment:
    """The same sweep with enough seeds for a decision."""
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
        cost += f", about {printing.seconds(seconds)} of training at the speed of these runs"
    return Experiment(shlex.join(command), "Train the same sweep with more seeds", cost, seconds)


def decay_run(run: FoundRun | None) -> Experiment:
    """The first measurement of a pair."""
    command = ["decaylab", "prefix-decay", *_pair_options(run)]
    cost = "no training; `decaylab preflight` estimates memory and time"
    return Experiment(shlex.join(command), "Measure how far the teacher can be trusted", cost)


def more_problems(decay: FoundRun) -> Experiment:
    """The decay run again on twice the problems, at least 100."""
    problems = max(2 * problems_of(decay), 100)
    command = ["decaylab", "prefix-decay", *_pair_options(decay), "--limit", str(problems)]
    cost = "no training; `decaylab preflight` with the same options estimates memory and time"
    return Experiment(shlex.join(command), "Measure the decay on more problems", cost)


def other_selectors(candidate: Candidate) -> Experiment:
    """A comparison of selectors, if only lengths were compared."""
    values = "full,top-reverse-kl,random"
    command = ["decaylab", "sweep", "selector", "--values", values]
    command += ["--seeds", str(LEAST_SEEDS), *kept_options(candidate.run)]
    runs = 3 * LEAST_SEEDS
    full, steps = _step(candidate, FULL), candidate.number.steps
    seconds = runs * steps * full if full else math.nan
    cost = f"{runs} runs"
    if not math.isnan(seconds):
        cost += f", about {printing.seconds(seconds)} if each takes as long as with full rollouts"
    purpose = "Compare selectors, which no run of this pair has done"
    return Experiment(shlex.join(command), purpose, cost, seconds)


def _seconds(candidate: Candidate, seeds: int) -> float:
    """Seconds of training an arm and full rollouts with this many seeds; NaN without times."""
    mine, full = _step(candidate, candidate.setting.arm), _step(candidate, FULL)
    if mine is None or full is None:
        return math.nan
    return seeds * candidate.number.steps * (mine + full)


def _step(candidate: Candidate, arm: str) -> float | None:
    """Mean seconds per step of an arm in its sweep, or None."""
    frame = candidate.run.measurements
    at = {"checkpoint": arm, "condition": "total"}
    rows = pick(frame, "seconds_per_step", estimand=OVER_SEEDS, **at)
    rows = rows or pick(frame, "seconds_per_step", **at)
    values = [row.value for row in rows if not math.isnan(row.value)]
    return sum(values) / len(values) if values else None


def kept_options(run: FoundRun) -> list[str]:
    """The options that the next sweep keeps from a sweep's command; those of the pair if the
    command is unknown."""
    words = _words(run, drop=CHOSEN)
    return words[3:] if words else _training_options(run)


def _words(run: FoundRun, drop: Sequence[str]) -> list[str]:
    """A sweep's command as it was typed, without these options; [] if unknown."""
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
    """The options that name the pair and its problems, as recorded; none for the embedded pair,
    which is the default."""
    if run is None or (run.pair.teacher, run.pair.student) == (EMBEDDED_TEACHER, EMBEDDED_STUDENT):
        return []
    given = {name: run.options.get(name) for name in PAIR}
    if not given["teacher"]:
        given |= {"teacher": run.pair.teacher, "student": run.pair.student}
    return [word for name, value in given.items() if value for word in (f"--{name}", str(value))]


def _training_options(run: FoundRun | None) -> list[str]:
    """The options of a training run. It is tested on the pair's measured problems; the user must
    fill in the training problems."""
    words = _pair_options(run)
    if "--problems" in words:
        place = words.index("--problems")
        words[place : place + 1] = ["--problems", "TRAINING_SET", "--test-problems"]
    return words

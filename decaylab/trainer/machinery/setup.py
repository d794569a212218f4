"""What stands before the first step: policies, training problems without those of the test, and
held-out ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from decaylab.errors import UserError
from decaylab.options.training import NO_PROBLEMS, TrainOptions
from decaylab.pair.prepare import Setup, notes_of, shared_ids
from decaylab.policies import loading, prompts
from decaylab.policies.loading import Policy, load_settings
from decaylab.policies.vocabularies import SharedVocabulary, share_vocabulary
from decaylab.problems.answers import applies
from decaylab.problems.grading import Grader
from decaylab.problems.sets import TEST_COUNT, Problem, ProblemSet, instruction_of, load_problems

HELD_OUT_SEED = 0
"""Which problems are held out does not depend on a run's seed: runs of several seeds are judged on
the same ones."""


@dataclass(frozen=True)
class TrainSetup:
    """Everything loaded and checked. pair: its problems are those that are trained on."""

    pair: Setup[TrainOptions]
    validation: tuple[Problem, ...]
    vocabulary: SharedVocabulary
    overlap: int

    @property
    def options(self) -> TrainOptions:
        return self.pair.options

    @property
    def student(self) -> Policy:
        return self.pair.student

    @property
    def teacher(self) -> Policy:
        return self.pair.teacher


def prepare_training(options: TrainOptions, grader: Grader) -> TrainSetup:
    """Loads problems and policies, and checks that they fit together.

    Raises:
        UserError: two vocabularies, no training problem left, a context that is too short, anything
        that cannot be loaded.
    """
    for name in (str(options.teacher), str(options.student)):
        loading.resolve(name)  # a misspelt name is told before anything is fetched
    problem_set = load_problems(
        str(options.problems),
        limit=options.limit,
        revision=options.revision,
        split=options.split or ("train" if _on_hub(options) else None),
        columns=options.columns or None,
        seed=options.seed,
    )
    problem_set = dataclasses.replace(
        problem_set, instruction=instruction_of(options.instruction, problem_set)
    )
    kept, overlap, notes = _without_test(problem_set, options)
    validation, training = _held_out(
        kept, options, options.answer_rule or problem_set.answer_rule, grader
    )
    if options.validation_problems and len(validation) < options.validation_problems:
        notes.append(
            f"{len(validation)} problems are held out: no others have a gold answer that can be "
            "compared with"
        )
    if not training:
        raise UserError(
            f"{problem_set.name}: no training problem is left "
            f"({_where_they_went(problem_set, overlap, validation)})"
        )
    wanted = int(options.steps or 0) * options.problems_per_step
    if len(training) > wanted:  # a set of a million is not read into prompts
        chosen = np.random.default_rng([options.seed, len(training)]).permutation(len(training))[
            :wanted
        ]
        training = tuple(training[place] for place in chosen)
    student = loading.load(str(options.student), load_settings(options, "student"))
    teacher = loading.load(str(options.teacher), load_settings(options, "teacher"))
    vocabulary = share_vocabulary(student, teacher)
    problems = (*training, *validation)
    everything = prompts.render(options, student, teacher, problems, problem_set.instruction)
    rendered, told = prompts.of_problems(
        options, student, teacher, problems, problem_set, everything
    )
    fits = rendered["student"].keys()
    training, validation = (
        tuple(one for one in some if one.problem_id in fits) for some in (training, validation)
    )
    if not training:
        raise UserError(f"{problem_set.name}: no training problem is left ({told[-1]})")
    pair: Setup[TrainOptions] = Setup(
        options,
        student,
        teacher,
        problem_set,
        training,
        rendered,
        None,
        tuple(notes),
        prompt_notes=told,
    )
    pair = dataclasses.replace(pair, pair_notes=notes_of(student, teacher) + shared_ids(pair))
    return TrainSetup(pair, validation, vocabulary, overlap)


def _on_hub(options: TrainOptions) -> bool:
    """Whether the training problems are a set on the hub, whose train split is meant."""
    spec = str(options.problems).partition(":")[0]
    return (
        spec in ("gsm8k", "math500")
        and ":" not in str(options.problems)
        or _is_hub_id(str(options.problems))
    )


def _is_hub_id(spec: str) -> bool:
    return (
        spec.count("/") == 1
        and not Path(spec).exists()
        and not spec.endswith((".jsonl", ".json", ".parquet"))
    )


def _without_test(
    problem_set: ProblemSet, options: TrainOptions
) -> tuple[list[Problem], int, list[str]]:
    """The training problems that do not stand in the test set, how many do, and what must be
    said."""
    notes = list(problem_set.notes)
    if options.test_problems == NO_PROBLEMS:
        return (
            list(problem_set.problems),
            0,
            [*notes, "no test problems are named: an overlap with them is not looked for"],
        )
    spec = str(options.test_problems)
    try:
        test = load_problems(spec, limit=TEST_COUNT if spec == "abacus" else None)
    except UserError as error:
        raise UserError(
            f"--test-problems {spec}: {error}; say {NO_PROBLEMS} to train without looking for an "
            "overlap"
        ) from error
    asked = {one_form(problem.question) for problem in test.problems}
    kept = [problem for problem in problem_set.problems if one_form(problem.question) not in asked]
    overlap = len(problem_set) - len(kept)
    if overlap:
        notes.append(
            f"{overlap} of {len(problem_set)} training problems also stand in {test.name}, dropped"
        )
    return kept, overlap, notes


def one_form(question: str) -> str:
    """A question without its case and spacing: copies of a problem differ in those."""
    return " ".join(question.split()).casefold()


def _held_out(
    problems: Sequence[Problem], options: TrainOptions, rule: str, grader: Grader
) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """The validation problems, all with a gold answer that the rule can compare with, and the rest,
    in its own order."""
    wanted = min(options.validation_problems, len(problems) // 2)
    order = np.random.default_rng(HELD_OUT_SEED).permutation(len(problems)) if wanted else ()
    found: list[int] = []
    for start in range(0, len(order), 4 * max(wanted, 1)):
        if len(found) >= wanted:
            break
        some = [int(place) for place in order[start : start + 4 * wanted]]
        some = [
            place
            for place in some
            if problems[place].answer and applies(rule, str(problems[place].answer))
        ]
        bad = set(grader.unparsable([str(problems[place].answer) for place in some]))
        found += [place for index, place in enumerate(some) if index not in bad]
    held = set(found[:wanted])
    return (
        tuple(problems[place] for place in sorted(held)),
        tuple(problem for place, problem in enumerate(problems) if place not in held),
    )


def _where_they_went(problem_set: ProblemSet, overlap: int, validation: Sequence[Any]) -> str:
    return (
        f"of {len(problem_set)}, {overlap} stand in the test set and {len(validation)} are held out"
    )

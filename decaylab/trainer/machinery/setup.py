"""Setup before the first step: policies, training problems, held-out problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from decaylab.errors import UserError
from decaylab.options.option_values import words
from decaylab.options.training import NO_PROBLEMS, TrainOptions
from decaylab.pair import gradable
from decaylab.pair.prepare import Setup, pair_notes, settled
from decaylab.policies import loading, prompts
from decaylab.policies.alignment import Aligner
from decaylab.policies.policy import Policy, load_settings
from decaylab.policies.vocabularies import SharedVocabulary, share_vocabulary
from decaylab.problems.answers import ANSWER_RULES, applies
from decaylab.problems.generated import TEST_COUNT
from decaylab.problems.grading import Grader
from decaylab.problems.judges import PROGRAMS
from decaylab.problems.overlap import shared
from decaylab.problems.problem import Problem, ProblemSet
from decaylab.problems.published import PUBLISHED, WITH_TRAIN_SPLIT, named
from decaylab.problems.sets import load_problems
from decaylab.problems.tasks import MATHEMATICS
from decaylab.trainer.machinery import two_tokenizers

HELD_OUT_SEED = 0
"""Seed for choosing held-out problems. It is fixed, so that all runs are compared on the same
ones."""
Problems = tuple[Problem, ...]


@dataclass(frozen=True)
class TrainSetup:
    """Everything loaded and checked.

    pair: with the training problems. overlap: number of training problems dropped because they are
    in the test set. vocabulary: the ids of both; None with two tokenizers, which have an aligner.
    """

    pair: Setup[TrainOptions]
    validation: Problems
    vocabulary: SharedVocabulary | None
    overlap: int
    aligner: Aligner | None = None

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
        UserError: the tokenizers differ and an option needs one, no training problem is left, a
            context is too short, or loading fails.
    """
    for name in (str(options.teacher), str(options.student)):
        loading.resolve(name)  # reports a misspelt name before anything is fetched
    problem_set = load_problems(
        str(options.problems),
        limit=options.limit,
        revision=options.revision,
        split=options.split or ("train" if _on_hub(str(options.problems)) else None),
        columns=options.columns or None,
        seed=options.seed,
    )
    problem_set = settled(problem_set, options)
    instruction = problem_set.instruction
    kept, notes = _without_test(problem_set, options)
    overlap = len(problem_set) - len(kept)
    rule = options.answer_rule or problem_set.answer_rule
    validation, training = _held_out(kept, options.validation_problems, rule, grader)
    if len(validation) < options.validation_problems:
        notes.append(
            f"only {len(validation)} problems are held out: no others have a gold answer that can "
            "be graded"
        )
    if validation and rule in PROGRAMS and options.no_sandbox:
        notes.append(gradable.NO_SANDBOX)
    if not training:
        raise UserError(
            f"{problem_set.name}: no training problem is left (of {len(problem_set)}, {overlap} "
            f"are in the test set and {len(validation)} are held out)"
        )
    wanted = int(options.steps or 0) * options.problems_per_step
    if len(training) > wanted:  # avoids rendering a million prompts
        rng = np.random.default_rng([options.seed, len(training)])
        training = tuple(training[place] for place in rng.permutation(len(training))[:wanted])
    student = loading.load(str(options.student), load_settings(options, "student"))
    teacher = loading.load(str(options.teacher), load_settings(options, "teacher"))
    aligner = two_tokenizers.aligner_of(options, student, teacher)
    vocabulary = None if aligner else share_vocabulary(student, teacher)
    problems = (*training, *validation)
    everything = prompts.render(options, student, teacher, problems, instruction)
    rendered, prompt_notes = prompts.of_problems(
        options, student, teacher, problems, problem_set, everything
    )
    fits = rendered["student"].keys()
    training = tuple(problem for problem in training if problem.problem_id in fits)
    validation = tuple(problem for problem in validation if problem.problem_id in fits)
    if validation and rule in PROGRAMS and options.no_sandbox:
        notes.append(gradable.NO_SANDBOX)
    if not training:
        raise UserError(f"{problem_set.name}: no training problem is left ({prompt_notes[-1]})")
    pair: Setup[TrainOptions] = Setup(
        options,
        student,
        teacher,
        problem_set,
        training,
        rendered,
        None,
        tuple(notes),
        pair_notes=(two_tokenizers.notes if aligner else pair_notes)(options, student, teacher),
        prompt_notes=prompt_notes,
    )
    return TrainSetup(pair, validation, vocabulary, overlap, aligner)


def _on_hub(spec: str) -> bool:
    """Whether the training problems are a hub data set, whose train split is the default."""
    if known := named(spec):
        name, copy = known
        return name in WITH_TRAIN_SPLIT and (not copy or bool(PUBLISHED[name].splits))
    is_file = Path(spec).exists() or spec.endswith((".jsonl", ".json", ".parquet"))
    return spec.count("/") == 1 and not is_file


def _without_test(
    problem_set: ProblemSet, options: TrainOptions
) -> tuple[list[Problem], list[str]]:
    """The training problems that are not in the test set, and notes."""
    notes = list(problem_set.notes)
    if options.test_problems == NO_PROBLEMS:
        notes.append(
            "no test problems are given, so overlap with them is not checked; --test-problems "
            "names them"
        )
        return list(problem_set.problems), notes
    tests = [_test_set(spec) for spec in words(str(options.test_problems))]
    in_text = problem_set.task is not MATHEMATICS
    found = shared(problem_set.problems, [one for test in tests for one in test.problems], in_text)
    kept = [problem for index, problem in enumerate(problem_set.problems) if index not in found]
    if found:
        names = ", ".join(test.name for test in tests)
        how = f"are also in {names}" if not in_text else f"share the text of a problem of {names}"
        notes.append(f"{len(found)} of {len(problem_set)} training problems {how}, dropped")
    return kept, notes


def _test_set(spec: str) -> ProblemSet:
    try:
        return load_problems(spec, limit=TEST_COUNT if spec == "abacus" else None)
    except UserError as error:
        raise UserError(
            f"--test-problems {spec}: {error}; use --test-problems {NO_PROBLEMS} to train without "
            "checking for overlap"
        ) from error


def _held_out(
    problems: Sequence[Problem], count: int, rule: str, grader: Grader
) -> tuple[Problems, Problems]:
    """The validation problems and the rest, each in the order of the set.

    Every validation problem has a gold answer that the rule can grade.
    """
    wanted = min(count, len(problems) // 2)
    # In small batches, since parsing all answers of a large set takes minutes.
    order = np.random.default_rng(HELD_OUT_SEED).permutation(len(problems)) if wanted else ()
    usable: list[int] = []
    for start in range(0, len(order), 4 * max(wanted, 1)):
        if len(usable) >= wanted:
            break
        places = [int(place) for place in order[start : start + 4 * wanted]]
        answers = {place: str(problems[place].answer or "") for place in places}
        places = [place for place in places if answers[place] and applies(rule, answers[place])]
        bad = set[int]()
        if rule in ANSWER_RULES:  # one of the user's own may read any answer
            bad = set(grader.unparsable([answers[place] for place in places]))
        elif rule in PROGRAMS:
            bad = set(grader.broken_references([answers[place] for place in places]))
        usable += [place for index, place in enumerate(places) if index not in bad]
    held = set(usable[:wanted])
    validation = tuple(problems[place] for place in sorted(held))
    return validation, tuple(problem for place, problem in enumerate(problems) if place not in held)

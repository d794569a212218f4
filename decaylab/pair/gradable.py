"""Which problems can be graded, and by which rules.

    problems(load_problems("math500"), grader, "last_boxed")   # the problems, and notes

Of mathematics, problems whose gold answer cannot be parsed are left out. Of code, the reference
solutions are run against their own tests: one that fails is an error of the set.
"""

from __future__ import annotations

from collections.abc import Sequence

from decaylab.code.sets import shares_objects
from decaylab.errors import UserError
from decaylab.problems import applicable, judges
from decaylab.problems.answers import ANSWER_RULES, applies
from decaylab.problems.grading import Grader
from decaylab.problems.problem import Problem, ProblemSet
from decaylab.progress import Reporter

NO_SANDBOX = "programs were run without a sandbox (--no-sandbox)"
NAMED = 3
"""Problems that a message names."""


def problems(
    problem_set: ProblemSet,
    grader: Grader,
    reported: str,
    leave_out_broken: bool = False,
    reporter: Reporter | None = None,
) -> tuple[tuple[Problem, ...], tuple[str, ...]]:
    """The problems with a gold answer that can be graded, and notes about the others.

    reported: the answer rule. leave_out_broken: whether problems whose reference solution fails
    are left out. reporter: shows how far the check of reference solutions is.

    Raises:
        UserError: no problem is left, the rule applies to too few, a reference solution fails, or
            programs cannot be run here.
    """
    asked, notes = _with_gold(problem_set)
    rules, more = problem_set.task.answer_rules, list[str]()
    if judges.PROGRAMS.intersection(rules):
        asked, more = _with_sound_tests(asked, grader, leave_out_broken, reporter)
    elif set(ANSWER_RULES).intersection(rules):
        asked, more = _parsable(asked, grader, reported)
    if not asked:
        raise UserError(f"{problem_set.name}: no problem has a gold answer that can be graded")
    return asked, (*notes, *more, *_rule_notes(reported, problem_set, asked))


def _with_gold(problem_set: ProblemSet) -> tuple[tuple[Problem, ...], list[str]]:
    asked = tuple(problem for problem in problem_set.problems if problem.answer)
    without = f"{problem_set.without_gold} of {len(problem_set)} problems have no gold answer"
    notes = [note for note in problem_set.notes if note != without]
    if len(asked) < len(problem_set):
        notes.append(f"{without}, left out; is --column answer=NAME the right one?")
    return asked, notes


def _parsable(
    asked: tuple[Problem, ...], grader: Grader, reported: str
) -> tuple[tuple[Problem, ...], list[str]]:
    """Without problems whose gold answer cannot be parsed: every response would count as wrong. A
    rule of the user's own may read what decaylab's rules cannot."""
    bad = set(grader.unparsable([problem.answer or "" for problem in asked]))
    if not bad:
        return asked, []
    if reported not in ANSWER_RULES:
        return asked, [
            f"{len(bad)} of {len(asked)} gold answers can be read by {reported} alone; the other "
            "answer rules do not apply to them"
        ]
    names = ", ".join(asked[index].problem_id for index in sorted(bad)[:NAMED])
    note = (
        f"{len(bad)} of {len(asked)} problems have a gold answer that cannot be parsed "
        f"({names}), left out; write them as numbers or LaTeX to have them graded"
    )
    return tuple(problem for index, problem in enumerate(asked) if index not in bad), [note]


def _with_sound_tests(
    asked: tuple[Problem, ...], grader: Grader, leave_out_broken: bool, reporter: Reporter | None
) -> tuple[tuple[Problem, ...], list[str]]:
    """The problems whose reference solution passes its own tests."""
    notes = [] if grader.sandboxed else [NO_SANDBOX]
    if shared := sum(shares_objects(problem.answer or "") for problem in asked):
        notes.append(
            f"the tests of {shared} of {len(asked)} problems need objects of the program's own: "
            "parts of them are evaluated beside it"
        )
    broken = grader.broken_references([problem.answer or "" for problem in asked], reporter)
    if not broken:
        return asked, notes
    named = [f"{asked[index].problem_id}: {why}" for index, why in sorted(broken.items())]
    shown = "; ".join(named[:NAMED])
    sentence = f"{len(broken)} of {len(asked)} reference solutions fail their own tests ({shown})"
    if not leave_out_broken:
        raise UserError(f"{sentence}; --leave-out-broken leaves such problems out")
    if len(broken) == len(asked):
        raise UserError(f"{sentence}: no problem is left; is the set read in the right columns?")
    kept = tuple(problem for index, problem in enumerate(asked) if index not in broken)
    return kept, [*notes, f"{sentence}, left out"]


def _rule_notes(
    reported: str, problem_set: ProblemSet, asked: Sequence[Problem]
) -> tuple[str, ...]:
    """Notes on the answer rules that do not apply to every gold answer.

    Raises:
        UserError: the reported rule applies to too few of them.
    """
    notes = []
    for rule in problem_set.task.answer_rules:
        judged = sum(applies(rule, problem.answer or "") for problem in asked)
        shown = judged >= applicable.LEAST * len(asked)
        sentence = (
            f"{rule} applies to {judged} of {len(asked)} gold answers of {problem_set.name}, the "
            "plain numbers"
        )
        if rule == reported and not shown:
            raise UserError(
                f"--answer-rule {sentence}; choose another rule, such as {ANSWER_RULES[0]}"
            )
        if judged < len(asked):
            notes.append(f"{sentence}: {'its accuracy covers those' if shown else 'not shown'}")
    return tuple(notes)

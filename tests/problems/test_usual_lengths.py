"""Usual lengths of prefixes and position bins, which follow the budget."""

from __future__ import annotations

from decaylab.options.declared import DECAY
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.measuring import Options
from decaylab.problems.tasks import CODE, MATHEMATICS

PAIR = {"teacher": "Qwen/Qwen3-8B", "student": "Qwen/Qwen3-0.6B"}


def test_a_budget_up_to_the_usual_one_changes_nothing() -> None:
    for task in (MATHEMATICS, CODE):
        for budget in (1, task.lengths.budget):
            assert task.lengths.up_to(budget) is task.lengths


def test_above_it_bins_double_up_to_the_budget_and_prefixes_up_to_half_of_it() -> None:
    found = MATHEMATICS.lengths.up_to(8192)
    assert found.bins == (*MATHEMATICS.lengths.bins, 1200, 2400, 4800)
    assert found.prefixes == (0, 100, 200, 300, 600, 1200, 2400)
    assert found.budget == MATHEMATICS.lengths.budget and found.rollout == 100
    assert MATHEMATICS.lengths.up_to(4800).bins[-1] == 2400, "a bin begins below the budget"


def test_options_take_them_and_what_is_given_stands() -> None:
    assert Options(**PAIR, max_tokens=8192).resolved().prefix_lengths[-1] == 2400
    assert Options(**PAIR, max_tokens=8192, prefix_lengths=(0, 50)).resolved().prefix_lengths == (
        0,
        50,
    )
    assert DiagnosticOptions(**PAIR, max_tokens=32768).resolved().bins[-1] == 19200


def test_the_folder_of_a_run_names_the_budget_and_not_the_lengths_that_follow() -> None:
    options = Options(**PAIR, max_tokens=8192).resolved()
    name = options.folder_name("prefix-decay", kinds=(DECAY,))
    assert "max-tokens-8192" in name and "lengths" not in name
    given = Options(**PAIR, max_tokens=8192, prefix_lengths=(0, 50)).resolved()
    assert "prefix-lengths-0-50" in given.folder_name("prefix-decay", kinds=(DECAY,))


def test_a_budget_below_the_usual_lengths_has_a_folder_too() -> None:
    given = Options(**PAIR, max_tokens=60, prefix_lengths=(0, 20)).resolved()
    name = given.folder_name("prefix-decay", kinds=(DECAY,))
    assert "max-tokens-60" in name and "prefix-lengths-0-20" in name

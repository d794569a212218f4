"""What each diagnostic measures in the material that was gathered for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.analyses import (
    behaviour,
    category_kl,
    evaluation,
    position_kl,
    signals,
    submode,
    two_tokenizers,
)
from decaylab.commands.study_rollouts import Material
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.pair import checkpoint_rules, targets
from decaylab.pair.prepare import Setup
from decaylab.problems.grading import Grader
from decaylab.runs import outcomes
from decaylab.runs.vocabulary import AT_BOUNDARIES, BASE, NEXT_BYTE_IS
from decaylab.tokens.categories import Categories
from decaylab.tokens.noise_floor import with_noise_floor
from decaylab.tokens.token_table import Scored

ALL_TOKENS = 10**9


@dataclass(frozen=True)
class Context:
    """What a measurement needs to know beside the material."""

    options: DiagnosticOptions
    setup: Setup[DiagnosticOptions]
    rules: Categories
    folder: Path
    chosen: targets.Targets
    plan: checkpoint_rules.Plan
    grader: Grader

    @property
    def common(self) -> dict[str, Any]:
        """What every analysis is given."""
        return {"level": self.options.level, "seed": self.options.seed, "run": self.folder.name}

    @property
    def answer_rule(self) -> str:
        """The reported answer rule."""
        return self.setup.answer_rule

    @property
    def reported(self) -> tuple[str, ...]:
        """The answer rules that are reported, in order."""
        return self.setup.problem_set.task.reported_first(self.answer_rule)

    @property
    def bins(self) -> tuple[int, ...]:
        return self.options.bins or (0,)

    @property
    def rollout_length(self) -> int:
        return int(self.options.rollout_length or 1)


def _position_kl(material: Material, context: Context) -> pd.DataFrame:
    options = context.options
    settings = position_kl.Settings(
        context.bins, context.rollout_length, options.survivors, options.estimand, **context.common
    )
    return with_noise_floor(partial(position_kl.measure, settings=settings), material.scored)


def _category_kl(material: Material, context: Context) -> pd.DataFrame:
    options = context.options
    settings = category_kl.Settings(
        context.bins, min_count=options.min_count, estimand=options.estimand, **context.common
    )
    measure = partial(
        category_kl.measure, rules=context.rules, end_ids=context.setup.student.end_ids
    )
    # what is listed on the whole may be rare among the few rollouts that are scored twice
    every = replace(settings, min_count=1, top_tokens=ALL_TOKENS)
    return with_noise_floor(
        partial(measure, settings=settings), material.scored, partial(measure, settings=every)
    )


def _submode(material: Material, context: Context) -> pd.DataFrame:
    options = context.options
    settings = submode.Settings(options.share, options.second_mode, **context.common)
    frame = with_noise_floor(partial(submode.measure, settings=settings), material.scored)
    if not (context.setup.problem_set.name == "abacus" and options.of_embedded_pair):
        return frame  # elsewhere the first character says nothing about style
    styles: pd.DataFrame = submode.measure_styles(material.rollouts, settings)
    return pd.concat([frame, styles], ignore_index=True)


def _signals(material: Material, context: Context) -> pd.DataFrame:
    options = context.options
    settings = signals.Settings(
        context.bins,
        options.cumulative_share,
        options.horizon,
        context.rollout_length,
        options.add_selectors,
        **context.common,
    )
    return with_noise_floor(partial(signals.measure, settings=settings), material.scored)


def _behaviour(material: Material, context: Context) -> pd.DataFrame:
    settings = behaviour.Settings(context.reported, **context.common)
    frame: pd.DataFrame = behaviour.measure(material.rollouts, settings)
    return frame


def _evaluate(material: Material, context: Context) -> pd.DataFrame:
    plan = context.plan
    labels = {target.name: target.label for target in context.chosen.checkpoints}
    known = {labels[each.name]: each for each in plan.checkpoints if each.name in labels}
    steps = {BASE: 0.0, **{label: each.step for label, each in known.items()}}
    rules = context.reported
    table = outcomes.collect(material.rollouts, steps, context.grader.same, rules)
    outcomes.write(table, context.folder / "outcomes.parquet")
    settings = evaluation.Settings(
        rules,
        {view: tuple(labels[name] for name in names) for view, names in plan.chosen.items()},
        {label: each.training for label, each in known.items()},
        context.setup.problem_set.task.measures,
        **context.common,
    )
    frame: pd.DataFrame = evaluation.measure(table, settings)
    return frame


def _whole_responses(scored: Sequence[Scored], law: Any, context: Context) -> pd.DataFrame:
    """What two tokenizers allow beside the tokens that begin at a boundary of both."""
    measure = partial(
        two_tokenizers.measure,
        settings=two_tokenizers.Settings(context.bins, **context.common),
        end_ids=context.setup.student.end_ids,
        other_law=law,
    )
    return with_noise_floor(measure, scored)


def _by_bytes(material: Material, context: Context) -> pd.DataFrame:
    """The next-byte KL of one tokenizer by position, under names of its own."""
    frame = _position_kl(replace(material, scored=material.by_bytes), context)
    frame = frame[~frame["what"].str.contains("entropy")]
    return frame.assign(what=NEXT_BYTE_IS + frame["what"], estimand=_at_boundaries(frame))


def _at_boundaries(frame: pd.DataFrame) -> pd.Series:
    return (frame["estimand"] + AT_BOUNDARIES).str.removeprefix(", ")


MEASURES: Mapping[str, Callable[[Material, Context], pd.DataFrame]] = {
    "position-kl": _position_kl,
    "category-kl": _category_kl,
    "submode": _submode,
    "signals": _signals,
    "behaviour": _behaviour,
    "evaluate": _evaluate,
}


def measured(command: str, material: Material, context: Context) -> pd.DataFrame:
    """What a diagnostic measures in its material."""
    frame, law = MEASURES[command](material, context), material.other_law
    parts = [frame]
    if material.by_bytes:
        parts += [_by_bytes(material, context), _whole_responses(material.by_bytes, law, context)]
    elif law:
        parts = [frame.assign(estimand=_at_boundaries(frame))]
        if command == "position-kl":
            parts.append(_whole_responses(material.scored, law, context))
    return pd.concat(parts, ignore_index=True)

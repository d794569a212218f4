"""A policy keeps its colour in every figure."""

from __future__ import annotations

import pandas as pd
import pytest

from decaylab.figures import colours, style


def frame_of(*names: str, selectors: tuple[str, ...] = ()) -> pd.DataFrame:
    return pd.DataFrame({"checkpoint": names, "selector": selectors or [""] * len(names)})


def test_base_early_stop_full_rollout_and_teacher_have_the_colours_of_the_house() -> None:
    found = colours.looks(frame_of("teacher", "full-seed-0", "prefix-20-seed-0", "base"))
    assert [(name, look.colour) for name, look in found.items()] == [
        ("base", style.STUDENT),
        ("full-seed-0", style.FULL_ROLLOUT),
        ("prefix-20-seed-0", style.ESR),
        ("teacher", style.TEACHER),
    ]


@pytest.mark.parametrize(
    "name", ["full", "full-seed-12", "full-rollout", "full-seed-0/step-000050", "runs/full/last"]
)
def test_full_rollouts_are_known_by_the_names_that_sweeps_give(name: str) -> None:
    assert colours.looks(frame_of("base", name))[name].colour == style.FULL_ROLLOUT


@pytest.mark.parametrize(
    "name", ["full-finetune", "carefully", "prefix-20-seed-0", "fullest/step-1", "full-20"]
)
def test_other_names_are_none(name: str) -> None:
    assert colours.looks(frame_of("base", name))[name].colour == style.ESR


def test_a_selector_that_is_said_goes_before_the_name() -> None:
    found = colours.looks(frame_of("full", "mine", selectors=("prefix", "full")))
    assert found["full"].colour == style.ESR and found["mine"].colour == style.FULL_ROLLOUT


def test_several_students_of_a_kind_are_told_apart() -> None:
    names = [f"{kind}/step-{i}" for kind in ("full", "esr") for i in range(4)]
    found = colours.looks(frame_of(*names))
    assert (
        len({look.colour for look in found.values()}) == 8
        and len({one.name for one in found.values()}) == 8
    )
    light = [sum(int(found[name].colour[i : i + 2], 16) for i in (1, 3, 5)) for name in names]
    assert light[:4] == sorted(light[:4], reverse=True) and light[4:] == sorted(
        light[4:], reverse=True
    )

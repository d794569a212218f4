"""The figures of sweeps, from stored tables alone: their artists hold the tables' numbers,
intervals and seeds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from behaviour_figures import apart_on_the_page
from figure_parts import artist, texts
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from synthetic_runs import RULES, grown

from decaylab.analyses import efficiency as costs
from decaylab.analyses import stability as checkpoints
from decaylab.analyses import sweep, token_selection
from decaylab.figures import arms, efficiency, n_sweep, stability, style
from decaylab.figures import token_selection as selectors
from decaylab.maths.selection import SELECTORS
from decaylab.paper import publication
from decaylab.runs import measurements as table
from decaylab.runs import vocabulary
from decaylab.runs.trained import TrainedRun

LENGTHS = ("prefix-5", "prefix-10", "prefix-50", "full")
CHOSEN = (
    "prefix-20",
    "prefix-mask-20",
    "random-20",
    "full",
    "top-reverse-kl-20",
    "top-teacher-entropy-or-student-entropy-20",
    "importance",
)
MODULES = {
    "n_sweep": n_sweep,
    "token_selection": selectors,
    "stability": stability,
    "efficiency": efficiency,
}
PUBLISHED = {
    "n_sweep": publication.n_sweep,
    "token_selection": publication.token_selection,
    "stability": publication.per_step,
    "efficiency": publication.efficiency,
}


def stored_frame(folder: Path, runs: list[TrainedRun]) -> pd.DataFrame:
    """All measurements of a sweep, written and read back: what figures are drawn from."""
    frames = [
        sweep.measure(runs, sweep.Settings(RULES)),
        token_selection.measure(runs, token_selection.Settings()),
        checkpoints.measure(runs, checkpoints.Settings("last_boxed")),
        costs.measure(runs, costs.Settings()),
    ]
    path = folder / "measurements.parquet"
    table.write(pd.concat([frame for frame in frames if len(frame)], ignore_index=True), path)
    return table.read(path)


@pytest.fixture(scope="module")
def lengths(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return stored_frame(tmp_path_factory.mktemp("lengths"), grown(LENGTHS))


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return stored_frame(tmp_path_factory.mktemp("chosen"), grown(CHOSEN))


def row(
    frame: pd.DataFrame,
    what: str,
    arm: str,
    estimand: str,
    view: str,
    condition: str = "last_boxed",
) -> Any:
    """One row, picked without the figures' own helpers."""
    found = frame.query(
        "what == @what and checkpoint == @arm and estimand == @estimand and condition == @condition"
    )
    (one,) = found[(found["view"] == view) & found.training_seed.isna()].itertuples()
    return one


def singles(
    frame: pd.DataFrame, what: str, arm: str, view: str, condition: str = "last_boxed"
) -> list[float]:
    found = frame.query("what == @what and checkpoint == @arm and condition == @condition")
    return list(
        found[(found["view"] == view) & found.training_seed.notna()]
        .sort_values("training_seed")
        .value
    )


def ends(figure: Figure, gid: str, *, upright: bool) -> np.ndarray:
    """Low and high of an interval bar."""
    (segment,) = artist(figure, gid).get_segments()
    return segment[:, int(upright)]


def at(figure: Figure, gid: str, *, upright: bool) -> np.ndarray:
    line = artist(figure, gid)
    assert line is not None, f"{gid} is not drawn"
    return np.asarray(line.get_ydata() if upright else line.get_xdata())


def holds(
    figure: Figure, frame: pd.DataFrame, gid: str, what: str, arm: str, view: str, *, upright: bool
) -> None:
    """A number of an arm: marker, both intervals as far as the frame goes, and every seed."""
    here, over = (
        row(frame, what, arm, estimand, view)
        for estimand in (vocabulary.THESE_SEEDS, vocabulary.OVER_SEEDS)
    )
    np.testing.assert_allclose(at(figure, gid, upright=upright), [here.value * 100])
    axes = artist(figure, gid).axes
    first, last = axes.get_ylim() if upright else axes.get_xlim()
    for one, part in ((here, "problems"), (over, "seeds")):
        drawn = ends(figure, f"{gid}.{part}", upright=upright)
        np.testing.assert_allclose(drawn, np.clip([one.low * 100, one.high * 100], first, last))
        cut = one.low * 100 < first or one.high * 100 > last
        assert any(found.get_gid() == f"{gid}.{part}.cut" for found in axes.lines) == cut
    np.testing.assert_allclose(
        at(figure, f"{gid}.singly", upright=upright),
        np.multiply(singles(frame, what, arm, view), 100),
    )
    assert (here.low, here.high) != (over.low, over.high), (
        "a case in which the two intervals differ"
    )


# --- accuracy against N
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("width", ["page", "column"])
def test_n_sweep_holds_accuracies_and_differences_with_both_intervals_and_every_seed(
    lengths: pd.DataFrame, width: style.Width
) -> None:
    figure = n_sweep.draw(lengths, width=width)
    letters = {
        ("last", "level"): "a",
        ("best", "level"): "b",
        ("last", "change"): "c",
        ("best", "change"): "d",
    }
    for (view, kind), letter in letters.items():
        what = "avg_at_2" if kind == "level" else "avg_at_2_minus_full"
        for arm in LENGTHS[:3]:
            holds(figure, lengths, f"{letter}.{arm}", what, arm, view, upright=True)
            assert artist(figure, f"{letter}.{arm}").get_xdata() == [float(arm.split("-")[1])]
        curve = [
            row(lengths, what, arm, vocabulary.THESE_SEEDS, view).value * 100 for arm in LENGTHS[:3]
        ]
        np.testing.assert_allclose(at(figure, f"{letter}.curve", upright=True), curve)


def test_n_sweep_has_base_teacher_and_full_rollout_as_lines_with_their_intervals(
    lengths: pd.DataFrame,
) -> None:
    figure = n_sweep.draw(lengths)
    colours = {"base": style.STUDENT, "teacher": style.TEACHER, "full": style.FULL_ROLLOUT}
    for letter, view in (("a", "last"), ("b", "best")):
        for name, colour in colours.items():
            estimand, where = (
                (vocabulary.THESE_SEEDS, view)
                if name == "full"
                else ("mean over rollouts", "fresh")
            )
            one = row(lengths, "avg_at_2", name, estimand, where)
            line = artist(figure, f"{letter}.line.{name}")
            np.testing.assert_allclose(line.get_ydata(), one.value * 100)
            assert to_hex(line.get_color()).upper() == colour
            band = artist(figure, f"{letter}.line.{name}.band").get_bbox()
            np.testing.assert_allclose((band.y0, band.y1), (one.low * 100, one.high * 100))
    values = [
        row(lengths, "avg_at_2", "full", vocabulary.THESE_SEEDS, view).value
        for view in ("last", "best")
    ]
    assert values[0] != values[1], "the two rules take other checkpoints"


def test_n_sweep_without_full_rollout_is_told_against_base(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, grown(("prefix-5", "prefix-20")))
    figure = n_sweep.draw(frame)
    assert "Difference from base student" in texts(figure).replace("\n", " ")
    assert artist(figure, "a.line.full") is None
    holds(figure, frame, "c.prefix-5", "avg_at_2_minus_base", "prefix-5", "last", upright=True)
    assert "Differences from base student" in n_sweep.details(frame)


def test_n_sweep_draws_the_published_curve_in_a_panel_of_its_own(
    lengths: pd.DataFrame,
) -> None:
    figure = n_sweep.draw(lengths, published=publication.n_sweep())
    line = artist(figure, "published")
    np.testing.assert_allclose(line.get_xdata(), [5, 10, 20, 50, 100, 150, 200])
    np.testing.assert_allclose(line.get_ydata(), [52.7, 53.5, 60.5, 66.65, 65.85, 66.65, 66.05])
    assert line.get_markerfacecolor() == "white" and line.get_color() == style.PUBLISHED
    alone = n_sweep.draw(lengths)
    assert artist(alone, "published") is None
    for letter in "abcd":
        own, other = (artist(one, f"{letter}.curve").axes for one in (figure, alone))
        assert own is not line.axes, "nothing published among what was measured"
        assert own.get_xlim() == other.get_xlim() and own.get_ylim() == other.get_ylim()
    np.testing.assert_allclose(artist(figure, "published.full").get_ydata(), 62.35)
    text = n_sweep.details(lengths, publication.n_sweep())
    assert "arXiv 2605.27028" in text and "best step on the test problems" in text


def test_a_sweep_of_one_rule_and_one_length_is_drawn_too(tmp_path: Path) -> None:
    runs = [
        TrainedRun(**{**run.__dict__, "chosen": {"last": 150.0}})
        for run in grown(("prefix-5", "full"), seeds=1)
    ]
    frame = stored_frame(tmp_path, runs)
    for width in ("page", "column"):
        figure = n_sweep.draw(frame, width=width)
        apart_on_the_page(figure)
        assert artist(figure, "a.prefix-5.seeds") is None, "one seed has no interval over seeds"
        assert (
            artist(figure, "b.prefix-5") is not None
            and "best" not in n_sweep.details(frame).split("Broad")[0]
        )


# --- selectors
# ---------------------------------------------------------------------------


def test_token_selection_has_a_row_for_each_arm_with_its_numbers(chosen: pd.DataFrame) -> None:
    figure = selectors.draw(chosen)
    for place, arm in enumerate(CHOSEN):
        for letter, what, view in (
            ("a", "avg_at_2", "last"),
            ("b", "avg_at_2", "best"),
            ("c", "avg_at_2_minus_full", "last"),
        ):
            if not (arm == "full" and letter == "c"):
                holds(figure, chosen, f"{letter}.{arm}", what, arm, view, upright=False)
        for letter, what, scale in (
            ("d", "mean_selected_position", 1.0),
            ("e", "selected_kl_share", 100.0),
        ):
            one = row(chosen, what, arm, vocabulary.OVER_SEEDS, "training", "training")
            if math.isnan(one.value):
                assert artist(figure, f"{letter}.{arm}") is None
                continue
            np.testing.assert_allclose(
                at(figure, f"{letter}.{arm}", upright=False), [one.value * scale]
            )
            assert artist(figure, f"{letter}.{arm}").get_ydata() == [place]
    assert artist(figure, "e.prefix-20") is None and "No share: rollouts stop" in selectors.details(
        chosen
    )
    assert artist(figure, "c.full") is None


def test_token_selection_plots_accuracy_against_position_and_share(chosen: pd.DataFrame) -> None:
    figure = selectors.draw(chosen)
    for letter, what, scale in (
        ("f", "mean_selected_position", 1.0),
        ("g", "selected_kl_share", 100.0),
    ):
        for arm in ("random-20", "full"):
            line = artist(figure, f"{letter}.{arm}")
            taken = (
                row(chosen, what, arm, vocabulary.OVER_SEEDS, "training", "training").value * scale
            )
            np.testing.assert_allclose(line.get_xdata(), [taken])
            accuracy = row(chosen, "avg_at_2", arm, vocabulary.THESE_SEEDS, "last")
            np.testing.assert_allclose(line.get_ydata(), [accuracy.value * 100])
            bar = ends(figure, f"{letter}.{arm}.problems", upright=True)
            np.testing.assert_allclose(bar, [accuracy.low * 100, accuracy.high * 100])


def test_policies_keep_their_colours_and_selectors_their_names(chosen: pd.DataFrame) -> None:
    figure = selectors.draw(chosen)
    colours = {"prefix-20": style.ESR, "full": style.FULL_ROLLOUT, "random-20": style.BLACK}
    for arm, colour in colours.items():
        assert to_hex(artist(figure, f"a.{arm}").get_color()).upper() == colour.upper()
    for name in ("prefix (ESR)  1", "top teacher H or student H  6", "importance weights  7"):
        assert name in texts(figure), name
    assert arms.spoken("top-reverse-kl-x-student-entropy") == "top KL \u00d7 student H"
    for own in ("mine", "top-mine", "top-my-reverse-kl"):
        assert arms.spoken(own) == own, "a selector of a user's own"


def test_arms_of_one_selector_with_several_budgets_are_told_apart(tmp_path: Path) -> None:
    frame = stored_frame(tmp_path, grown(("random-5", "random-20", "prefix-20", "full"), seeds=2))
    names = {arm.key: arm.name for arm in arms.arms_of(frame)}
    expected = {
        "random-5": "random, 5",
        "random-20": "random, 20",
        "prefix-20": "prefix (ESR)",
        "full": "full rollout",
    }
    assert names == expected


def test_published_selectors_have_rows_of_a_scale_of_their_own(chosen: pd.DataFrame) -> None:
    figure = selectors.draw(chosen, published=publication.token_selection())
    alone = selectors.draw(chosen)
    for letter in "abc":
        own, other = (artist(one, f"{letter}.prefix-20").axes for one in (figure, alone))
        assert own.get_xlim() == other.get_xlim(), "nothing is squeezed"
    for arm, value in (
        ("prefix-20", 65.85),
        ("random-20", 63.05),
        ("full", 62.35),
        ("top-reverse-kl-20", 53.35),
    ):
        mark = artist(figure, f"published.{arm}")
        np.testing.assert_allclose(mark.get_xdata(), [value])
        assert (
            mark.get_markerfacecolor() == "white" and mark.get_markeredgecolor() == style.PUBLISHED
        )
        assert mark.get_ydata() == artist(figure, f"a.{arm}").get_ydata(), "in the same row"
    assert artist(figure, "published.importance") is None


# --- stability
# ---------------------------------------------------------------------------


def test_stability_holds_a_line_for_each_seed_with_its_intervals(lengths: pd.DataFrame) -> None:
    figure = stability.draw(lengths)
    for arm in LENGTHS:
        for seed in range(3):
            own = lengths.query(
                "what == 'accuracy' and checkpoint == @arm and training_seed == @seed"
            )
            own = own[own["view"] == "test"].sort_values("step")
            line = artist(figure, f"{arm}.{seed}")
            np.testing.assert_allclose(line.get_xdata(), [0, 50, 100, 150])
            np.testing.assert_allclose(line.get_ydata(), own.value * 100)
            low, high = line.axes.get_ylim()
            bars = np.array(
                [segment[:, 1] for segment in artist(figure, f"{arm}.{seed}.bars").get_segments()]
            )
            np.testing.assert_allclose(bars, np.clip(own[["low", "high"]] * 100, low, high))


def test_stability_holds_peak_last_lowest_and_what_chance_gives(lengths: pd.DataFrame) -> None:
    figure = stability.draw(lengths)
    for arm in LENGTHS:
        for what in (
            "peak_accuracy",
            "last_accuracy",
            "lowest_accuracy",
            "peak_minus_lowest",
            "peak_minus_last",
        ):
            one = row(lengths, what, arm, vocabulary.OVER_SEEDS, "test")
            np.testing.assert_allclose(
                at(figure, f"{what}.{arm}", upright=False), [one.value * 100]
            )
            if math.isnan(one.low):  # every seed says the same
                assert artist(figure, f"{what}.{arm}.seeds") is None
                continue
            first, last = artist(figure, f"{what}.{arm}").axes.get_xlim()
            drawn = ends(figure, f"{what}.{arm}.seeds", upright=False)
            np.testing.assert_allclose(drawn, np.clip([one.low * 100, one.high * 100], first, last))
        seeds = singles(lengths, "peak_minus_lowest", arm, "test")
        np.testing.assert_allclose(
            at(figure, f"peak_minus_lowest.{arm}.singly", upright=False), np.multiply(seeds, 100)
        )
        chance = row(lengths, "peak_minus_lowest_by_chance", arm, vocabulary.OVER_SEEDS, "test")
        np.testing.assert_allclose(
            at(figure, f"peak_minus_lowest_by_chance.{arm}", upright=False), [chance.value * 100]
        )
    assert "biased" in stability.details(lengths) and "equally good" in stability.details(lengths)


def test_stability_falls_back_on_held_out_problems_and_says_so(tmp_path: Path) -> None:
    runs = grown(("prefix-5", "full"), seeds=2)
    last = [
        TrainedRun(
            **{
                **run.__dict__,
                "outcomes": run.outcomes[
                    run.outcomes.step.isin([0, 150]) | run.outcomes.step.isna()
                ],
            }
        )
        for run in runs
    ]
    frame = stored_frame(
        tmp_path, [TrainedRun(**{**run.__dict__, "chosen": {"last": 150.0}}) for run in last]
    )
    figure, text = stability.draw(frame), stability.details(frame)
    curve = runs[0].validation.sort_values("step").accuracy * 100
    np.testing.assert_allclose(artist(figure, "prefix-5.0").get_ydata(), curve)
    assert "100 held-out problems" in text and "chance alone puts them is not known" in text
    assert artist(figure, "peak_minus_lowest_by_chance.full") is None


def test_published_steps_have_panels_of_their_own(lengths: pd.DataFrame) -> None:
    figure = stability.draw(lengths, published=publication.per_step())
    line = artist(figure, "published.full")
    np.testing.assert_allclose(line.get_ydata(), [65.6, 46.3, 49.7, 43.8])
    assert line.get_color() == style.PUBLISHED and line.axes is not artist(figure, "full.0").axes


def test_stability_of_twenty_arms_stays_on_a_sheet(tmp_path: Path) -> None:
    keys = [name if selector.whole else f"{name}-20" for name, selector in SELECTORS.items()]
    frame = stored_frame(tmp_path, grown(keys, seeds=1, problems=20, samples=1))
    assert len(keys) == 20
    sheet = stability.sheet(frame, published=publication.per_step())
    whole = sheet.draw("page")
    assert whole.get_size_inches()[1] <= style.PAGE_HEIGHT + 1e-9
    for figure in (whole, *sheet.panels().values()):
        apart_on_the_page(figure)
    assert any(text.startswith("top teacher H") for text in texts(whole).split("\n"))


def test_small_panels_share_the_steps_of_the_lowest_where_all_have_the_same(
    lengths: pd.DataFrame,
) -> None:
    def labelled(frame: pd.DataFrame) -> list[bool]:
        figure = stability.draw(frame, width="column")  # three a row
        axes = [artist(figure, f"{arm}.0").axes for arm in LENGTHS]
        return [bool(one.xaxis.get_tick_params()["labelbottom"]) for one in axes]

    assert labelled(lengths) == [False, True, True, True]
    other = lengths[~((lengths.checkpoint == "prefix-5") & (lengths.step == 150))]
    assert labelled(other) == [True] * 4, "not the steps of the panel below"


# --- efficiency
# ---------------------------------------------------------------------------


def test_efficiency_stacks_the_phases_up_to_the_total(lengths: pd.DataFrame) -> None:
    figure = efficiency.draw(lengths)
    for arm in LENGTHS:
        start = 0.0
        for phase in ("generation", "scoring", "training"):
            bar = artist(figure, f"a.{phase}.{arm}")
            one = row(lengths, "seconds_per_step", arm, vocabulary.OVER_SEEDS, "training", phase)
            assert (bar.get_x(), bar.get_width()) == (
                pytest.approx(start),
                pytest.approx(one.value),
            )
            start += one.value
            memory = row(lengths, "peak_gib", arm, vocabulary.OVER_SEEDS, "training", phase)
            np.testing.assert_allclose(
                at(figure, f"b.{phase}.{arm}", upright=False), [memory.value]
            )
        mark = artist(figure, f"a.total.{arm}")
        assert mark.get_marker() == "", "the end of the bars is the total, drawn once"
        seeds = singles(lengths, "seconds_per_step", arm, "training", "total")
        np.testing.assert_allclose(at(figure, f"a.total.{arm}.singly", upright=False), seeds)


def test_efficiency_ratios_stand_beside_those_of_the_tokens(lengths: pd.DataFrame) -> None:
    figure = efficiency.draw(lengths)
    for arm in LENGTHS[:3]:
        for what, condition in (("seconds_ratio", "total"), ("tokens_ratio", "generation")):
            word = vocabulary.GEOMETRIC_OVER_SEEDS
            one = row(lengths, what, arm, word, "training", condition)
            np.testing.assert_allclose(at(figure, f"c.{what}.{arm}", upright=False), [one.value])
            np.testing.assert_allclose(
                ends(figure, f"c.{what}.{arm}.seeds", upright=False), [one.low, one.high]
            )
    assert artist(figure, "c.seconds_ratio.full") is None


def test_a_single_seed_has_ratios_with_their_intervals_over_blocks(tmp_path: Path) -> None:
    runs = grown(("prefix-5", "full"), seeds=1)
    longer = [pd.concat([run.metrics, run.metrics]).assign(step=range(1, 61)) for run in runs]
    frame = stored_frame(
        tmp_path,
        [
            TrainedRun(**{**run.__dict__, "metrics": rows})
            for run, rows in zip(runs, longer, strict=True)
        ],
    )
    one = row(frame, "seconds_ratio", "prefix-5", vocabulary.ONE_RUN, "training", "total")
    figure = efficiency.draw(frame)
    np.testing.assert_allclose(
        ends(figure, "c.seconds_ratio.prefix-5.seeds", upright=False), [one.low, one.high]
    )
    assert "blocks of consecutive steps" in efficiency.details(frame)
    apart_on_the_page(figure)


def test_without_memory_or_full_rollout_their_panels_are_left_out(tmp_path: Path) -> None:
    runs = grown(("prefix-5", "prefix-20"), seeds=2)
    peaks = {f"{phase}_peak_gib": math.nan for phase in ("generation", "scoring", "training")}
    frame = stored_frame(
        tmp_path,
        [TrainedRun(**{**run.__dict__, "metrics": run.metrics.assign(**peaks)}) for run in runs],
    )
    figure = efficiency.draw(frame)
    assert [one.get_xlabel() for one in figure.axes] == [
        "seconds"
    ] and "(b)" not in efficiency.details(frame)


def test_published_costs_are_grey_and_have_an_axis_of_their_own(lengths: pd.DataFrame) -> None:
    figure = efficiency.draw(lengths, published=publication.efficiency())
    bar = artist(figure, "d.published.generation.full")
    assert bar.get_width() == 180 and to_hex(bar.get_edgecolor()) == style.PUBLISHED
    assert bar.axes is not artist(figure, "a.generation.full").axes


def test_costs_of_a_shared_machine_say_so() -> None:
    frame = costs.measure(
        grown(("prefix-5", "full"), seeds=2), costs.Settings(note="timed beside up to 1 other run")
    )
    assert "Timed beside up to 1 other run." in efficiency.details(frame)
    assert "Timed beside up to 1 other run" in efficiency.caption(frame)


# --- all
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("width", ["page", "column"])
@pytest.mark.parametrize("with_paper", [False, True])
def test_every_figure_fits_its_page(
    name: str, width: style.Width, with_paper: bool, lengths: pd.DataFrame, chosen: pd.DataFrame
) -> None:
    frame = chosen if name == "token_selection" else lengths
    figure = MODULES[name].draw(
        frame, published=PUBLISHED[name]() if with_paper else None, width=width
    )
    apart_on_the_page(figure)
    text = MODULES[name].details(frame, PUBLISHED[name]() if with_paper else None)
    assert (
        ("arXiv 2605.27028" in text) == with_paper
        and "95 %" in text
        and "nan" not in text + texts(figure)
    )


@pytest.mark.parametrize("width", ["page", "column"])
def test_every_selector_with_one_seed_fits_and_has_no_interval_over_seeds(
    width: style.Width, tmp_path: Path
) -> None:
    keys = [name if selector.whole else f"{name}-20" for name, selector in SELECTORS.items()]
    frame = stored_frame(tmp_path, grown(keys, seeds=1, problems=20, samples=1))
    drawn = {
        name: MODULES[name].draw(frame, width=width) for name in ("token_selection", "stability")
    }
    for figure in drawn.values():
        apart_on_the_page(figure)
        assert not figure.findobj(lambda one: (one.get_gid() or "").endswith(".seeds"))
    for place, arm in enumerate(keys):
        one = row(frame, "avg_at_1", arm, vocabulary.THESE_SEEDS, "last")
        figure = drawn["token_selection"]
        np.testing.assert_allclose(
            artist(figure, f"a.{arm}").get_xydata(), [[one.value * 100, place]]
        )
        np.testing.assert_allclose(
            ends(figure, f"a.{arm}.problems", upright=False), [one.low * 100, one.high * 100]
        )
        (peak,) = singles(frame, "peak_accuracy", arm, "test")
        np.testing.assert_allclose(
            at(drawn["stability"], f"peak_accuracy.{arm}", upright=False), [peak * 100]
        )


@pytest.mark.parametrize("name", MODULES)
def test_measurements_of_something_else_are_refused(name: str, lengths: pd.DataFrame) -> None:
    other = lengths[lengths.what == "tokens_sampled"]
    with pytest.raises(ValueError, match="measurements hold no"):
        MODULES[name].draw(other)


def test_captions_hold_counts_answer_rule_and_what_each_interval_holds_for(
    lengths: pd.DataFrame,
) -> None:
    text = n_sweep.details(lengths)
    for part in (
        "40 problems \u00d7 2 samples",
        "3 seeds per arm",
        "answer rule last_boxed",
        "clustered Wilson",
        "Student t",
        "other problems and these seeds",
        "other seeds and these problems",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("n_sweep", vocabulary.THESE_SEEDS),
        ("token_selection", vocabulary.THESE_SEEDS),
        *((name, vocabulary.OVER_SEEDS) for name in MODULES),
    ],
)
def test_a_number_without_its_interval_is_an_error_and_no_figure_without_intervals(
    name: str, word: str, lengths: pd.DataFrame, chosen: pd.DataFrame
) -> None:
    frame = chosen if name == "token_selection" else lengths
    renamed = frame.assign(estimand=frame.estimand.replace(word, "another word"))
    with pytest.raises(LookupError, match="no row has estimand"):
        MODULES[name].draw(renamed)


def test_full_rollout_without_the_best_checkpoint_has_no_line_there(lengths: pd.DataFrame) -> None:
    without = lengths[(lengths.checkpoint != "full") | (lengths["view"] != "best")]
    figure = n_sweep.draw(without)
    assert artist(figure, "a.line.full") is not None and artist(figure, "b.line.full") is None


def test_several_rows_at_one_place_are_an_error(lengths: pd.DataFrame) -> None:
    with pytest.raises(LookupError, match="2 rows at estimand"):
        n_sweep.draw(pd.concat([lengths, lengths]))


def test_ratios_are_said_to_be_geometric_means(lengths: pd.DataFrame) -> None:
    assert "geometric means of ratios paired by seed" in efficiency.caption(lengths)
    details = efficiency.details(lengths)
    assert "geometric mean over seeds of the ratios" in details
    assert "not the ratio of two bars of panel a" in details
    without = lengths[~lengths.what.str.contains("ratio")]
    assert "geometric" not in efficiency.caption(without)


def test_the_published_phases_have_a_key_of_their_own(lengths: pd.DataFrame) -> None:
    panel = efficiency.sheet(lengths, published=publication.efficiency()).panels()["d"]
    (legend,) = panel.legends
    names = [one.get_text() for one in legend.get_texts()]
    assert names == [f"{phase}, published" for phase in ("generation", "scoring", "training")]
    assert [one.get_hatch() for one in legend.get_patches()] == ["", "////", "...."]
    assert panel.axes[0].get_xlabel() == "seconds", "a panel alone has no letters"


@pytest.mark.parametrize("name", MODULES)
def test_no_number_of_an_axis_of_shares_is_above_100(
    name: str, lengths: pd.DataFrame, chosen: pd.DataFrame
) -> None:
    frame = chosen if name == "token_selection" else lengths
    shares = (frame.unit == "fraction") & frame.value.notna()
    right = frame.assign(value=frame.value.mask(shares, 1.0))
    for ends in ("low", "high"):
        right[ends] = right[ends].mask(shares & right[ends].notna(), 1.0)
    for axes in MODULES[name].draw(right).axes:
        if "(%)" in axes.get_xlabel() + axes.get_ylabel():
            axis = axes.xaxis if "(%)" in axes.get_xlabel() else axes.yaxis
            assert max(axis.get_ticklocs(), default=0) <= 100

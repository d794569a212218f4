"""The figure of one rollout: every token in its place, shaded by its own KL, under its own
category."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from behaviour_figures import apart_on_the_page
from figure_parts import artist, texts
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from decaylab.figures import case_study, running_text, style
from decaylab.figures.case_study import Case, choose
from decaylab.tokens import task_categories

TOKENS = [  # text, category, KL in nats
    ("To", "planning", 4.0),
    (" solve", "continuation", 0.0),
    (" $x$", "structural", 0.25),
    ("\n\n", "structural", 1.0),
    ("\\(", "math_latex", 2.25),
    ("12", "math_number", 0.01),
    (" =", "math_operator", 0.04),
    ("\u4e2d", "continuation", math.nan),
    ("", "continuation", math.inf),
    ("\u20ac", "continuation", 0.5),
    ("<|end|>", "end_of_turn", 0.09),
]
ROLLOUT = pd.Series(
    {
        "checkpoint": "base",
        "rollout_id": "r0",
        "problem_id": "p17",
        "sample": 2,
        "question": "What is $x$?\nSay it.",
        "answer": "12",
        "verdict": "no_answer",
        "answer_rule": "last_boxed",
        "stop_reason": "length",
        "response_tokens": len(TOKENS),
    }
)


def frame_of(
    tokens: list[tuple[str, str, float]], rollout: str = "r0", checkpoint: str = "base"
) -> pd.DataFrame:
    """Rows of viewed tokens, as far as the figure reads them."""
    frame = pd.DataFrame(tokens, columns=["token", "category", "reverse_kl"])
    raw = ["E2 82" if not token else "" for token in frame.token]
    return frame.assign(
        checkpoint=checkpoint, rollout_id=rollout, position=range(len(frame)), raw=raw
    )


SHORT = Case(frame_of(TOKENS), ROLLOUT, "the only one")
LONG = Case(frame_of([(f" word{i}", "continuation", i / 100) for i in range(350)]))


def boxes(figure: Figure) -> dict[int, list[Any]]:
    """The boxes of each token by its position; a token may stand on several lines."""
    found: dict[int, list[Any]] = {}
    for one in figure.findobj(
        lambda one: str(one.get_gid()).startswith("token.") and hasattr(one, "get_facecolor")
    ):
        found.setdefault(int(str(one.get_gid()).removeprefix("token.")), []).append(one)
    return found


def written(figure: Figure, position: int) -> str:
    """What stands in the boxes of a token, without spaces."""
    found = figure.findobj(lambda one: one.get_gid() == f"token.{position}.text")
    return "".join(one.get_text() for one in found)


def marks(figure: Figure, gid: str) -> list[Any]:
    return list(figure.findobj(lambda one: one.get_gid() == gid))


@pytest.mark.parametrize("width", ["page", "column"])
def test_each_token_is_shaded_by_its_own_kl_on_a_square_root_scale(width: style.Width) -> None:
    figure = case_study.draw(SHORT, width=width)
    white, wine = to_rgb("white"), to_rgb(style.WINE)
    found = boxes(figure)
    assert sorted(found) == list(range(len(TOKENS)))
    for position, (_, _, kl) in enumerate(TOKENS):
        share = (
            math.sqrt(kl / 4.0) if math.isfinite(kl) else 1.0
        )  # 4 nats are the most that is finite
        expected = (
            to_rgb("#d9d9d9")
            if math.isnan(kl)
            else [a + (b - a) * share for a, b in zip(white, wine)]
        )
        for box in found[position]:
            assert box.get_facecolor()[:3] == pytest.approx(expected, abs=0.01), TOKENS[position]
    assert "Grey: undefined." in case_study.details(SHORT) and "infinite" in case_study.details(
        SHORT
    )


def test_the_colour_bar_ends_at_the_highest_kl_that_is_shown() -> None:
    case = Case(LONG.tokens.assign(reverse_kl=[50.0 if i == 150 else i / 100 for i in range(350)]))
    bars = marks(case_study.draw(case), "scale")
    assert len(bars) == 2, "one above each block"
    for bar in bars:
        assert bar.get_xlim() == (0, 3.49), "the token of 50 nats lies between the blocks"
        assert [one.get_text() for one in bar.get_xticklabels()] == ["0", "0.1", "0.5", "1", "2"]


def test_text_on_a_shade_has_a_contrast_of_at_least_4_5() -> None:
    case = Case(frame_of([("x", "continuation", i / 40) for i in range(200)]))
    figure = case_study.draw(case)
    for position, (box,) in boxes(figure).items():
        (text,) = figure.findobj(lambda one, gid=f"token.{position}.text": one.get_gid() == gid)
        light = sorted(luminance(to_rgb(one)) for one in (box.get_facecolor(), text.get_color()))
        assert (light[1] + 0.05) / (light[0] + 0.05) >= 4.5


def luminance(colour: tuple[float, float, float]) -> float:
    """Relative luminance from 0 to 1, as WCAG has it."""
    linear = [
        one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in colour[:3]
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_tokens_follow_each_other_like_text_and_break_at_the_end_of_a_line() -> None:
    found = boxes(case_study.draw(SHORT))
    flat = [box for position in sorted(found) for box in found[position]]
    for one, other in itertools.pairwise(flat):
        same = other.get_y() == one.get_y()
        assert other.get_x() == pytest.approx(one.get_x() + one.get_width() if same else 0.0)
        assert same or other.get_y() == one.get_y() + case_study.PITCH
    lines = [sorted({box.get_y() for box in found[position]}) for position in range(len(TOKENS))]
    assert lines[:3] == [[1.0]] * 3 and lines[3] == [1.0, 1.0 + case_study.PITCH], (
        "of two line ends the second alone"
    )
    assert all(own == [1.0 + 2 * case_study.PITCH] for own in lines[4:])


@pytest.mark.parametrize("width", ["page", "column"])
def test_no_token_is_cut_that_fits_a_line_and_one_that_does_not_fills_lines(
    width: style.Width,
) -> None:
    tokens = [("a" * 20, "continuation", 0.1)] * 60 + [("b" * 400, "structural", 1.0)]
    figure = case_study.draw(Case(frame_of(tokens)), width=width)
    found = boxes(figure)
    room = (style.WIDTH_INCHES[width] - 0.16) * 72 - case_study.MARGIN
    assert all(len(found[position]) == 1 for position in range(60)) and len(found[60]) > 3
    assert written(figure, 60) == "b" * 400
    for box in itertools.chain(*found.values()):
        assert box.get_x() + box.get_width() <= room + 1e-6
    heights = [box.get_y() for box in found[60]]
    assert heights == sorted(set(heights)) and len(marks(figure, "category.60")) == len(found[60])


def test_white_space_is_signs_and_spaces_what_the_font_lacks_codes_and_parts_of_characters_bytes() -> (  # noqa: E501
    None
):
    figure = case_study.draw(SHORT)
    expected = [
        "To",
        "solve",
        "$x$",
        "\u21b5\u21b5",
        "\\(",
        "12",
        "=",
        "\\u4e2d",
        "<E282>",
        "\u20ac",
        "<|end|>",
    ]
    assert [written(figure, position) for position in range(len(TOKENS))] == expected
    assert not any(
        one.get_parse_math() for one in figure.findobj(lambda one: hasattr(one, "get_parse_math"))
    )
    space, word = (boxes(figure)[position][0].get_width() for position in (1, 0))
    assert (
        space == pytest.approx(running_text.text_width(" solve") + 2 * running_text.PAD)
        and space > word
    )
    (text,) = figure.findobj(lambda one: one.get_gid() == "token.1.text")
    assert text.get_position()[0] == pytest.approx(
        boxes(figure)[1][0].get_x() + running_text.PAD + running_text.text_width(" ")
    ), "a file may drop a space at the beginning of a text"
    assert running_text.readable("a\tb\u21b5") == "a\u21e5b\\u21b5", (
        "the sign itself is told apart from what it stands for"
    )
    said = case_study.details(SHORT)
    for part in ("\u21b5: end of a line", "bytes of part of a character", "code of"):
        assert part in said
    plain = case_study.details(LONG)
    for part in ("\u21b5", "bytes", "code", "Grey: undefined"):
        assert part not in plain


def look_of(line: Any) -> tuple[str, bool, bool]:
    """Colour of an underline, and whether it is dotted or double."""
    return to_hex(line.get_color()), line.is_dashed(), bool(line.get_path_effects())


def test_each_category_has_an_underline_of_its_own_that_the_key_names() -> None:
    figure = case_study.draw(SHORT)
    legend = figure.legends[0]
    names = [one.get_text() for one in legend.get_texts()]
    key = dict(zip(names, map(look_of, legend.legend_handles), strict=True))
    looks = {}
    for position, (_, category, _) in enumerate(TOKENS):
        lines = marks(figure, f"category.{position}")
        assert bool(lines) == (category != "continuation"), category
        if lines:
            (box, *_) = boxes(figure)[position]
            assert lines[0].get_ydata()[0] > box.get_y() + case_study.BOX
            assert min(lines[0].get_xdata()) > box.get_x()
            assert max(lines[0].get_xdata()) < box.get_x() + box.get_width()
            assert len(lines) == len(boxes(figure)[position])
            look = look_of(lines[0])
            assert key[category.replace("_", " ")] == look
            assert category.replace("_", " ") in texts(figure)
            looks[category] = look
    assert len(set(looks.values())) == len(looks) == 6
    assert "Not underlined: continuation." in case_study.details(SHORT)


@pytest.mark.parametrize(("kind", "count"), [("mathematics", 6), ("code", 8), ("calls", 5)])
def test_the_categories_of_a_task_have_different_underlines(kind: str, count: int) -> None:
    names = task_categories.load(kind, None).names
    figure = case_study.draw(Case(frame_of([(name, name, 1.0) for name in names])))
    looks = set(map(look_of, figure.legends[0].legend_handles))
    assert len(figure.legends[0].get_texts()) == len(looks) == count == len(names) - 1


def test_categories_of_a_users_own_file_have_underlines_too() -> None:
    tokens = [(" a", name, 0.1) for name in ("greeting", "farewell", "continuation", "planning")]
    figure = case_study.draw(Case(frame_of(tokens)))
    own = [marks(figure, f"category.{position}") for position in range(4)]
    assert own[0] and own[1] and not own[2] and own[3]
    assert look_of(own[0][0])[1:] != look_of(own[1][0])[1:], "apart without colour"
    assert "greeting" in texts(figure)


def test_a_long_rollout_shows_its_first_and_last_100_tokens_with_their_positions() -> None:
    figure = case_study.draw(LONG)
    assert sorted(boxes(figure)) == [*range(100), *range(250, 350)]
    assert [one.get_title(loc="left") for one in figure.axes if one.get_title(loc="left")] == [
        "a  First 100 tokens",
        "b  Last 100 of 350 tokens",
    ]
    starts = [int(one.get_text()) for one in marks(figure, "position")]
    assert starts[0] == 0 and 250 in starts and starts == sorted(starts)
    for one in marks(figure, "position"):
        (box,) = boxes(figure)[int(one.get_text())]
        assert (
            box.get_x() == 0 and box.axes is one.axes and one.get_position()[1] == box.get_y() + 8.0
        )
    for size, blocks in ((1, 1), (200, 1), (201, 2)):
        assert len(case_study.blocks(LONG.tokens[:size])) == blocks
    assert "all 200 tokens" in case_study.details(Case(LONG.tokens[:200]))


def test_panels_that_stand_alone_hold_every_token_once_and_say_where_they_begin() -> None:
    panels = case_study.sheet(LONG).panels()
    found: list[int] = []
    for name, figure in panels.items():
        apart_on_the_page(figure)
        assert figure.get_figheight() <= style.PANEL_HEIGHT + 1e-9, name
        own = sorted(boxes(figure))
        found += own
        (title,) = {one.get_title(loc="left") for one in figure.axes}
        assert title.endswith(f"from {own[0]}") or len(panels) < 3
    assert found == [*range(100), *range(250, 350)]


def test_rows_are_drawn_by_position_whatever_their_order() -> None:
    mixed = Case(SHORT.tokens.sample(frac=1.0, random_state=1), ROLLOUT)
    first, other = boxes(case_study.draw(SHORT)), boxes(case_study.draw(mixed))
    for position in first:
        assert [box.get_xy() for box in first[position]] == [
            box.get_xy() for box in other[position]
        ]


def test_title_question_and_caption_say_whose_rollout_it_is_and_how_it_was_chosen() -> None:
    figure, text = case_study.draw(SHORT), case_study.details(SHORT)
    title: Any = artist(figure, "title")
    question: Any = artist(figure, "subtitle")
    assert title.get_text() == "p17, sample 2, the base student: no answer"
    assert question.get_text() == "Question (answer 12): What is $x$? Say it."
    for part in (
        "Problem p17, sample 2, the base student: no answer under the answer rule last_boxed; 11 "
        "tokens, stop reason length",
        "Chosen: the only one.",
        "the highest of them (4.00)",
        "One rollout is an example",
    ):
        assert part in text, part
    bare = case_study.draw(LONG)
    assert marks(bare, "title")[
        0
    ].get_text() == "r0, the base student" and "Chosen" not in case_study.details(LONG)


# Choosing


def kept(*rollouts: tuple[str, str, str, int, float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rollouts as checkpoint, id, verdict, tokens and the KL of each token."""
    columns = ["checkpoint", "rollout_id", "verdict", "response_tokens"]
    rows = [dict(ROLLOUT) | dict(zip(columns, row, strict=False)) for row in rollouts]
    tokens = [frame_of([("a", "continuation", kl)] * n, r, c) for c, r, _, n, kl in rollouts]
    return pd.DataFrame(rows), pd.concat(tokens, ignore_index=True)


TABLE = (
    ("base", "long but near", "wrong", 40, 0.1),
    ("base", "far but short", "wrong", 5, 3.0),
    ("base", "far and long", "wrong", 30, 2.0),
    ("base", "as long", "wrong", 30, 2.0),
    ("base", "cut", "no_answer", 60, 2.0),
    ("base", "right", "correct", 90, 9.0),
    ("late", "far and long", "wrong", 99, 9.0),
)


def test_the_longest_wrong_rollout_of_the_base_student_with_at_least_median_kl_is_chosen() -> None:
    case = choose(*kept(*TABLE))
    assert case.rollout is not None and case.rollout.rollout_id == "far and long", (
        "of two as long the first"
    )
    assert (
        len(case.tokens) == 30
        and set(case.tokens.checkpoint) == {"base"}
        and set(case.tokens.reverse_kl) == {2.0}
    )
    # KL of the wrong ones: 0.1, 2, 2, 3, hence a median of 2
    assert case.rule.startswith("the longest of the base student's wrong rollouts")
    assert "(3 of 4, out of 6 kept to look at)" in case.rule


def test_the_rule_is_checked_against_the_median_of_the_wrong_ones() -> None:
    rollouts, tokens = kept(*TABLE[:3])
    assert choose(rollouts, tokens).rollout.rollout_id == "far and long"
    assert "(2 of 3, out of 3 kept to look at)" in choose(rollouts, tokens).rule
    assert choose(*kept(*TABLE[:2])).rollout.rollout_id == "far but short"


def test_without_a_wrong_rollout_another_failure_is_chosen_and_then_any() -> None:
    failed, right = choose(*kept(*TABLE[4:])), choose(*kept(*TABLE[5:]))
    assert failed.rollout.rollout_id == "cut" and "not correct rollouts" in failed.rule
    assert right.rollout.rollout_id == "right" and "student's rollouts" in right.rule
    with pytest.raises(ValueError, match="no rollout of the base student"):
        choose(*kept(TABLE[-1]))


# The page


@pytest.mark.parametrize("width", ["page", "column"])
@pytest.mark.parametrize("case", [SHORT, LONG])
def test_any_rollout_fits_the_page(case: Case, width: style.Width) -> None:
    apart_on_the_page(case_study.draw(case, width=width))


@pytest.mark.parametrize("width", ["page", "column"])
def test_long_names_and_questions_of_wide_letters_fit_the_page(width: style.Width) -> None:
    wide = ROLLOUT.copy()
    wide["problem_id"], wide["question"] = (
        "counting_and_probability/" * 4 + "117",
        "WHAT WOULD MOM MAKE? " * 40,
    )
    tokens = [
        ("W" * (i % 9), f"a category of the user's own, number {i % 5}", 0.1 * i) for i in range(40)
    ]
    figure = case_study.draw(Case(frame_of(tokens), wide), width=width)
    apart_on_the_page(figure)
    question: Any = artist(figure, "subtitle")
    assert question.get_text().endswith("\u2026") and question.get_text().count("\n") == 1


def test_the_same_tokens_give_the_same_bytes(tmp_path: Path) -> None:
    first, again = (
        style.save(case_study.draw(SHORT), tmp_path / name) for name in ("first", "again")
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_no_token_and_tokens_of_several_rollouts_are_refused() -> None:
    two = pd.concat([SHORT.tokens, SHORT.tokens.assign(checkpoint="late")])
    for tokens, count in ((SHORT.tokens[:0], 0), (two, 2)):
        for call in (case_study.draw, case_study.caption):
            with pytest.raises(ValueError, match=f"those of one rollout, got {count}"):
                call(Case(tokens))

r"""Categories of text: however it is cut, as the paper labels it, and what a category file may
hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from decaylab.errors import UserError
from decaylab.paper.publication import published
from decaylab.tokens import categories
from decaylab.tokens.categories import END_OF_TURN
from decaylab.tokens.category_rules import CategoryRules

NINE_WORDS = {"To", "Let", "First", "Step", "We", "Given", "Therefore", "Thus", "Since"}
PROBLEM = (
    "To find \\( x \\), we note 3 + 4 = 7. Therefore,\n\n**Step 1**: \\[ \\frac{12}{4} \\times 5 "
    "\\\\ x-y \\]\n"
    "- Total \\alpha; the well-known area, 3x4 and 2 * 3, x * y --- naïve 数学、🙂 \\boxed{12}. There "  # noqa: E501
    "Thus"
)


@pytest.fixture(scope="module")
def rules() -> CategoryRules:
    return CategoryRules.load(None)


def named(rules: CategoryRules, pieces: Sequence[str]) -> list[str]:
    """Categories of the tokens of one rollout."""
    return [rules.names[code] for code in rules.classify(pieces, np.array([len(pieces)]))]


def by_definition(rules: CategoryRules, text: str) -> list[str]:
    """Category of each character: the first whose patterns have a match over it."""
    found = []
    for place, character in enumerate(text):
        takers = [
            code
            for code, pattern in rules.patterns
            if any(one.start() <= place < one.end() for one in pattern.finditer(text))
        ]
        code = rules.white_space if character.isspace() else [*takers, rules.rest][0]
        found.append(rules.names[code])
    return found


def cut(text: str, rng: np.random.Generator) -> list[str]:
    """The text cut at random, with empty pieces too."""
    ends = np.sort(rng.integers(0, len(text) + 1, rng.integers(0, len(text)))).tolist()
    return [text[start:stop] for start, stop in zip([0, *ends], [*ends, len(text)], strict=True)]


CASES = {
    "To": "planning",
    "Total": "continuation",
    "to": "continuation",
    "Let's": "planning",
    "Therefore": "planning",
    "There": "continuation",
    "12": "math_number",
    "+": "math_operator",
    "−": "math_operator",
    "×": "math_operator",
    "\\times": "math_operator",
    "\\cdot": "math_operator",
    "\\timeless": "continuation",
    "/": "math_operator",
    "x": "continuation",
    "\\(": "math_latex",
    "\\)": "math_latex",
    "\\[": "math_latex",
    "\\]": "math_latex",
    "\\\\": "math_latex",
    "\\frac": "continuation",
    "\\": "structural",
    "\\{": "structural",
    "(": "structural",
    "_": "structural",
    "**": "structural",
    "---": "structural",
    "\n\n": "structural",
    "、": "structural",
    "🙂": "continuation",
    "naïve": "continuation",
}


@pytest.mark.parametrize("text", CASES)
def test_a_text_by_itself_and_behind_a_space(text: str, rules: CategoryRules) -> None:
    assert named(rules, [text]) == named(rules, [" " + text]) == [CASES[text]]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["There", "fore", ",", " There"], ["planning", "planning", "structural", "continuation"]),
        (["To", "tal"], ["continuation", "continuation"]),
        (["1", "2", " 12"], ["math_number"] * 3),
        (["\\", "(", "x", "\\)"], ["math_latex", "math_latex", "continuation", "math_latex"]),
        (["\\", "frac", "{"], ["continuation", "continuation", "structural"]),
        (["\\", "times"], ["math_operator", "math_operator"]),
        (
            ["3", "x", "4", " x", " 5"],
            ["math_number", "math_operator", "math_number", "math_operator", "math_number"],
        ),
        (["3", "x", " +"], ["math_number", "continuation", "math_operator"]),
        (["2", " *", " 3"], ["math_number", "math_operator", "math_number"]),
        (["x", " *", " y"], ["continuation", "structural", "continuation"]),
        (["well", "-", "known"], ["continuation", "structural", "continuation"]),
        (["x", "-", "y"], ["continuation", "math_operator", "continuation"]),
        (
            ["-", " a", "\n", "-", " b", " -", " 1"],
            [
                "structural",
                "continuation",
                "structural",
                "structural",
                "continuation",
                "math_operator",
                "math_number",
            ],
        ),
        (["-", "1"], ["math_operator", "math_number"]),
        ([" ", "\n", " To"], ["structural", "structural", "planning"]),
    ],
)
def test_a_token_belongs_where_its_first_visible_character_does(
    pieces: list[str], expected: list[str], rules: CategoryRules
) -> None:
    assert named(rules, pieces) == expected


def test_part_of_a_character_belongs_where_the_character_does(rules: CategoryRules) -> None:
    """×, then an ideographic space, then a character that does not come before the rollout ends."""
    assert named(rules, ["", "×", "", "", "\u3000", "a", ""]) == [
        *["math_operator"] * 2,
        *["structural"] * 3,
        "continuation",
        "continuation",
    ]
    codes = rules.classify(["a", "", "1"], np.array([2, 1]))  # the digit is another rollout's
    assert [rules.names[code] for code in codes] == ["continuation", "continuation", "math_number"]


@pytest.mark.parametrize("seed", range(20))
def test_categories_do_not_depend_on_how_the_text_is_cut(seed: int, rules: CategoryRules) -> None:
    pieces = cut(PROBLEM, np.random.default_rng(seed))
    of_characters, at = by_definition(rules, PROBLEM), 0
    assert len(set(of_characters)) == len(rules.names) - 1
    for piece, found in zip(pieces, named(rules, pieces), strict=True):
        place = at + len(piece) - len(piece.lstrip()) if piece.strip() else at
        assert found == ([*of_characters, "continuation"][place]), (piece, at)
        at += len(piece)


def test_nothing_is_matched_across_two_rollouts(rules: CategoryRules) -> None:
    codes = rules.classify(["There", "fore", "To", "tal"], np.array([1, 1, 1, 1]))
    assert [rules.names[code] for code in codes] == [
        "continuation",
        "continuation",
        "planning",
        "continuation",
    ]
    assert (
        named(rules, ["There", "fore", "To", "tal"]) == ["continuation"] * 4
    )  # "ThereforeTotal" is one word


def test_chunks_of_rollouts_change_nothing(
    rules: CategoryRules, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    rollouts = [
        cut(PROBLEM[rng.integers(0, 40) :], rng) if index % 7 else [] for index in range(50)
    ]
    pieces, lengths = (
        [piece for one in rollouts for piece in one],
        np.array([len(one) for one in rollouts]),
    )
    whole = rules.classify(pieces, lengths)
    for size in (1, 100, 1000):
        monkeypatch.setattr(categories, "TOKENS_AT_A_TIME", size)
        assert (rules.classify(np.array(pieces, dtype=object), lengths) == whole).all()
    assert [rules.names[code] for code in whole] == [
        name for one in rollouts if one for name in named(rules, one)
    ]


def test_an_end_of_turn_token_is_its_own_category_whatever_it_reads(rules: CategoryRules) -> None:
    codes = rules.classify(["12", "<|im_end|>"], np.array([2]), np.array([False, True]))
    assert [rules.names[code] for code in codes] == ["math_number", END_OF_TURN]
    assert named(rules, ["<|im_end|>"]) == ["structural"]


def test_no_tokens_have_no_categories(rules: CategoryRules) -> None:
    assert rules.classify([], np.array([], dtype=np.int64)).size == 0
    assert rules.classify([], np.array([0, 0])).size == 0
    assert named(rules, ["", ""]) == ["continuation"] * 2


def test_the_published_labels_are_reproduced() -> None:
    """All 20. By the nine words of the paper's own definition three of its labels would be wrong:
    the paper contradicts itself at Solution, The and Next, and the library goes by the table of
    measured tokens."""
    table = published("high_kl_tokens")
    assert len(table) == 20
    rules = CategoryRules.load(None)
    labels = [named(rules, [token])[0] for token in table["token"]]
    assert labels == table["category"].tolist()
    contradicted = table[
        (table["category"] == "planning") & ~table["token"].str.strip().isin(NINE_WORDS)
    ]
    assert set(contradicted["token"]) == {"Solution", "The", "Next"}
    assert set(published("kl_by_category")["category"]) == set(rules.names) - {END_OF_TURN}


def test_the_first_category_of_the_file_has_what_two_of_them_match(tmp_path: Path) -> None:
    one, other = (
        '[[category]]\nname = "one"\npattern = "ab+"\n',
        '[[category]]\nname = "other"\nwords = ["abba"]\n',
    )
    rest = '[[category]]\nname = "rest"\nrest = true\n'
    assert named(load(tmp_path, one + other + rest), ["abb", "a", " "]) == ["one", "other", "rest"]
    assert named(load(tmp_path, other + one + rest), ["abb", "a", " abb"]) == [
        "other",
        "other",
        "one",
    ]


def test_matches_of_nothing_take_nothing(tmp_path: Path) -> None:
    rules = load(
        tmp_path,
        '[[category]]\nname = "a"\npattern = "x*|y"\n[[category]]\nname = "b"\nrest = true',
    )
    assert named(rules, list("yxxzyyz")) == list("aaabaab")


def test_words_are_whole_and_no_patterns(tmp_path: Path) -> None:
    rules = load(
        tmp_path,
        '[[category]]\nname = "a"\nwords = ["C++", "a.c", '
        '"café"]\n[[category]]\nname="b"\nrest=true',
    )
    assert named(rules, ["C++", " abc", " a.c", " café", " cafés"]) == ["a", "b", "a", "a", "b"]


def load(folder: Path, text: str) -> CategoryRules:
    path = folder / "mine.toml"
    path.write_text(text)
    return CategoryRules.load(path)


REST = '[[category]]\nname = "rest"\nrest = true\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            REST + '[[category]]\nname = "a"\nwrods = ["b"]',
            "'a': unknown key 'wrods'; allowed are name, words,",
        ),
        (REST + "[categories]\na = 1", "category, categories; only [[category]] tables"),
        ("", "nothing; only [[category]] tables"),
        ("category = 1", "only [[category]] tables"),
        (REST + '[[category]]\nname = "a"\npattern = "(b"', "'a', key pattern: missing )"),
        (REST + '[[category]]\nname = "a"\npattern = 1', "'a', key pattern: expected str, got 1"),
        (REST + '[[category]]\nname = "a"\nwords = []', "'a', key words: expected a list of words"),
        (
            REST + '[[category]]\nname = "a"\nwords = ["b", ""]',
            "'a', key words: expected a list of words",
        ),
        (REST + '[[category]]\nname = "a"', "'a': needs either words or pattern"),
        (REST + REST, "key name: 'rest' appears twice"),
        (
            REST + '[[category]]\nname = "end_of_turn"\nwords = ["b"]',
            "key name: 'end_of_turn' is reserved",
        ),
        (REST + '[[category]]\nwords = ["b"]', "key name: every [[category]] needs a name"),
        (
            REST + '[[category]]\nname = "a"\nrest = true',
            "key rest: exactly one category must have rest = true",
        ),
        (
            '[[category]]\nname = "a"\nwords = ["b"]',
            "key rest: exactly one category must have rest = true",
        ),
        (
            REST + '[[category]]\nname = "a"\nwords = ["b"]\nrest = true',
            "'a': needs either words or pattern",
        ),
        (
            REST
            + "white_space = true\n"
            + '[[category]]\nname = "a"\nwords = ["b"]\nwhite_space = true',
            "at most one",
        ),
        ("[[category]", "line 1"),
    ],
)
def test_a_category_file_that_cannot_be_used_is_named_with_its_key(
    text: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(says)) as raised:
        load(tmp_path, text)
    assert str(raised.value).startswith(
        f"category file {tmp_path / 'mine.toml'}: "
    ) and "\n" not in str(raised.value)


def test_a_missing_category_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the category file .*none.toml: No such file"):
        CategoryRules.load(tmp_path / "none.toml")

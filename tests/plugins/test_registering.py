"""Names, functions and files of the user's own: what is registered, refused, and recorded."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import typer
from own_parts import PLUGIN, forgotten, write_plugin

import decaylab as dl
from decaylab.cli import main, registering
from decaylab.errors import UserError
from decaylab.maths.selection import SELECTORS, Signals, select, weigh
from decaylab.options import declared
from decaylab.options.measuring import Options
from decaylab.options.sweeping import SweepOptions
from decaylab.options.training import TrainOptions
from decaylab.plugins import loading, origins
from decaylab.problems.answers import RULES
from decaylab.problems.grading import Grader
from decaylab.problems.sets import load_problems

COMMAND_LINE: Any = typer.main.get_command(main.app)
FIVE = Signals(*(np.arange(5.0) for _ in range(5)))


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    with forgotten():
        yield


def of(signals: Any, budget: int, rng: Any) -> Any:
    return np.ones(len(signals.reverse_kl))


def judged(response: str, gold: str) -> bool:
    return response == gold


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_plugin_file_registers_under_its_names_with_the_hash_of_the_file(tmp_path: Path) -> None:
    path = write_plugin(tmp_path)
    loading.load(str(path))
    assert weigh("last-half-weights", FIVE, 2, rng()).tolist() == [0, 0, 0, 0.5, 0.5]
    assert RULES["last_word"]("it is 12.", "12") is True
    found = origins.identity([(origins.SELECTOR, "last-half-weights"), (origins.SELECTOR, "full")])
    assert found == {
        "plugins": {
            "selector last-half-weights": {
                "kind": "selector",
                "name": "last-half-weights",
                "module": "my_parts",
                "file": "my_parts.py",
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "distribution": "",
            }
        }
    }
    assert origins.identity([(origins.SELECTOR, "prefix")]) == {}


def test_a_file_is_imported_again_only_if_it_has_changed(tmp_path: Path) -> None:
    path = write_plugin(tmp_path)
    loading.load(str(path))
    first = SELECTORS["last-half-weights"]
    loading.load(str(path))
    assert SELECTORS["last-half-weights"] is first
    before = origins.identity([(origins.SELECTOR, "last-half-weights")])
    write_plugin(tmp_path, PLUGIN.replace("0.5", "0.25"))
    loading.load(str(path))
    assert weigh("last-half-weights", FIVE, 1, rng()).tolist() == [0, 0, 0, 0, 0.25]
    now = origins.identity([(origins.SELECTOR, "last-half-weights")])
    (words,) = origins.differences(before["plugins"], now["plugins"])
    assert words.startswith("selector last-half-weights (my_parts.py) has changed: SHA-256 ")


@pytest.mark.parametrize(
    ("decorator", "name", "words"),
    [
        (dl.selector, "Mine", "must be lower-case words joined by hyphens"),
        (dl.selector, "mine-20", "must be lower-case words joined by hyphens"),
        (dl.selector, "a|b", "must be lower-case words"),
        (dl.selector, "x" * 41, "of at most 40 characters"),
        (dl.answer_rule, "my-rule", "letters, digits and underscores"),
        (dl.answer_rule, "file", "has another meaning"),
        (dl.problem_set, "a/b", "must be lower-case words"),
        (dl.problem_set, "rollouts", "has another meaning"),
        (dl.selector, "prefix", "selector 'prefix' is one of decaylab's own"),
        (dl.answer_rule, "gsm8k", "answer rule 'gsm8k' is one of decaylab's own"),
        (dl.problem_set, "math500", "problem set 'math500' is one of decaylab's own"),
        (dl.selector, of, "write @dl.selector"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(
    decorator: Callable[..., Any], name: Any, words: str
) -> None:
    function = {dl.selector: of, dl.answer_rule: judged}.get(decorator, lambda limit: [])
    with pytest.raises(UserError, match=words):
        decorator(name)(function)
    assert not origins.ORIGINS


def test_a_name_that_another_function_has_is_refused_and_the_same_one_is_replaced() -> None:
    dl.selector("mine")(of)
    dl.selector("mine", whole=True)(of)
    assert SELECTORS["mine"].whole, "a cell that is run twice"

    def other(signals: Any, budget: int, rng: Any) -> Any:
        return of(signals, budget, rng)

    with pytest.raises(UserError, match=r"'mine' \(of in test_registering.py\) is registered"):
        dl.selector("mine")(other)


def test_a_function_with_other_arguments_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"judged in test_registering.py\) must take 3 arguments, s"
    ):
        dl.selector("mine")(judged)
    with pytest.raises(UserError, match="must take 2 arguments, response, gold"):
        dl.answer_rule("mine")(of)
    with pytest.raises(UserError, match="must be a function, got 3"):
        dl.problem_set("mine")(3)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (np.ones(4), r"must return one weight per token, of shape \(5,\), got shape \(4,\)"),
        (np.ones((5, 1)), r"got shape \(5, 1\)"),
        (np.array([0, 0, 0, 0, -1]), "must return finite weights of at least 0, got -1"),
        (np.array([0, 0, 0, 0, np.nan]), "got nan"),
        (np.ones(5), "must weight at most budget = 2 tokens, got 5 of 5; register it with whole"),
        ("abcde", "ValueError: could not convert string"),
    ],
)
def test_weights_that_cannot_be_used_name_function_and_file(returned: Any, words: str) -> None:
    def mine(signals: Any, budget: int, rng: Any) -> Any:
        return returned

    dl.selector("mine")(mine)
    with pytest.raises(UserError, match=words) as refused:
        weigh("mine", FIVE, 2, rng())
    assert "selector 'mine' (" in str(refused.value) and "test_registering.py" in str(refused.value)


def test_a_selector_that_raises_is_an_error_with_its_line() -> None:
    def mine(signals: Any, budget: int, rng: Any) -> Any:
        return signals.kl

    dl.selector("mine")(mine)
    line = mine.__code__.co_firstlineno + 1
    with pytest.raises(UserError, match=rf"no attribute 'kl' \(line {line} of test_registering"):
        weigh("mine", FIVE, 2, rng())


def test_signals_cannot_be_written_to_and_are_nan_unless_they_are_needed() -> None:
    def spoils(signals: Any, budget: int, rng: Any) -> Any:
        signals.reverse_kl[:] = 0
        return np.ones(5)

    dl.selector("spoils")(spoils)
    with pytest.raises(UserError, match="read-only"):
        weigh("spoils", FIVE, 5, rng())
    assert FIVE.reverse_kl.tolist() == [0, 1, 2, 3, 4] and FIVE.reverse_kl.flags.writeable

    dl.selector("blind", needs_signals=False)(lambda signals, budget, rng: signals.reverse_kl)
    with pytest.raises(UserError, match="set needs_signals=True"):
        weigh("blind", FIVE, 5, rng())


def test_a_mask_or_a_list_will_do() -> None:
    dl.selector("mask")(lambda signals, budget, rng: signals.reverse_kl > 2)
    assert weigh("mask", FIVE, 2, rng()).tolist() == [0, 0, 0, 1, 1]
    dl.selector("list", whole=True)(lambda signals, budget, rng: [0, 1, 2, 0, 3])
    assert select("list", FIVE, 1, rng()).tolist() == [False, True, True, False, True]


def inner() -> Callable[..., Any]:
    def nested(signals: Any, budget: int, rng: Any) -> Any:
        return of(signals, budget, rng)

    return nested


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda signals, budget, rng: np.ones(5), "is a lambda"),
        (partial(lambda more, signals, budget, rng: np.ones(5), 1), "is a lambda"),
        (inner(), "is defined inside another function"),
        (FunctionType(of.__code__, {"__name__": "__main__", "np": np}, "of"), "in a notebook or"),
    ],
)
def test_what_no_resumed_run_could_import_is_refused_for_runs(
    function: Callable[..., Any], why: str
) -> None:
    dl.selector("mine")(function)
    with pytest.raises(UserError, match=f"{why}.*give --plugin my_parts.py"):
        TrainOptions(selector="mine").resolved()
    assert SELECTORS["mine"].weigh(FIVE, 5, rng()) is not None, "and works outside of a run"


def test_plugins_that_cannot_be_imported_are_refused_in_a_line(tmp_path: Path) -> None:
    broken = write_plugin(tmp_path, "x = 1\ny = x / 0\n", "my_broken.py")
    for source, words in (
        (broken, r"ZeroDivisionError: division by zero \(line 2 of my_broken.py\)"),
        (write_plugin(tmp_path, "def", "my_syntax.py"), "SyntaxError: invalid syntax"),
        (write_plugin(tmp_path, "x = 1", "my_empty.py"), "registers nothing: write @dl.selector"),
        (tmp_path / "none.py", "No such file"),
        ("no.such.module", "ModuleNotFoundError: No module named 'no'"),
    ):
        with pytest.raises(UserError, match=words):
            TrainOptions(plugin=(str(source),))
    assert "decaylab_plugin_my_broken" not in sys.modules


def test_an_unknown_name_lists_the_registered_ones_and_says_how_to_add_one(tmp_path: Path) -> None:
    TrainOptions(plugin=str(write_plugin(tmp_path)))  # type: ignore[arg-type]
    for given, words in (
        ({"selector": "nine"}, "rising, last-half-weights, got nine; .* needs --plugin FILE.py"),
        ({"answer_rule": "nine"}, "parse, last_word, odd_length, got nine; .*--plugin FILE.py"),
    ):
        with pytest.raises(UserError, match=words):
            TrainOptions(**given)
    with pytest.raises(UserError, match="glaive, little-sums, gym:TASK.*with --plugin"):
        load_problems("nine")


def test_a_set_is_a_list_a_frame_or_an_iterator_of_dicts(tmp_path: Path) -> None:
    loading.load(str(write_plugin(tmp_path)))
    sums = load_problems("little-sums", limit=3)
    assert [one.answer for one in sums.problems] == ["{]2", "{]4", "{]6"]
    assert sums.answer_rule == "odd_length" and sums.own
    assert sums.version.startswith("my_parts.py ")
    rows = [{"question": "one", "answer": 1}, {"question": "two", "answer": None}]
    frame = pd.DataFrame({"question": ["one", "two"], "answer": ["1", None], "id": [7, 8]})
    dl.problem_set("listed", instruction="boxed")(lambda limit: rows)
    dl.problem_set("framed")(lambda limit: frame)
    listed, framed = load_problems("listed"), load_problems("framed")
    assert (
        [one.answer for one in listed.problems]
        == ["1", None]
        == [one.answer for one in framed.problems]
    )
    assert "boxed" in listed.instruction and framed.problems[0].problem_id == "7"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (lambda limit: ["text"], "must return rows as dicts, got str as row 1"),
        (lambda limit: {"question": "q"}, "must return a list of dicts, a DataFrame"),
        (lambda limit: [], "mine has no problems: it is empty"),
        (lambda limit: 1 / 0, "ZeroDivisionError: division by zero .line .* of test_registering"),
        (lambda limit: [{"ask": "q"}], "has no column 'problem' or 'question' or"),
    ],
)
def test_a_set_that_cannot_be_used_names_its_function(rows: Callable[..., Any], words: str) -> None:
    dl.problem_set("mine")(rows)
    with pytest.raises(UserError, match=words):
        load_problems("mine")


def packaged(root: Path, value: str, module: str) -> None:
    """An installed package ``beads-parts`` 1.3 with an entry point."""
    (root / "my_beads").mkdir(parents=True)
    (root / "my_beads" / "__init__.py").touch()
    (root / "my_beads" / "parts.py").write_text(module)
    information = root / "beads_parts-1.3.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: beads-parts\nVersion: 1.3\n"
    )
    (information / "entry_points.txt").write_text(f"[decaylab.plugins]\nbeads = {value}\n")


def test_an_installed_package_registers_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged(tmp_path, "my_beads.parts", f"from . import __name__ as package\n{PLUGIN}")
    monkeypatch.syspath_prepend(str(tmp_path))
    loading.load_installed.cache_clear()
    named = [(origins.SELECTOR, "last-half-weights"), (origins.ANSWER_RULE, "last_word")]
    assert TrainOptions(selector=named[0][1], answer_rule=named[1][1]).own_parts()[:2] == named
    assert "rising, last-half-weights." in declared.options_of(TrainOptions)["selector"].help
    assert "glaive, little-sums, a .jsonl" in declared.options_of(Options)["problems"].help
    found = origins.identity(named)["plugins"]["answer rule last_word"]
    assert (found["distribution"], found["module"]) == ("beads-parts 1.3", "my_beads.parts")
    assert found["file"] == "parts.py" and len(found["sha256"]) == 64
    assert loading.sources(named) == ("my_beads.parts",), "its imports are relative"
    # of a rule, in the grading process
    with Grader() as grader:
        graded = grader.grade(["it is 12."], ["12"], rules=["last_word"])
    assert graded.correct("last_word") == [True]


def test_an_installed_package_that_is_broken_stops_nothing_but_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged(tmp_path, "my_beads.parts", "import absent_library")
    monkeypatch.syspath_prepend(str(tmp_path))
    loading.load_installed.cache_clear()
    assert TrainOptions().selector == "prefix"
    with pytest.raises(UserError) as refused:
        TrainOptions(selector="beads")
    assert str(refused.value).endswith(
        "got beads; one of your own needs --plugin FILE.py; the plugin beads of beads-parts "
        "(my_beads.parts) could not be imported: ModuleNotFoundError: No module named "
        "'absent_library' (line 1 of parts.py)"
    )


PAGE = Path(__file__).parents[2] / "docs" / "your-own.md"


def test_the_functions_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    blocks = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (file, *_) = [text for kind, text in blocks if kind == "python"]
    path = write_plugin(tmp_path, file)
    sweep = SweepOptions(
        over="selector", values="prefix,surprising", budget=20, plugin=(str(path),)
    )
    assert [arm.arm() for arm in sweep.arms()] == ["prefix-20", "surprising-20"]
    falling = Signals(*[-np.arange(5.0)] * 5)
    assert weigh("surprising", falling, 2, rng()).tolist() == [0, 0, 0, 1, 1]
    assert RULES["last_word"]("so it is 4.", "4") is True
    doubles = load_problems("doubles", limit=2)
    assert [one.answer for one in doubles.problems] == ["2", "4"]
    assert doubles.answer_rule == "last_word"
    (commands, *_) = [text for kind, text in blocks if kind == "bash"]
    for line in commands.splitlines():
        words = [word.replace("my_parts.py", str(path)) for word in line.split()[1:]]
        with mock.patch.object(registering, "_options", stopped), pytest.raises(Stop):
            COMMAND_LINE.main(words, standalone_mode=False)


def test_a_config_file_may_name_the_plugin_and_what_it_registers(tmp_path: Path) -> None:
    file, path = tmp_path / "options.toml", write_plugin(tmp_path)
    lines = f'plugin = ["{path}"]', 'selector = "last-half-weights"', 'answer-rule = "last_word"'
    file.write_text("\n".join(lines))
    with mock.patch.object(registering, "_options", stopped), pytest.raises(Stop):
        COMMAND_LINE.main(["train", "--config", str(file)], standalone_mode=False)


class Stop(Exception):
    """The options of a command are made."""


def stopped(kind: Any, values: Any, make: Any = registering._options) -> None:
    make(kind, values)
    raise Stop


def test_decorators_import_nothing_of_the_commands(tmp_path: Path) -> None:
    """The grading processes import plugins, and their memory is limited."""
    write_plugin(tmp_path)
    code = (
        "import sys, my_parts\n"
        "heavy = {'torch', 'transformers', 'pandas', 'matplotlib', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)

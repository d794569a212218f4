"""The functions of the commands: typed, documented, and generated from the declared options."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api as mypy

import decaylab as dl
from decaylab.api import running
from decaylab.options.command_options import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "signatures.py"
USER = """
from pathlib import Path
import decaylab as dl

run = dl.prefix_decay(
    teacher="Qwen/Qwen3-1.7B", student=Path("student"), prefix_lengths=[0, 100], level=1 / 2,
    template_kwargs={"mode": True}, thinking="on", quiet=True,
)
joined = run.tokens.merge(run.rollouts[["rollout_id", "grade_last_boxed"]])
dl.position_kl("runs/esr", Path("runs/full"), bins=range(0, 30, 10), answer_rule="x")  # wrong
dl.evaluate("runs/esr", answer_rule="my_own_rule", samples=2)
dl.train(selector="my-own", rollout_length=40, track="wandb")
dl.sweep("rollout-length", [5, "full"], seeds=2)
dl.sweep("learning-rate", [5])  # wrong
dl.prefix_decay(limits=3)  # wrong
dl.prefix_decay(thinking="sometimes")  # wrong
dl.prefix_decay("Qwen/Qwen3-1.7B")  # wrong
dl.prefix_decay(limit="3")  # wrong
fits: bool = dl.plan(teacher="a", gpus="1x48GB").fits
dl.compare("a", "b").verdict.upper()  # wrong
dl.figure("position-kl", "runs", width="poster")  # wrong
version: str = dl.__version__
"""
CONFIG = """
[mypy]
follow_imports = skip
[mypy-decaylab,decaylab.api.*]
follow_imports = silent
"""


def python_name(command: str) -> str:
    return {"rollouts": "read_rollouts"}.get(command, command.replace("-", "_"))


def test_the_declarations_are_those_that_the_options_give() -> None:
    spec = importlib.util.spec_from_file_location("signatures", SCRIPT)
    assert spec is not None and spec.loader is not None
    signatures = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = signatures
    spec.loader.exec_module(signatures)
    written = signatures.TARGET.read_text(encoding="utf-8")
    assert signatures.module() == written, "run scripts/signatures.py"


def test_a_users_call_is_checked_by_mypy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    script, config = tmp_path / "user.py", tmp_path / "mypy.ini"
    script.write_text(USER)
    config.write_text(CONFIG)
    printed, errors, _ = mypy.run(
        ["--config-file", str(config), "--cache-dir", str(tmp_path / "cache"), str(script)]
    )
    assert not errors, errors
    found = {int(line.split(":")[1]) for line in printed.splitlines() if ": error:" in line}
    wrong = {
        number for number, line in enumerate(USER.splitlines(), start=1) if line.endswith("# wrong")
    }
    assert found == wrong, printed


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_function_with_its_options(command: str) -> None:
    function = getattr(dl, python_name(command))
    parameters = inspect.signature(function).parameters
    assert set(parameters) == {*COMMANDS[command].names, "quiet"}
    defaults = COMMANDS[command].kind()
    for name, parameter in parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "quiet":
            assert parameter.default == getattr(defaults, name), name
    text = inspect.getdoc(function) or ""
    assert all(f"    {name}: " in text for name in parameters) and "--" not in text
    assert text.index("Args:") < text.index("Returns:") < text.index("Raises:")


def test_every_other_command_has_a_function_too() -> None:
    from decaylab.cli.main import app

    names = {command.name for command in app.registered_commands}
    assert names == {*COMMANDS, "show", "figures", "report", "view"}
    assert all(map(callable, (dl.show, dl.write_figures, dl.catalogue, dl.report, dl.view)))


def test_a_call_is_recorded_as_it_was_written() -> None:
    given = {
        "checkpoints": ("runs/esr", Path("runs/full")),
        "bins": range(0, 9, 4),
        "columns": {"question": "q"},
        "level": 0.9,
        "prefix_lengths": list(range(30)),
        "student": (object(), 1),
        "quiet": True,
    }
    text = running.spoken("position_kl", given)
    lengths = ", ".join(map(str, range(20)))
    assert text == (
        "dl.position_kl('runs/esr', 'runs/full', bins=[0, 4, 8], columns={'question': 'q'}, "
        f"level=0.9, prefix_lengths=[{lengths}, ...], student=[<object>, 1])"
    )


def test_importing_decaylab_imports_nothing_heavy() -> None:
    code = (
        "import sys, inspect, decaylab\n"
        "assert list(inspect.signature(decaylab.position_kl).parameters)[:2] == "
        "['checkpoints', 'teacher']\n"
        "heavy = {'torch', 'transformers', 'pandas', 'matplotlib', 'numpy', 'pyarrow'} & "
        "set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert decaylab.__version__[0].isdigit()\n"
        "assert {*decaylab.__all__, '__version__'} <= set(dir(decaylab))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_public_name_is_there_and_no_module_takes_its_place() -> None:
    import pkgutil

    for name in dl.__all__:
        assert callable(getattr(dl, name)) or name in dl.MODULES, name
    assert not set(dl.__all__) & {one.name for one in pkgutil.iter_modules(dl.__path__)}
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = dl.nonsense

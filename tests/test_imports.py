"""The arrows of the house go one way, and the heavy extras are optional."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = tomllib.loads((ROOT / "decaylab" / "rooms.toml").read_text())["order"]
OF_TRANSFORMERS = "callback"
"""A callback for the trainer of transformers, which wants accelerate."""
FOLDERS = {"": ROOT / "decaylab", "analyses": ROOT / "analyses", "figures": ROOT / "figures"}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module by its name below decaylab, such as ``maths.clusters``, with its file."""
    for room, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [*([room] if room else []), *path.relative_to(folder).with_suffix("").parts]
            yield (
                ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts),
                path,
            )


MODULES = {name: path for name, path in modules() if name != "__init__"}


def imported(path: Path) -> set[str]:
    """Modules and rooms that a file imports at run time, by their name below decaylab."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):  # what stands under TYPE_CHECKING is not imported
        if (
            isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
        ):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "decaylab":
            below = (node.module or "").partition(".")[2]
            names = [f"{below}.{alias.name}" if below else alias.name for alias in node.names]
            found |= {name if name in MODULES else below for name in names}
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.partition(".")[2]
                for alias in node.names
                if alias.name.startswith("decaylab.")
            }
    return found - {""}


def room(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_its_own_room_and_those_below(name: str) -> None:
    own = room(name)
    above = ORDER[ORDER.index(own) + 1 :]
    assert not [one for one in imported(MODULES[name]) if room(one) in above]


def test_every_room_stands_in_the_order_once_and_says_what_lives_there() -> None:
    assert sorted(ORDER) == sorted({room(name) for name in MODULES})
    for name in ORDER:
        folder = FOLDERS.get(name, ROOT / "decaylab" / name)
        if folder.is_dir() and name not in ("analyses", "figures"):
            assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), name


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter({name: imported(path) - {name} for name, path in MODULES.items()}).prepare()


@pytest.mark.parametrize("name", [name for name in MODULES if room(name) == "analyses"])
def test_an_analysis_imports_no_other_analysis(name: str) -> None:
    assert "analyses" not in {room(one) for one in imported(MODULES[name])}


@pytest.mark.parametrize("name", [name for name in MODULES if room(name) == "figures"])
def test_a_figure_imports_only_measurements_and_the_published_numbers(name: str) -> None:
    known = {"runs.measurements", "runs.store", "runs.vocabulary", "printing", "errors"}
    assert {
        one for one in imported(MODULES[name]) if room(one) not in ("paper", "figures")
    } <= known


def test_help_is_shown_without_importing_torch_or_any_extra() -> None:
    code = (
        "import sys\n"
        "from decaylab.cli import main\n"
        "try:\n    main.main(['prefix-decay', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'vllm', 'ray', 'reasoning_gym', 'matplotlib', "
        "'pydantic', 'pygments', 'markdown_it'} & "
        "set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_whole_library_imports_without_the_extras() -> None:
    names = [
        f"decaylab.{name}"
        for name in MODULES
        if room(name) not in ("__main__", "analyses", "figures") and name != OF_TRANSFORMERS
    ]
    code = (
        "import sys, importlib\n"
        "for name in ('vllm', 'ray', 'reasoning_gym', 'accelerate', 'gguf', 'inspect_ai'):\n    "
        "sys.modules[name] = None\n"
        f"for name in {names}:\n    importlib.import_module(name)\n"
        "drawing = {'matplotlib', 'seaborn'} & set(sys.modules)\n"
        "assert not drawing, 'imported in order to measure'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

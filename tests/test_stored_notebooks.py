"""The notebooks that ship: they run from the first cell to the last, and what they store is what
was executed."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from command_line import HELPERS, _cached_load, _SharedGrader
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from own_parts import forgotten
from PIL import Image

from decaylab.commands import children, diagnose, prefix_decay
from decaylab.policies import loading
from decaylab.trainer import loop

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = ("quickstart", "own-selector")
STUB = (sys.executable, str(Path(HELPERS) / "stub_decaylab.py"))
MOST = 500_000  # bytes of all notebooks


def read(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


@pytest.fixture(scope="module")
def script() -> Any:
    """The script that executes and stores."""
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_from_the_first_cell_to_the_last(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a tiny size and in this process; a sweep's trainings are stood in for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DECAYLAB_TINY", "1")
    monkeypatch.setattr(loading, "load", _cached_load)
    monkeypatch.setattr(children, "PROGRAM", STUB)
    for module in (diagnose, prefix_decay, loop):
        monkeypatch.setattr(module, "Grader", _SharedGrader)
    shell, shown = InteractiveShell(), set()
    with forgotten():
        for cell in read(name).cells:
            if cell.cell_type == "code":
                with capture_output() as said:
                    result = shell.run_cell(cell.source)
                result.raise_error()
                assert "Traceback" not in said.stderr
                shown |= set(shell.display_formatter.format(result.result)[0])
    assert {"image/png", "text/html"} <= shown
    assert (tmp_path / "runs" / name / "report.html").exists()


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_outputs_are_of_the_sources_beside_them(name: str, script: Any) -> None:
    notebook = read(name)
    assert notebook.metadata["executed"]["sources"] == script.sources(notebook), (
        "cells were changed: run make notebooks"
    )
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert "error" not in kinds and "execute_result" in kinds
    images = [
        output["data"]["image/png"]
        for cell in code
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert images
    for image in images:
        with Image.open(io.BytesIO(base64.b64decode(image))) as picture:
            assert 300 < picture.width <= script.WIDEST


def test_what_is_stored_is_small_and_tells_nothing_of_the_machine() -> None:
    paths = [FOLDER / f"{name}.ipynb" for name in NAMES]
    assert sum(path.stat().st_size for path in paths) < MOST
    for path in paths:
        for cell in json.loads(path.read_text())["cells"]:
            texts = json.dumps([one for one in cell.get("outputs", []) if "image" not in one])
            plain = re.sub(r'"image/png": "[^"]*"', "", texts)
            assert not re.search(r"(?<![\w.<])/(home|root|tmp|work|usr|Users)\b", plain), path
            assert "stderr" not in plain


def test_a_changed_cell_is_another_source(script: Any) -> None:
    notebook = read("quickstart")
    before = script.sources(notebook)
    notebook.cells[0].source += " Text is no code."
    assert script.sources(notebook) == before
    notebook.cells[1].source += "\n"
    assert script.sources(notebook) != before


def test_outputs_are_cut_to_what_is_kept(script: Any) -> None:
    drawn = io.BytesIO()
    Image.new("RGB", (2000, 1000), "white").save(drawn, format="PNG")
    data = {
        "image/png": base64.b64encode(drawn.getvalue()).decode(),
        "text/plain": "<Figure at 0x1>",
    }
    kept = script.stored({"output_type": "execute_result", "data": data})["data"]
    with Image.open(io.BytesIO(base64.b64decode(kept["image/png"]))) as picture:
        assert picture.size == (script.WIDEST, script.WIDEST // 2)
    assert "0x1" not in kept["text/plain"]
    page = {"text/html": "x" * 100_000, "text/plain": "y"}
    assert "text/html" not in script.stored({"data": page})["data"]
    assert script.stored({"output_type": "stream", "name": "stderr", "text": "/tmp"}) is None

"""The quickstart runs from the first cell to the last."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
from command_line import DATA
from nbclient import NotebookClient

ROOT = DATA.parents[1]


def test_the_quickstart_runs_from_the_first_cell_to_the_last(tmp_path: Path) -> None:
    notebook = nbformat.read(ROOT / "notebooks" / "quickstart.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), (
        "the notebook is kept without outputs"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute(env=environment)
    shown = {
        kind
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for kind in output.get("data", {})
    }
    assert {"image/png", "text/html"} <= shown
    assert (tmp_path / "runs" / "quickstart" / "report.html").exists()

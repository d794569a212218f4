"""The quickstart runs from the first cell to the last."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
from command_line import DATA
from nbclient import NotebookClient

ROOT = DATA.parents[1]
SMALLER = {
    '"limit": 60': '"limit": 6, "max_tokens": 80',
    "steps=40": "steps=2, problems_per_step=4, validation_problems=6, max_tokens=80",
    "checkpoint_every=40": "checkpoint_every=2",
}
"""The same cells with fewer problems and steps."""


def test_the_quickstart_runs_from_the_first_cell_to_the_last(tmp_path: Path) -> None:
    notebook = nbformat.read(ROOT / "notebooks" / "quickstart.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), (
        "the notebook is kept without outputs"
    )
    for usual, small in SMALLER.items():
        cells = [cell for cell in notebook.cells if usual in cell.source]
        assert cells, usual
        for cell in cells:
            cell.source = cell.source.replace(usual, small)
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

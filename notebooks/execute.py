"""Executes the notebooks and stores their outputs: ``make notebooks``.

    python notebooks/execute.py                       # both, about ten minutes on two cores
    python notebooks/execute.py notebooks/quickstart.ipynb

Each runs in a folder of its own that is removed at the end. What is stored is small and says
nothing of the machine: messages on standard error are dropped, figures have at most 100 dots per
inch, and the token view, a page of its own, is named instead of kept. The notebook's metadata gain
the hash of the code that was executed, which a test compares: text may be edited without it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parent
NAMES = ("quickstart", "own-selector")
WIDEST = 720  # pixels of a figure
LARGEST = 60_000  # characters of an HTML output
PATIENCE = 3600  # seconds for a cell
EXECUTED = "executed"


def main(words: list[str]) -> None:
    for path in map(Path, words) if words else (FOLDER / f"{name}.ipynb" for name in NAMES):
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            execute(notebook, folder)
        for cell in notebook.cells:
            cell.metadata = {}
            if cell.cell_type == "code":
                cell.outputs = [output for output in map(stored, cell.outputs) if output]
        notebook.metadata[EXECUTED] = {"sources": sources(notebook)}
        nbformat.write(notebook, path)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def execute(notebook: Any, folder: str) -> None:
    """Runs every cell in this folder; an error stops."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    client = NotebookClient(
        notebook,
        timeout=PATIENCE,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": folder}},
    )
    client.execute(env=environment)


def sources(notebook: Any) -> str:
    """A hash of the sources of all code cells, in order."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(cells).encode()).hexdigest()


def stored(output: Any) -> Any:
    """An output as it is kept; None of one that is dropped."""
    if output.get("name") == "stderr":
        return None
    data = output.get("data", {})
    if "image/png" in data:
        data["image/png"] = smaller(data["image/png"])
        data["text/plain"] = "<Figure>"
    if len(data.get("text/html", "")) > LARGEST:
        data.pop("text/html")
        data["text/plain"] = "The page is shown where the cell is run."
    return output


def smaller(png: str) -> str:
    """A figure of at most `WIDEST` pixels, in 128 colours, in base64."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    if picture.width > WIDEST:
        height = round(picture.height * WIDEST / picture.width)
        picture = picture.resize((WIDEST, height), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    picture.quantize(128).save(content, format="PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode()


if __name__ == "__main__":
    main(sys.argv[1:])

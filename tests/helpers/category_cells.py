"""Rows of category KL, made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from decaylab.analyses.category_kl import Settings, measure
from decaylab.runs import measurements as table
from decaylab.tokens.category_rules import CategoryRules
from decaylab.tokens.token_table import Scored, TokenTable

PIECES = [
    "To",
    " add",
    " 3",
    "\n",
    " +",
    " \\",
    "(",
    "$x$",
    "</s>",
    " \u4e2d\u6587",
    "7",
    "8",
    "e\u0301",
    "a" * 30,
]


EDGES = (0, 5, 20)


def scored_tokens(seed: int, scale: float = 1.0) -> TokenTable:
    rng = np.random.default_rng(seed)
    which = np.random.default_rng(0).integers(0, len(PIECES), 720)  # the same text for all
    kl = rng.exponential(scale * (1 + which)).astype(np.float32)
    pieces = np.array(PIECES, dtype=object)[which]
    columns = {"token": pieces, "token_id": which, "reverse_kl": kl}
    return TokenTable(np.full(24, 30), np.repeat(np.arange(12), 2), 12, columns)


def stored_frame(folder: Path, *names: str, edges: tuple[int, ...] = EDGES) -> pd.DataFrame:
    """Measurements of base and these checkpoints, written and read back."""
    scored = [Scored("base", view, scored_tokens(0)) for view in ("fresh", "frozen")]
    for i, name in enumerate(names):
        scored += [
            Scored(name, "fresh", scored_tokens(50 + i, 3.0)),
            Scored(name, "frozen", scored_tokens(90 + i, 0.5)),
        ]
    frame = measure(
        scored, Settings(edges=edges, min_count=1), CategoryRules.load(None), [PIECES.index("</s>")]
    )
    table.write(frame, folder / "measurements.parquet")
    return table.read(folder / "measurements.parquet")


def cells(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows of a map in the order of its cells: categories as in the table, bins ascending."""
    picked = frame[
        (frame.what == "reverse_kl") & (frame.checkpoint == name) & (frame["view"] == "frozen")
    ]
    order = {category: i for i, category in enumerate(dict.fromkeys(picked.category))}
    return picked.sort_values(
        ["category", "position_low"], key=lambda c: c.map(order) if c.name == "category" else c
    )

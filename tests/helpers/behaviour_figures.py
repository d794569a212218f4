"""Rollouts and bars of the figures of behaviour, and texts that must not touch."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from figure_parts import artist
from matplotlib.figure import Figure
from matplotlib.text import Text

from decaylab.analyses.behaviour import Settings, measure
from decaylab.figures import style
from decaylab.runs import measurements as table

RULES = ("last_boxed", "anywhere")


def rollouts(seed: int, problems: int = 15, cut: float = 0.0) -> pd.DataFrame:
    """Three rollouts per problem, of random length and grade, a share of them cut off."""
    rng = np.random.default_rng(seed)
    rows = []
    for problem in np.repeat(np.arange(problems), 3):
        length = int(rng.integers(10, 60)) + seed
        rows.append(
            {
                "problem_id": f"p{problem}",
                "response_ids": rng.integers(0, 6, length),
                "stop_reason": "length" if rng.random() < cut else "eos",
                "text": r"\boxed{1}" * int(rng.integers(1, 3)),
                "answer_start": 0,
                **{f"grade_{rule}": str(rng.choice(["correct", "wrong"])) for rule in RULES},
            }
        )
    return pd.DataFrame(rows)


def stored_frame(folder: Path, *names: str, cut: float = 0.0) -> pd.DataFrame:
    """Measurements of these models, written and read back."""
    models = {name: rollouts(seed, cut=cut) for seed, name in enumerate(names)}
    table.write(measure(models, Settings(RULES)), folder / "measurements.parquet")
    return table.read(folder / "measurements.parquet")


def apart_on_the_page(figure: Figure) -> None:
    """No text is small, cut off, or written over another."""
    with style.context():
        figure.draw(figure.canvas.get_renderer())
        shown = [
            one for one in figure.findobj(Text) if one.get_visible() and one.get_text().strip()
        ]
        boxes = [(one.get_text(), Text.get_window_extent(one)) for one in shown]
    assert min(one.get_fontsize() for one in shown) >= 7.0
    for text, box in boxes:
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        up = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert across <= 0.5 or up <= 2.0, (
            f"{one!r} overlaps {other!r}"
        )  # boxes hold the room of descenders


def bars(figure: Figure, gid: str) -> np.ndarray:
    """Ends of the interval lines."""
    return np.array([segment[:, 0] for segment in artist(figure, f"{gid}.bars").get_segments()])

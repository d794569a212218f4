"""The step after a measurement: its figures, drawn from the run's folder.

Nothing that measures loads matplotlib. A run whose drawing fails is a finished run with one
warning, and `decaylab figures` draws it later.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from decaylab.disk import write_atomically
from decaylab.paper import publication
from decaylab.problems.files import one_line
from decaylab.runs import measurements, store
from decaylab.runs.vocabulary import FULL

if TYPE_CHECKING:
    from decaylab.runs.train_results import TrainResult


@dataclass(frozen=True)
class RunFigure:
    """A figure beside the measurements of a run.

    module: of decaylab.figures. published: the paper's numbers in the same shape. needs: a
    quantity without which there is nothing to draw. name: of its files, by default the module's.
    """

    module: str
    published: Callable[[], pd.DataFrame] | None = None
    needs: str = ""
    name: str = ""

    @property
    def file(self) -> str:
        return self.name or self.module.replace("_", "-")


OF_EVERY_SWEEP = (
    RunFigure("stability", publication.per_step, needs="peak_accuracy"),
    RunFigure("efficiency", publication.efficiency),
)
FIGURES = {
    "prefix-decay": (
        RunFigure("prefix_decay", publication.prefix_curve),
        RunFigure("hand_back", needs="corrective_gain"),
    ),
    "position-kl": (RunFigure("position_kl", publication.position_kl),),
    "category-kl": (RunFigure("category_kl", publication.kl_by_category),),
    "submode": (RunFigure("submode", publication.submode),),
    "signals": (RunFigure("signals", publication.three_signals),),
    "token-truth": (RunFigure("token_truth"),),
    "interventions": (RunFigure("interventions"),),
    "arm-gains": (RunFigure("arm_gains"),),
    "behaviour": (RunFigure("behaviour", publication.response_length),),
    "evaluate": (RunFigure("evaluation", name="evaluate"),),
    "values": (RunFigure("values"),),
    "compare": (RunFigure("compare"),),
    "sweep rollout-length": (RunFigure("n_sweep", publication.n_sweep), *OF_EVERY_SWEEP),
    "sweep selector": (RunFigure("token_selection", publication.token_selection), *OF_EVERY_SWEEP),
}


def drawn(folder: store.RunFolder, command: str, *, published: bool) -> dict[str, Any]:
    """Draws the figures of a run that is measured; returns the run's record.

    Where that fails, the record gains a note which says so.
    """
    record = folder.record or {}
    try:
        draw(folder.path, command, published=published)
    # of matplotlib, of fonts, of a disk that is full: none of them is a fault of the measurement
    except Exception as error:
        warning = (
            f"the figures were not drawn ({type(error).__name__}: {one_line(error)}); the "
            f"measurements are whole, and `decaylab figures {folder.path} --all` draws them"
        )
        record = folder.update({"notes": [*record["notes"], warning]})
    return record


def draw(folder: Path, command: str, *, published: bool) -> None:
    """Draws the figures of a run from its measurements, each with its caption beside it.

    published: with the paper's numbers in them.
    """
    from decaylab.figures import style  # loads matplotlib

    frame = measurements.read(folder / "measurements.parquet")
    for figure in FIGURES[command]:
        if figure.needs and figure.needs not in set(frame["what"]):
            continue
        module = importlib.import_module(f"decaylab.figures.{figure.module}")
        theirs = figure.published() if published and figure.published else None
        style.save(module.draw(frame, published=theirs), folder / figure.file)
        text = f"{module.caption(frame, theirs)}\n\n{module.details(frame, theirs)}\n"
        write_atomically(folder / f"{figure.file}.txt", text.encode())


def with_curves(result: TrainResult) -> TrainResult:
    """Draws the curves of a training run; where that fails, the result gains a note which says
    so."""
    if not result.is_main:
        return result
    full = result.record["identity"]["training"]["selector"] == FULL
    try:
        draw_training(result.folder, full=full)
    except Exception as error:  # as in `drawn`
        warning = (
            f"the curves were not drawn ({type(error).__name__}: {one_line(error)}); the run is "
            "whole, and the same command draws them"
        )
        return dataclasses.replace(result, notes=(*result.notes, warning))
    return result


def draw_training(folder: Path, *, full: bool) -> None:
    """Draws training.png and .svg with their text from metrics.csv and validation.csv.

    full: the student was trained on full rollouts.
    """
    from decaylab.figures import style, training  # loads matplotlib

    metrics, validation = pd.read_csv(folder / "metrics.csv"), pd.DataFrame()
    if (folder / "validation.csv").exists():
        validation = pd.read_csv(folder / "validation.csv")
    style.save(training.draw(metrics, validation, full=full), folder / "training")
    text = f"{training.caption(metrics, validation)}\n\n{training.details()}\n"
    write_atomically(folder / "training.txt", text.encode())

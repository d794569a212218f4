"""Drawing behind a measurement: a run whose drawing fails is a finished run with one warning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from decaylab.problems.files import one_line


def drawn(draw: Callable[[], None], folder: Path) -> tuple[str, ...]:
    """Draws what a run's folder shows; where that fails, the sentence about it. What was measured
    stands already."""
    try:
        draw()
    # of matplotlib, of fonts, of a disk that is full: none of them is a fault of the measurement
    except Exception as error:
        return (
            f"the figures were not drawn ({type(error).__name__}: {one_line(error)}); the "
            "measurements are whole, and "
            f"`decaylab figures {folder} --all` draws them",
        )
    return ()

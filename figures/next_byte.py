"""Names the KL of two tokenizers in a figure: it is that of the next byte, not of a token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial, wraps
from typing import Any, TypeVar, cast

import pandas as pd

from decaylab.runs.vocabulary import kl_named

from .page import Sheet

Drawn = TypeVar("Drawn", bound=Callable[..., Any])


def named(function: Drawn) -> Drawn:
    """A sheet, caption or details of measurements, its first argument, with the KL as it is."""

    @wraps(function)
    def call(measurements: pd.DataFrame, *given: Any, **more: Any) -> Any:
        made = function(measurements, *given, **more)
        words = partial(kl_named, rows=measurements)
        return replace(made, words=words) if isinstance(made, Sheet) else words(made)

    return cast(Drawn, call)

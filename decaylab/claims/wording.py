"""Numbers and sentences as verdicts and advice write them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from decaylab import printing
from decaylab.claims.verdicts import LEAST_LEVEL, Number
from decaylab.runs.measurements import Measurement

NO_INTERVAL = "no interval"


class Style(NamedTuple):
    """The format of a kind of number: unit, decimals, sign."""

    unit: str = ""
    places: int = 2
    signed: bool = False
    fraction: bool = False  # written in per cent

    def text(self, value: float) -> str:
        shown = printing.percent(value) if self.fraction else value
        return printing.rounded(shown, self.places, signed=self.signed)

    def interval(self, row: Measurement) -> str:
        """The interval in brackets."""
        if math.isnan(row.low) or math.isnan(row.high):
            return NO_INTERVAL
        return f"[{self.text(row.low)}, {self.text(row.high)}]"

    def number(self, row: Measurement) -> str:
        """The number with its interval, ``0.227 nats [0.215, 0.240]``."""
        if math.isnan(row.value):
            return f"undefined ({row.note})" if row.note else "undefined"
        value, interval = f"{self.text(row.value)}{self.unit}", self.interval(row)
        if interval == NO_INTERVAL:
            return f"{value} ({interval})"
        if row.level != LEAST_LEVEL:
            interval = f"[{100 * row.level:g} %: {interval[1:]}"
        return f"{value} {interval}"

    def over_seeds(self, number: Number) -> str:
        """The interval over seeds, or each seed's number if there is none; "" for one seed."""
        if number.seeds < 2:
            return ""
        over = self.interval(number.over_seeds) if number.over_seeds else NO_INTERVAL
        if over == NO_INTERVAL:
            over += f" ({listed(map(self.text, number.by_seed))})"
        return f"{over} over {number.seeds} seeds"

    def mean(self, number: Number, where: str = "") -> str:
        """A sentence on the mean over seeds; "" for one seed."""
        if number.over_seeds is None:
            return ""
        return f"Mean{where} {self.text(number.over_seeds.value)}, {self.over_seeds(number)}."


RATIO = Style()
POINTS_OF = Style(" points", 1, signed=True, fraction=True)
PERCENT_OF = Style(" %", 1, fraction=True)


points = POINTS_OF.number  # of a difference of fractions: -4.2 points [-6.8, -1.8]
percent = PERCENT_OF.number  # of a fraction: 88.4 % [85.2, 91.0]


def arm_points(number: Number) -> str:
    """A difference with both intervals, ``-11.9 points [-14.3, -9.5] over problems, [-12.4, -11.4]
    over 3 seeds``."""
    over = POINTS_OF.over_seeds(number)
    return f"{points(number.over_problems[0])}{f' over problems, {over}' if over else ''}"


def p_words(row: Measurement) -> str:
    """``, p = 0.002 by Holm``, or ""."""
    if math.isnan(row.p_value_holm):
        return ""
    p = printing.p_value(row.p_value_holm)
    return f", p {p.replace('<', '< ')} by Holm" if "<" in p else f", p = {p} by Holm"


def listed(items: Iterable[object]) -> str:
    """``5, 10 and 20``."""
    words = [f"{item:g}" if isinstance(item, float) else str(item) for item in items]
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def sentence(text: str) -> str:
    """Text with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def lowered(text: str) -> str:
    """A sentence as it goes on behind a colon: its first letter small, unless that is a name or an
    abbreviation."""
    small = text[1:2].islower() or text.startswith("A ")
    return text[0].lower() + text[1:] if small else text

"""Token categories: whether code is read as Python reads it, and tokens a second.

    python benchmarks/categories.py            # every module of the standard library
    python benchmarks/categories.py --toy

Agreement: each character of each module that parses, against `tokenize` and `ast`. Speed: 100,000
tokens of four characters in rollouts of 500, of each kind of text.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import sysconfig
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from timing import Row, keep, parser, seconds, show, surroundings

from decaylab.tokens import code_categories, task_categories

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
from python_categories import by_the_library

TOKENS, TOY_TOKENS = 100_000, 2_000
TOKEN, ROLLOUT = 4, 500  # characters, tokens
CHARACTERS = TOKEN * ROLLOUT  # of a rollout
TOY_MODULES = ("abc.py", "bisect.py", "contextlib.py", "keyword.py", "textwrap.py")
CITIES = ("Paris", "New York", 'Saint-"Denis"', "Zürich")


def modules(*, toy: bool) -> Iterator[tuple[Path, str]]:
    """Modules of the standard library that are UTF-8, with their text."""
    library = Path(sysconfig.get_paths()["stdlib"])
    paths = [library / name for name in TOY_MODULES] if toy else sorted(library.rglob("*.py"))
    for path in paths:
        if "site-packages" in path.parts:
            continue
        try:
            yield path, path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue


def agreement(*, toy: bool) -> Row:
    """Characters whose category differs from that of the standard library."""
    row = {"modules": 0, "not_parsed": 0, "characters": 0, "undecided": 0, "differ": 0}
    for path, code in modules(toy=toy):
        try:
            expected = by_the_library(code)
        except (SyntaxError, ValueError, tokenize.TokenError):
            row["not_parsed"] += 1
            continue
        differ = different(code, expected)
        if differ:
            print(path.name, repr(code[differ[0] - 40 : differ[0] + 20]), file=sys.stderr)
        row["modules"] += 1
        row["characters"] += len(code)
        row["undecided"] += expected.count(None)
        row["differ"] += len(differ)
    return row


def different(code: str, expected: Sequence[str | None]) -> list[int]:
    """Places whose category is another one, or that have none."""
    found: list[str] = [""] * len(code)
    for start, stop, category in code_categories.of_code(code):
        found[start:stop] = [code_categories.NAMES[category]] * (stop - start)
    pairs = enumerate(zip(found, expected, strict=True))
    return [place for place, (one, other) in pairs if other is not None and one != other]


def a_call(draw: random.Random) -> str:
    arguments = {"city": draw.choice(CITIES), "days": [draw.randrange(9), 2.5], "units": None}
    call = json.dumps({"name": "get_weather", "arguments": arguments})
    return f"<tool_call>\n{call}\n</tool_call>\n"


def rollout(kind: str, draw: random.Random, sources: Sequence[str]) -> str:
    """The text of one rollout."""
    if kind == "calls":
        text = "".join(a_call(draw) for _ in range(CHARACTERS // 50))
    elif kind == "code":
        source = draw.choice(sources)
        start = draw.choice([0, source.index("\n")])
        text = f"The module:\n\n```python\n{source[start:]}"
    else:
        text = f"Therefore, we add \\( {draw.randrange(99)} + x \\) and obtain 7.\n\n" * CHARACTERS
    return text[:CHARACTERS].ljust(CHARACTERS)


def speed(kind: str, tokens: int) -> Row:
    """Seconds of one kind of text."""
    draw, sources = random.Random(0), [code for _, code in modules(toy=True)]
    count = tokens // ROLLOUT
    text = "".join(rollout(kind, draw, sources) for _ in range(count))
    pieces = [text[at : at + TOKEN] for at in range(0, len(text), TOKEN)]
    categories, lengths = task_categories.load(kind, None), np.full(count, ROLLOUT)
    taken = min(seconds(lambda: categories.classify(pieces, lengths)) for _ in range(3))
    return {"kind": kind, "tokens": tokens, "seconds": round(taken, 3)}


def main(words: Sequence[str] | None = None) -> None:
    options: argparse.Namespace = parser(__doc__, "five modules, 2,000 tokens").parse_args(words)
    tokens = TOY_TOKENS if options.toy else TOKENS
    result = {
        "agreement": agreement(toy=options.toy),
        "speed": [speed(kind, tokens) for kind in task_categories.KINDS],
    }
    show("categories", result)
    if not options.toy:
        version = ".".join(map(str, sys.version_info[:2]))
        keep("categories", {f"python-{version}": {**result, **surroundings()}})


if __name__ == "__main__":
    main()

"""Ten million scored tokens through each diagnostic, from the file to the measurements.

    python benchmarks/aggregation.py                # 5,000 problems, 20,000 rollouts of 500 tokens
                                                    # on average
    python benchmarks/aggregation.py --checkpoint   # ... of base and of a checkpoint, fresh and
                                                    # frozen: four tables
    python benchmarks/aggregation.py --toy          # 40 problems: does it run at all?

The table is made here: statistics as skewed and as long-tailed as real ones and falling with the
position, lengths from 16 to 2,048 tokens, texts of about 5,000 pieces with the frequencies of
Zipf's law. It is written as scoring writes it, a row group for each part, and read through
`score_store.table`. The first 32 problems are there a second time, so that every diagnostic has its
noise floor. Rollouts for `behaviour` hold the same texts. Nothing stays but the table, under
build/bench.

Each diagnostic runs in a process of its own: seconds from the open file to the measurements,
without the imports, and peak memory with them.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from timing import keep, measured, parser, resident_peak_gib, surroundings

from decaylab.analyses import behaviour, category_kl, position_kl, signals, submode
from decaylab.problems.answers import ANSWER_RULES
from decaylab.runs import store
from decaylab.tokens import score_store
from decaylab.tokens.category_rules import CategoryRules
from decaylab.tokens.noise_floor import with_noise_floor
from decaylab.tokens.scoring import Rollout
from decaylab.tokens.token_table import COLUMNS, ONE_TOKENIZER, Scored

PROBLEMS, TOY_PROBLEMS = 5000, 40
SAMPLES, MEAN_TOKENS, LONGEST, FLOOR_PROBLEMS = 4, 500, 2048, 32
EDGES = (0, 5, 20, 50, 100, 200, 300, 400, 500, 600)
PIECES, END = 5000, 0
DIAGNOSTICS = ("position_kl", "category_kl", "submode", "signals", "behaviour")
Columns = dict[str, NDArray[Any]]


# The table


def vocabulary(rng: np.random.Generator) -> list[str]:
    """Pieces of text, the frequent ones first: digits, signs and the words that categories know,
    then made-up words."""
    common = [
        "<|im_end|>",
        " ",
        "\n",
        *"0123456789",
        " =",
        " +",
        ".",
        ",",
        " the",
        " is",
        "\\",
        "(",
        ")",
        "frac",
        "{",
        "}",
    ]
    common += [
        " -",
        "x",
        ":\n",
        "\\(",
        "\\)",
        " \\",
        "boxed",
        "To",
        " We",
        " Let",
        "First",
        "Therefore",
        " Thus",
        "Step",
    ]
    letters = [rng.choice(list("aeiou" if i % 2 else "bcdfglmnprst"), 2 * PIECES) for i in range(8)]
    lengths = rng.integers(3, 9, 2 * PIECES)  # twice as many: short ones coincide
    made = [
        " " * (i % 3 > 0) + "".join(letter[i] for letter in letters[: lengths[i]])
        for i in range(2 * PIECES)
    ]
    return list(dict.fromkeys(common + made))[:PIECES]


def lengths_of(problems: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Tokens of each rollout: skewed, cut off at the budget, `MEAN_TOKENS` on average to the
    token."""
    drawn = np.clip(rng.lognormal(0.0, 0.5, problems * SAMPLES) * MEAN_TOKENS * 0.9, 16, LONGEST)
    lengths = np.minimum((drawn * MEAN_TOKENS / drawn.mean()).astype(np.int64), LONGEST)
    missing = len(lengths) * MEAN_TOKENS - int(lengths.sum())
    places = np.flatnonzero(lengths < LONGEST)
    lengths += np.bincount(np.resize(places, missing), minlength=len(lengths))
    return lengths


def statistics_of(position: NDArray[np.int64], rng: np.random.Generator) -> Columns:
    """Statistics of tokens at these positions: most KLs near 0, a few of several nats, more of them
    early on."""
    count = len(position)
    doubt = rng.standard_normal(count)
    level = np.exp(1.5 * doubt - 3.5) * (1 + 3 * np.exp(-position / 40))
    kl = np.minimum(level * rng.lognormal(0.0, 0.8, count), 20)
    first, other = (1 / (1 + np.exp(doubt + 0.3 * rng.standard_normal((2, count)) - 2.5))).astype(
        np.float32
    )
    token_rank = 1 + (rng.lognormal(0.0, 1.0, count) * (doubt > 0.5)).astype(np.int64)
    statistics = {
        "reverse_kl": kl,
        "forward_kl": kl * rng.lognormal(0.0, 0.3, count),
        "js": np.minimum(kl / 4, 0.69),
        "student_entropy": np.minimum(level * 8, 10),
        "teacher_entropy": np.minimum(level * 6 * rng.lognormal(0.0, 0.3, count), 10),
        "student_top1_probability": first,
        "student_top2_probability": (1 - first) * 0.7,
        "teacher_top1_probability": other,
        "teacher_top2_probability": (1 - other) * 0.7,
        "student_logprob": np.log(first),
        "teacher_logprob": np.log(other),
        "token_rank": token_rank,
        "student_top1_rank": np.where(doubt > 1.2, token_rank, 1),
        "top16_overlap": rng.integers(6, 17, count),
        "student_overlap_mass": 1 - (1 - first) * 0.2,
        "teacher_overlap_mass": 1 - (1 - other) * 0.2,
    }
    return statistics | {f"{role}_removed_mass": np.zeros(count) for role in ("student", "teacher")}


def parts_of(lengths: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of rollouts, of as many tokens as scoring writes at a time."""
    first = tokens = 0
    for i, length in enumerate(lengths):
        tokens += length
        if tokens >= score_store.PART_TOKENS or i == len(lengths) - 1:
            yield first, i + 1
            first, tokens = i + 1, 0


def write_tables(folder: Path, problems: int) -> None:
    """tokens.parquet of all rollouts, again/tokens.parquet of those of the first problems,
    rollouts.parquet."""
    rng = np.random.default_rng(0)
    words, lengths = np.array(vocabulary(rng), dtype=object), lengths_of(problems, rng)
    chances = 1 / np.arange(3, PIECES + 2)
    schema = ONE_TOKENIZER.schema.with_metadata({b"decaylab_schema": ONE_TOKENIZER.name.encode()})
    (folder / "again").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    with (
        pq.ParquetWriter(folder / "tokens.parquet", schema, compression="zstd") as writer,
        pq.ParquetWriter(folder / "again" / "tokens.parquet", schema, compression="zstd") as again,
    ):
        for start, stop in parts_of(lengths):
            sizes = lengths[start:stop]
            position = np.concatenate([np.arange(length) for length in sizes])
            ids = 1 + rng.choice(PIECES - 1, len(position), p=chances / chances.sum())
            ids[np.cumsum(sizes)[rng.random(len(sizes)) < 0.9] - 1] = END
            columns = {
                "rollout_id": np.repeat([f"r{i}" for i in range(start, stop)], sizes),
                "position": position,
                "token_id": ids,
                "token": words[ids],
                **statistics_of(position, rng),
            }
            writer.write_table(_table(columns, schema))
            twice = np.repeat(np.arange(start, stop) < FLOOR_PROBLEMS * SAMPLES, sizes)
            if twice.any():
                noisy = columns | {
                    "reverse_kl": columns["reverse_kl"] * rng.normal(1, 1e-4, len(position))
                }
                again.write_table(
                    _table({name: values[twice] for name, values in noisy.items()}, schema)
                )
            rows += _rollouts(start, np.split(ids, np.cumsum(sizes)[:-1]), words)
    ids_and_texts = pa.Table.from_pylist(rows, _rollout_schema())
    store.write_table(ids_and_texts, folder / "rollouts.parquet", store.ROLLOUTS)
    np.save(folder / "lengths.npy", lengths)


def _table(columns: Columns, schema: pa.Schema) -> pa.Table:
    arrays = [pa.array(columns[field.name]).cast(field.type, safe=False) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _rollout_schema() -> pa.Schema:
    """The columns that `behaviour` reads, as runs have them."""
    read = ("rollout_id", "problem_id", "response_ids", "text", "tokens", "stop_reason")
    grades = [f"grade_{rule}" for rule in ANSWER_RULES]
    whole = store.rollout_schema(ANSWER_RULES)
    return pa.schema([whole.field(name) for name in (*read, "answer_start", *grades)])


def _rollouts(
    start: int, ids: Sequence[NDArray[np.int64]], words: NDArray[Any]
) -> Iterator[dict[str, Any]]:
    for number, response in enumerate(ids, start):
        ended = bool(response[-1] == END)
        written = response[:-1] if ended else response
        grade = ("correct", "wrong", "no_answer")[number % 3]
        yield {
            "rollout_id": f"r{number}",
            "problem_id": f"p{number // SAMPLES}",
            "response_ids": response,
            "text": "".join(words[written]),
            "tokens": len(written),
            "stop_reason": "eos" if ended else "length",
            "answer_start": 0,
            **{f"grade_{rule}": grade for rule in ANSWER_RULES},
        }


# The diagnostics


def scored_of(folder: Path, checkpoint: bool) -> list[Scored]:
    """Base alone; or base and a checkpoint, each fresh and frozen, which are four tables to
    aggregate."""
    lengths = np.load(folder / "lengths.npy")
    names = {f"r{i}": i // SAMPLES for i in range(len(lengths))}
    rollouts = [
        Rollout(name, (0,), (0,), (0,) * length)
        for name, length in zip(names, lengths.tolist(), strict=True)
    ]
    count = len(lengths) // SAMPLES
    twice = np.arange(len(lengths)) < FLOOR_PROBLEMS * SAMPLES
    tokens = score_store.table(folder, rollouts, names, count)
    rescored = score_store.table(folder / "again", rollouts[: twice.sum()], names, count)
    places = [("base", "fresh")]
    if checkpoint:
        places += [("base", "frozen"), ("checkpoint", "fresh"), ("checkpoint", "frozen")]
    return [Scored(*place, tokens, twice, rescored) for place in places]


def measures() -> dict[str, Callable[[Sequence[Scored]], pd.DataFrame]]:
    """With the settings of a run that names none."""
    rules = CategoryRules.load(None)
    kinds = partial(
        category_kl.measure, settings=category_kl.Settings(EDGES), rules=rules, end_ids=[END]
    )
    return {
        "position_kl": partial(position_kl.measure, settings=position_kl.Settings(EDGES, 100)),
        "category_kl": kinds,
        "submode": partial(submode.measure, settings=submode.Settings()),
        "signals": partial(signals.measure, settings=signals.Settings(EDGES)),
    }


def one_diagnostic(name: str, folder: Path, checkpoint: bool) -> dict[str, Any]:
    """Measures one in this process."""
    if name == "behaviour":
        started = time.perf_counter()
        rows = store.read_table(folder / "rollouts.parquet", store.ROLLOUTS).to_pandas()
        rollouts = dict.fromkeys(("base", "checkpoint")[: 1 + checkpoint], rows)
        frame = behaviour.measure(rollouts, behaviour.Settings(ANSWER_RULES))
    else:
        scored, measure = scored_of(folder, checkpoint), measures()[name]
        started = time.perf_counter()
        frame = with_noise_floor(measure, scored)
    seconds = time.perf_counter() - started
    return {
        "side": name,
        "seconds": round(seconds, 2),
        "peak_gib": round(resident_peak_gib(), 3),
        "measurements": len(frame),
    }


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    return one_diagnostic(job["side"], Path(job["folder"]), job["checkpoint"])


def measure(problems: int, root: Path, checkpoint: bool, toy: bool) -> dict[str, Any]:
    """Every diagnostic over one table, which is made unless it is there."""
    folder = root / f"aggregation-{problems}"
    if not (folder / "lengths.npy").exists():
        write_tables(folder, problems)
    around = surroundings()
    rows = []
    for name in DIAGNOSTICS:
        job = {"side": name, "folder": str(folder), "checkpoint": checkpoint}
        rows.append(measured(__file__, job, run_job, toy=toy))
        print(rows[-1], flush=True)
    on_tokens = [row["seconds"] for row in rows if row["side"] != "behaviour"]
    return {
        **around,
        "rollouts": problems * SAMPLES,
        "tokens": problems * SAMPLES * MEAN_TOKENS,
        "columns": len(COLUMNS),
        "rows": rows,
        "seconds_of_all_on_tokens": round(sum(on_tokens), 1),
        "highest_peak_gib": max(row["peak_gib"] for row in rows),
    }


def main(words: Sequence[str] | None = None) -> None:
    made = parser(__doc__, f"{TOY_PROBLEMS} problems, in a temporary folder")
    made.add_argument(
        "--problems", type=int, default=PROBLEMS, help=f"with {SAMPLES} rollouts each"
    )
    made.add_argument(
        "--checkpoint",
        action="store_true",
        help="four tables: base and a checkpoint, fresh and frozen",
    )
    made.add_argument(
        "--folder", type=Path, default=Path("build/bench"), help="where the table is made"
    )
    arguments = made.parse_args(words)
    if arguments.job:
        print(json.dumps(run_job(arguments.job)))
        return
    if arguments.toy:
        with tempfile.TemporaryDirectory() as folder:
            result = measure(TOY_PROBLEMS, Path(folder), arguments.checkpoint, True)
    else:
        result = measure(arguments.problems, arguments.folder, arguments.checkpoint, False)
    print(json.dumps(result, indent=1))
    if not arguments.toy and arguments.problems == PROBLEMS:
        name = "base and a checkpoint, fresh and frozen" if arguments.checkpoint else "base"
        keep("aggregation", {name: result})


if __name__ == "__main__":
    main()

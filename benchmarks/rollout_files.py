"""Reading files of rollouts: megabytes a second, and the memory that it takes beyond a loaded
tokenizer.

    python benchmarks/rollout_files.py                      # 1,000,000 rollouts of 2 kB, a file of
                                                            # 2 GB in a temporary folder
    python benchmarks/rollout_files.py --rollouts 20000     # small; is printed and not kept
    python benchmarks/rollout_files.py --toy                # does it run at all?

A file holds prompts, responses, gold answers and stop reasons, 8 rollouts to a problem; the
rollouts to the first 500 problems are kept, as a measurement with ``--limit 500`` keeps them. Two
files of the same rollouts: texts, and token ids beside them, of which there are half as many
rollouts in as many bytes. A process of its own loads the embedded student's tokenizer and reads a
file by `read_files`, its content hash included; another one only loads the tokenizer. The file was
written just before, so that most of it is in the page cache.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from timing import keep, parser, resident_peak_gib, surroundings
from timing import measured as measured_job

from decaylab.policies import loading
from decaylab.rollout_files.reading import ReadSettings, read_files

SAMPLES, LIMIT, FULL, TOY = 8, 500, 1_000_000, 400
RESPONSE, PROMPT = 1_700, 180  # characters
WORDS = (
    "so",
    "we",
    "add",
    "the",
    "two",
    "numbers",
    "and",
    "take",
    "half",
    "of",
    "them",
    "which",
    "is",
    "more",
    "than",
)
TOKENS = 520  # of the embedded student
SHAPES = ("texts", "token ids")


def texts(rng: np.random.Generator, length: int, count: int) -> list[str]:
    """Texts of words and numbers."""
    drawn = rng.integers(0, len(WORDS), (count, length // 4))
    words = np.array(WORDS, dtype=object)
    return [" ".join(words[row])[:length] for row in drawn]


def rows(rollouts: int, shape: str) -> Iterator[dict[str, Any]]:
    """One of a few hundred responses each, with its own beginning."""
    rng = np.random.default_rng(0)
    prompts, responses = texts(rng, PROMPT, 64), texts(rng, RESPONSE, 256)
    ids = [rng.integers(5, TOKENS, RESPONSE // 4).tolist() for _ in responses]
    for number in range(rollouts):
        problem, drawn = number // SAMPLES, number % len(responses)
        row = {
            "problem_id": f"p{problem}",
            "prompt": f"Number {problem}: {prompts[problem % len(prompts)]}?",
            "response": f"{number} {responses[drawn]}",
            "answer": str(problem),
            "finish_reason": "length" if number % 10 == 0 else "stop",
        }
        yield row if shape == "texts" else row | {"response_ids": ids[drawn]}


def write(path: Path, rollouts: int, shape: str) -> None:
    with path.open("w") as handle:
        for row in rows(rollouts, shape):
            handle.write(json.dumps(row) + "\n")


def one_side(side: str, path: str | None) -> dict[str, Any]:
    """Loads the tokenizer, and reads a file if there is one, in this process."""
    student = loading.load_tokenizer_only("abacus-student")
    if path is None:
        return {"side": side, "peak_mib": round(resident_peak_gib() * 1024, 1)}
    size = Path(path).stat().st_size
    started = time.perf_counter()
    files = read_files((Path(path),), ReadSettings(limit=LIMIT), student)
    seconds = time.perf_counter() - started
    return {
        "side": side,
        "rollouts": files.counts.rollouts,
        "kept": len(files.rollouts),
        "bytes": size,
        "seconds": round(seconds, 2),
        "mb_per_second": round(size / 1e6 / seconds, 1),
        "peak_mib": round(resident_peak_gib() * 1024, 1),
    }


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    return one_side(**job)


def measured(rollouts: int, *, toy: bool = False) -> dict[str, Any]:
    """Every side, each in a process of its own."""
    around = surroundings()
    bare = measured_job(__file__, {"side": "tokenizer alone", "path": None}, run_job, toy=toy)
    measured_rows = [bare]
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rollouts.jsonl"
            write(path, rollouts if shape == "texts" else rollouts // 2, shape)
            row = measured_job(__file__, {"side": shape, "path": str(path)}, run_job, toy=toy)
        row["peak_mib_beyond_the_tokenizer"] = round(row["peak_mib"] - bare["peak_mib"], 1)
        measured_rows.append(row)
        print(row, flush=True)
    return {**around, "samples": SAMPLES, "problems_kept": LIMIT, "rows": measured_rows}


def main(words: Sequence[str] | None = None) -> None:
    made = parser(__doc__, f"{TOY} rollouts")
    made.add_argument("--rollouts", type=int, default=FULL, help="of the file of texts")
    arguments = made.parse_args(words)
    if arguments.job:
        print(json.dumps(run_job(arguments.job)))
        return
    result = measured(TOY if arguments.toy else arguments.rollouts, toy=arguments.toy)
    print(json.dumps(result, indent=1))
    if not arguments.toy and arguments.rollouts == FULL:
        keep("rollout-files", result)


if __name__ == "__main__":
    main()

"""Scoring with two tokenizers against scoring with one, of the same models on the same text.

    python benchmarks/aligned_scoring.py         # helpers/prepare_smollm2.py makes the model
    python benchmarks/aligned_scoring.py --toy   # the embedded student: does it run at all?

Student and teacher are the same weights, loaded twice, so both sides read the same number of
tokens; every boundary is shared, which is the most that the second side can have to compare.
Responses are problems of the embedded pair in words. Time is of both sides in turns in one process,
memory of a process of its own for each.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from timing import keep, measured, parser, peak_gib, reset_peak, seconds, show, surroundings

from decaylab.policies import loading
from decaylab.policies.alignment import Aligner, Alignment
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.problems.sets import load_problems
from decaylab.tokens.aligned_scoring import AlignedRollout, AlignedScorer
from decaylab.tokens.scoring import Rollout, Scorer

SIDES = ("one tokenizer", "two tokenizers")


@dataclass(frozen=True)
class Work:
    """What both sides do. tokens: of each response, before its end."""

    model: str = "models/smollm2-135m-instruct"
    rollouts: int = 8
    tokens: int = 256
    repeats: int = 3


TOY = Work("abacus-student", rollouts=2, tokens=16, repeats=1)


def pair(work: Work) -> tuple[Policy, Policy]:
    settings = LoadSettings(dtype="float32")
    return loading.load(work.model, settings), loading.load(work.model, settings)


def rollouts_of(work: Work, both: tuple[Policy, Policy]) -> list[AlignedRollout]:
    """Responses of so many tokens, with their ends."""
    student, aligner, found = both[0], Aligner(*both), []
    questions = [problem.question for problem in load_problems("abacus").problems]
    text = " ".join(questions[: work.rollouts * work.tokens // 8])
    ids = student.encode(text)
    for number in range(work.rollouts):
        # A text from a whole token on, as its own tokenizer cuts it.
        part = student.decode(ids[number * work.tokens : (number + 2) * work.tokens])
        response = [*student.encode(part)[: work.tokens], student.end_id]
        alignment = aligner.align(response)
        assert isinstance(alignment, Alignment), alignment
        prompt = (student.end_id,)
        found.append(AlignedRollout(str(number), prompt, prompt, alignment.student, alignment))
    return found


def sides(work: Work) -> dict[str, Callable[[], Any]]:
    both = pair(work)
    aligned = rollouts_of(work, both)
    plain = [
        Rollout(one.rollout_id, one.student_prompt, one.teacher_prompt, one.response)
        for one in aligned
    ]
    scorers = Scorer(*both), AlignedScorer(*both)
    return dict(
        zip(
            SIDES,
            (partial(scorers[0].score, plain), partial(scorers[1].score, aligned)),
            strict=True,
        )
    )


def time(work: Work) -> dict[str, Any]:
    runs = sides(work)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(work.repeats):
        for name, run in runs.items():
            times[name].append(seconds(run))
    median = {name: statistics.median(taken) for name, taken in times.items()}
    return {
        "seconds": {name: [round(each, 3) for each in taken] for name, taken in times.items()},
        "time_ratio": round(median[SIDES[1]] / median[SIDES[0]], 3),
    }


def memory(work: Work, side: str) -> dict[str, Any]:
    run = sides(work)[side]
    reset_peak()
    run()
    return {"side": side, "peak_gib": round(peak_gib(), 3)}


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    work = Work(**job["work"])
    return memory(work, job["side"]) if job["side"] in SIDES else time(work)


def main(words: Sequence[str] | None = None) -> None:
    made = parser(__doc__, f"{TOY.rollouts} responses of {TOY.tokens} tokens")
    made.add_argument("--model", default=Work.model)
    arguments = made.parse_args(words)
    if arguments.job:
        print(json.dumps(run_job(arguments.job)))
        return
    work = TOY if arguments.toy else Work(arguments.model)
    jobs = [{"work": asdict(work), "side": side} for side in ("time", *SIDES)]
    rows = [measured(__file__, job, run_job, toy=arguments.toy) for job in jobs]
    result = {**rows[0], "memory": rows[1:]}
    if not arguments.toy:  # peaks of one process say nothing of its sides
        result["memory_ratio"] = round(rows[2]["peak_gib"] / rows[1]["peak_gib"], 3)
    work_done = {**asdict(work), "model": work.model.rpartition("/")[2]}
    whole = {"work": work_done, **surroundings(), **result}
    show("aligned scoring", whole)
    if not arguments.toy:
        keep("aligned-scoring-cpu", whole)


if __name__ == "__main__":
    main()

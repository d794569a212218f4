"""What `decaylab plan` says a phase takes against what was resident: sampling, continuing, scoring
and training, on a CPU.

    python benchmarks/plan.py                              # every work;
    tests/helpers/prepare_smollm2.py makes the model python benchmarks/plan.py --pair abacus --phase
    train  # some of them python benchmarks/plan.py --hours                      # the probe's hours
    against a run of prefix-decay

Each work is a process of its own. Measured is the most that was resident (VmHWM) over what was
after the imports; planned the phase at the same sizes, where every rollout has its whole budget (no
token ends a turn here) and prompts are as long as they are. Each work is measured twice:

    shipped    as the system's allocator has it: what was given back may stay resident, in holes
    between what is still there returned   with MALLOC_MMAP_THRESHOLD_ of 64 kB what was given back
    is. The plan has no allowance for holes then, so this
               tells whether the terms are right
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from timing import keep, reset_peak, resident_peak_gib, surroundings

from decaylab.planner.memory import LASTING, PROCESS, holes
from decaylab.planner.options import Asked, Devices, PlanOptions, asked
from decaylab.planner.phases import Phase, Sources, phases
from decaylab.policies import loading
from decaylab.policies.loading import LoadSettings, Policy
from decaylab.problems.sets import load_problems
from decaylab.rollouts.sampling import Request, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.tokens.scoring import Rollout, Scorer, ScoringSettings

GIB, SAMPLES, NO_TOKEN = 2**30, 4, -1
PAIRS = {
    "smollm2": ("models/smollm2-135m-instruct", "models/smollm2-135m-instruct"),
    "abacus": ("abacus-student", "abacus-teacher"),
}
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
NAMES = {
    "sample": ("prefix-decay", "student writes"),
    "continue": ("prefix-decay", "teacher continues"),
    "score": ("diagnostics", "both score"),
    "floor": ("diagnostics", "both score, wider (floor)"),
}
METERED = {
    "generation": ("student writes",),
    "scoring": ("teacher scores",),
    "training": ("student learns", "update"),
}
"""A phase of the trainer's meter -> phases of the plan, of which the largest counts."""


@dataclass(frozen=True)
class Work:
    """What a process does. rows: rollouts; tokens: of each; batch_tokens: of scoring and training;
    prefix: to go on from."""

    pair: str
    phase: str
    rows: int
    tokens: int
    batch_tokens: int = 0
    prefix: int = 0
    dtype: str = "float32"
    full_finetune: bool = False
    checkpointing: bool = False

    @property
    def name(self) -> str:
        words = [self.pair, self.phase, f"{self.rows}x{self.tokens}"]
        words += [f"batch {self.batch_tokens}"] * bool(self.batch_tokens) + [
            f"behind {self.prefix}"
        ] * bool(self.prefix)
        words += [self.dtype] * (self.dtype != "float32") + ["full"] * self.full_finetune
        return " ".join([*words, *["checkpointed"] * self.checkpointing])

    def options(self, **more: Any) -> PlanOptions:
        """The plan of the same work."""
        student, teacher = PAIRS[self.pair]
        return PlanOptions(
            student=student,
            teacher=teacher,
            problems="abacus",
            limit=max(self.rows // SAMPLES, 1),
            samples=SAMPLES,
            max_tokens=self.prefix + self.tokens,
            batch_rows=self.rows,
            batch_tokens=self.batch_tokens or None,
            dtype=self.dtype,
            memory="1000GB",
            **more,
        )


WORKS = (
    Work("abacus", "sample", 256, 320),
    Work("abacus", "sample", 1024, 320),
    Work("abacus", "continue", 1024, 260, prefix=60),
    Work("abacus", "score", 64, 300, 16384),
    Work("abacus", "train", 64, 100, 16384),
    Work("abacus", "train", 64, 100, 16384, checkpointing=True),
    Work("abacus", "train", 64, 100, 16384, full_finetune=True),
    Work("smollm2", "sample", 16, 100),
    Work("smollm2", "sample", 64, 100),
    Work("smollm2", "continue", 64, 60, prefix=100),
    Work("smollm2", "score", 16, 200, 4096),
    Work("smollm2", "floor", 2, 200),
    Work("smollm2", "train", 8, 100, 2048),
    Work("smollm2", "train", 8, 100, 2048, checkpointing=True),
    Work("smollm2", "train", 4, 50, 512, full_finetune=True),
)


def run_job(work: Work) -> dict[str, Any]:
    """What a work takes in this process, and what the plan says of it. Bytes."""
    from decaylab.problems.grading import Grader

    with Grader(workers=2) as grader:
        grader.unparsable(["1"])
        _import_models(work)
        gc.collect()
        base = resident()
        reset_peak()
        measured = {"train": measure_training}.get(work.phase, measure_reading)(work, base, grader)
        helpers = sum(resident(child) for child in children())
    prompt = measured.pop("prompt")
    known = Asked(max(work.rows // SAMPLES, 1), prompt, prompt)
    return {"process": base + helpers, "measured": measured, "planned": planned(work, known)}


def resident(process: int | str = "self") -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(dict(line.split(":", 1) for line in lines).get("VmRSS", "0").split()[0]) * 1024


def children() -> list[int]:
    return [int(one) for one in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _import_models(work: Work) -> None:
    """What is imported for a model is no part of what it takes."""
    import accelerate  # noqa: F401
    import peft  # noqa: F401

    from decaylab.trainer import loop  # noqa: F401

    for outline in Sources.of(work.options(), Devices("cpu", 1, 1)).outlines(
        work.options(prefix_lengths=(0, 1)).decay()
    ):
        outline.reading(1, 1)


def measure_reading(work: Work, base: int, _: Any) -> dict[str, int]:
    """Sampling, continuing, scoring, or scoring in the next wider precision; and loading before
    that."""
    student, teacher = (
        loading.load(name, LoadSettings(dtype=work.dtype)) for name in PAIRS[work.pair]
    )
    found = {"loading": peak() - base}
    gc.collect()
    asked = load_problems("abacus", limit=work.rows)
    prompts = [tuple(student.prompt_ids(one, asked.instruction)) for one in asked.problems]
    count = max(work.rows // SAMPLES, 1)
    reset_peak()
    {"sample": sample, "continue": go_on, "score": score, "floor": score_wider}[work.phase](
        work, student, teacher, prompts
    )
    return found | {work.phase: peak() - base, "prompt": max(map(len, prompts[:count]))}


def peak() -> int:
    return int(resident_peak_gib() * GIB)


Prompts = list[tuple[int, ...]]


def sample(work: Work, student: Policy, _: Policy, prompts: Prompts) -> None:
    student.end_ids = frozenset({NO_TOKEN})
    requests = [
        Request(prompts[place], (), work.tokens, "plan", str(place), number)
        for place in range(work.rows // SAMPLES)
        for number in range(SAMPLES)
    ]
    TransformersEngine(student, batch_rows=work.rows).sample(requests, SamplingSettings())


def random_ids(rows: int, tokens: int) -> list[list[int]]:
    found: list[list[int]] = torch.randint(
        2, 300, (rows, tokens), generator=torch.Generator().manual_seed(0)
    ).tolist()
    return found


def go_on(work: Work, _: Policy, teacher: Policy, prompts: Prompts) -> None:
    """From the whole prefix and from half of it, as the plan's two prefix lengths."""
    teacher.end_ids = frozenset({NO_TOKEN})
    requests = [
        Request(
            prompts[row // SAMPLES],
            tuple(ids[:length]),
            work.prefix + work.tokens - length,
            "plan",
            str(row),
            length,
        )
        for row, ids in enumerate(random_ids(work.rows // 2, work.prefix))
        for length in (work.prefix // 2, work.prefix)
    ]
    TransformersEngine(teacher, batch_rows=work.rows).sample(requests, SamplingSettings())


def rollouts_of(work: Work, prompt: tuple[int, ...]) -> list[Rollout]:
    return [
        Rollout(str(row), prompt, prompt, tuple(ids))
        for row, ids in enumerate(random_ids(work.rows, work.tokens))
    ]


def score(work: Work, student: Policy, teacher: Policy, prompts: Prompts) -> None:
    longest = max(prompts[: max(work.rows // SAMPLES, 1)], key=len)
    settings = ScoringSettings(batch_tokens=work.batch_tokens)
    Scorer(student, teacher, settings).score(rollouts_of(work, longest))


def score_wider(work: Work, student: Policy, teacher: Policy, prompts: Prompts) -> None:
    with student.wider(), teacher.wider():
        Scorer(student, teacher, ScoringSettings(batch_tokens=1)).score(
            rollouts_of(work, max(prompts[:1], key=len))
        )


def measure_training(work: Work, base: int, grader: Any) -> dict[str, int]:
    """Three whole steps, each phase by the trainer's own meter, and the state that is kept behind
    them."""
    from contextlib import ExitStack

    from decaylab.progress import Reporter
    from decaylab.runs.store import RunFolder
    from decaylab.trainer.loop import Run
    from decaylab.trainer.machinery.adapters import Trainable
    from decaylab.trainer.machinery.engines import training_engines
    from decaylab.trainer.machinery.processes import Processes
    from decaylab.trainer.machinery.setup import prepare_training

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        options = training_options(work, folder)
        processes, reporter = Processes(options), Reporter(quiet=True)
        setup = prepare_training(options, grader)
        setup.student.end_ids = frozenset({NO_TOKEN})
        trained = Trainable(setup.student, options)
        found = {"loading": peak() - base}
        engines = training_engines(setup, trained, processes, reporter, stack)
        run = Run(setup, trained, engines, RunFolder(Path(folder)), processes, grader, reporter)
        for step in range(1, 4):
            row, _ = run.step(step)
            for name in METERED:
                found[name] = max(found.get(name, 0), int(row[f"{name}_peak_gib"] * GIB) - base)
        reset_peak()
        run._keep(3)
        found["state is kept"] = peak() - base
        prompts = setup.pair.prompts["student"].values()
    return found | {"prompt": max(map(len, prompts))}


def training_options(work: Work, folder: str) -> Any:
    from decaylab.options.training import TrainOptions

    student, teacher = PAIRS[work.pair]
    return TrainOptions(
        student=student,
        teacher=teacher,
        problems="abacus-train",
        limit=work.rows,
        test_problems="none",
        validation_problems=0,
        steps=3,
        problems_per_step=work.rows,
        rollout_length=str(work.tokens),
        max_tokens=work.tokens,
        batch_tokens=work.batch_tokens,
        dtype=work.dtype,
        full_finetune=work.full_finetune,
        gradient_checkpointing=work.checkpointing,
        out=folder,
    ).resolved()


# The plan of the same


def planned(work: Work, known: Asked) -> dict[str, dict[str, Any]]:
    """By what was measured: the phase's bytes beside those of a process, those without holes, and
    its terms."""
    if work.phase == "train":
        options = work.options(
            only=("train",),
            problems_per_step=work.rows,
            rollout_length=str(work.tokens),
            validation_problems=0,
            full_finetune=work.full_finetune,
            gradient_checkpointing=work.checkpointing,
        )
        wanted = METERED | {"loading": ("loading",), "state is kept": ("state is kept",)}
    else:
        command, name = NAMES[work.phase]
        lengths = (0, work.prefix // 2, work.prefix) if work.prefix else (0, 1)
        options = work.options(only=(command,), prefix_lengths=lengths, controls=())
        wanted = {"loading": ("loading",), work.phase: (name,)}
    options = options.resolved()
    sources = Sources.of(options, options.stated_devices())
    found = {one.name: one for one in phases(options, sources, known)}
    return {
        key: _told(max((found[name] for name in names), key=lambda one: one.load))
        for key, names in wanted.items()
    }


def _told(one: Phase) -> dict[str, Any]:
    working = sum(size for name, size in one.terms.items() if name not in LASTING)
    room = int(holes(one.kind, "cpu") * working)
    return {"phase": one.name, "bytes": one.load - PROCESS, "holes": room, "terms": one.terms}


# Hours


def hours() -> dict[str, Any]:
    """The probe's seconds for the tokens that a run of prefix-decay on the embedded pair wrote, and
    the seconds it took.

    sampling: of the engine alone; whole: of the command, with loading, grading and tables.
    """
    from unittest import mock

    from decaylab.commands.prefix_decay import prefix_decay
    from decaylab.options.measuring import Options
    from decaylab.planner.probe import probe
    from decaylab.progress import Reporter

    options = PlanOptions(only=("prefix-decay",), memory="16GB").resolved()
    found = phases(options, Sources.of(options, Devices("cpu", 1, 1)), asked(options))
    rates = probe(options, found).by_name
    tokens, seconds, plain = (
        {"student": 0, "teacher": 0},
        {"student": 0.0, "teacher": 0.0},
        TransformersEngine.sample,
    )

    def timed(engine: TransformersEngine, *given: Any) -> Any:
        role, started = engine.policy.name.removeprefix("abacus-"), time.monotonic()
        made = plain(engine, *given)
        seconds[role] += time.monotonic() - started
        tokens[role] += sum(len(one.ids) for one in made)
        return made

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(TransformersEngine, "sample", timed),
    ):
        started = time.monotonic()
        prefix_decay(Options(out=f"{folder}/run"), reporter=Reporter(quiet=True))
        whole = time.monotonic() - started
    told = {
        role: round(tokens[role] / next(rates[name] for name in rates if role in name), 1)
        for role in tokens
    }
    at_most = {
        role: sum(one.work.tokens for one in found if one.work.rate == role) for role in tokens
    }
    sampling = {role: round(one, 1) for role, one in seconds.items()}
    return {
        **surroundings(),
        **{
            "rates": {name: round(rate) for name, rate in rates.items()},
            "tokens": tokens,
            "tokens_at_most": at_most,
        },
        **{"planned_seconds": told, "sampling_seconds": sampling, "whole_seconds": round(whole, 1)},
        "ratio": {role: round(told[role] / seconds[role], 3) for role in told},
    }


# All of it


def measure(work: Work, how: str) -> dict[str, Any]:
    environment = os.environ | (RETURNED if how == "returned" else {})
    job = [sys.executable, __file__, "--job", json.dumps(asdict(work))]
    done = subprocess.run(job, capture_output=True, text=True, env=environment)
    if done.returncode:
        return {
            "failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        }
    found = json.loads(done.stdout.strip().splitlines()[-1])
    row: dict[str, Any] = {
        "how": how,
        **surroundings(),
        "process_mib": mib(found["process"]),
        "peaks": {},
    }
    for name, measured in found["measured"].items():
        told = found["planned"][name]
        size = told["bytes"] - (told["holes"] if how == "returned" else 0)
        row["peaks"][name] = {
            "phase": told["phase"],
            "planned_mib": mib(size),
            "measured_mib": mib(measured),
            "ratio": round(size / measured, 3),
            "terms_mib": {term: mib(size) for term, size in told["terms"].items()},
        }
    return row


def mib(size: int) -> float:
    return round(size / 2**20, 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pair", choices=sorted(PAIRS), help="one of them alone")
    parser.add_argument(
        "--phase", choices=sorted({one.phase for one in WORKS}), help="one of them alone"
    )
    parser.add_argument("--measure", choices=("shipped", "returned"), help="one way alone")
    parser.add_argument("--hours", action="store_true", help="the probe's hours alone")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(run_job(Work(**arguments.job))))
        return
    if arguments.hours:
        found = hours()
        print(json.dumps(found, indent=1))
        keep("plan", {"hours": found})
        return
    for work in WORKS:
        if arguments.pair not in (None, work.pair) or arguments.phase not in (None, work.phase):
            continue
        for how in ("shipped", "returned"):
            if arguments.measure not in (None, how):
                continue
            row = measure(work, how)
            print(f"{work.name}, {how}: process {row.get('process_mib')} {row.get('failed', '')}")
            for name, one in row.get("peaks", {}).items():
                print(
                    f"   {name:14} {one['ratio']:6.3f} {one['planned_mib']:8} "
                    f"{one['measured_mib']:8} {one['terms_mib']}",
                    flush=True,
                )
            keep("plan", {f"{work.name}, {how}": row})


if __name__ == "__main__":
    main()

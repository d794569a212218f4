"""What `decaylab plan` says a phase takes against what was resident, on a CPU.

    python benchmarks/plan.py                              # every work
    python benchmarks/plan.py --pair abacus --phase train  # some of them
    python benchmarks/plan.py --hours                      # the probe's hours against a run

tests/helpers/prepare_smollm2.py makes the model of the second pair. Each work is a process of its
own. Measured is the most that was resident (VmHWM) over what was after the imports; planned the
phase at the same sizes, where every rollout has its whole budget (no token ends a turn here) and
prompts are as long as they are. Each work is measured twice:

    shipped    with the system's allocator: freed memory may stay resident, in holes between what
               is still in use
    returned   with MALLOC_MMAP_THRESHOLD_ of 64 kB freed memory is returned. The plan then has no
               allowance for holes, so this shows whether the terms are right
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

from decaylab.options.planning import PlanOptions
from decaylab.planner.asked import Asked, asked
from decaylab.planner.memory import PROCESS, WORKING, holes
from decaylab.planner.phases import Phase, cases, phases
from decaylab.planner.plan import this_machine
from decaylab.policies import loading
from decaylab.policies.policy import LoadSettings, Policy
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
    "floor": ("diagnostics", "both score, wider"),
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
        words += [f"batch {self.batch_tokens}"] * bool(self.batch_tokens)
        words += [f"behind {self.prefix}"] * bool(self.prefix)
        words += [self.dtype] * (self.dtype != "float32")
        words += ["full"] * self.full_finetune + ["checkpointed"] * self.checkpointing
        return " ".join(words)

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
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(process) for process in listed.split()]


def _import_models(work: Work) -> None:
    """Imports what a model needs: that is no part of what the model takes."""
    import accelerate  # noqa: F401
    import peft  # noqa: F401

    from decaylab.trainer import loop  # noqa: F401

    options = work.options(only=("prefix-decay",), prefix_lengths=(0, 1)).resolved()
    for outline in cases(options, this_machine("cpu"), Asked(1, 1, 1))[0].pair:
        outline.reading(1, 1)


def measure_reading(work: Work, base: int, _: Any) -> dict[str, int]:
    """Sampling, continuing, scoring, or scoring in the next wider precision."""
    student, teacher = (
        loading.load(name, LoadSettings(dtype=work.dtype)) for name in PAIRS[work.pair]
    )
    gc.collect()
    problems = load_problems("abacus", limit=work.rows)
    prompts = [
        tuple(student.prompt_ids(problem, problems.instruction)) for problem in problems.problems
    ]
    count = max(work.rows // SAMPLES, 1)
    reset_peak()
    READ[work.phase](work, student, teacher, prompts)
    return {work.phase: peak() - base, "prompt": max(map(len, prompts[:count]))}


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
    generator = torch.Generator().manual_seed(0)
    ids: list[list[int]] = torch.randint(2, 300, (rows, tokens), generator=generator).tolist()
    return ids


def go_on(work: Work, _: Policy, teacher: Policy, prompts: Prompts) -> None:
    """From the whole prefix and from half of it, as the plan's two prefix lengths."""
    teacher.end_ids = frozenset({NO_TOKEN})
    requests = []
    for row, ids in enumerate(random_ids(work.rows // 2, work.prefix)):
        prompt = prompts[row // SAMPLES]
        for length in (work.prefix // 2, work.prefix):
            room = work.prefix + work.tokens - length
            requests.append(Request(prompt, tuple(ids[:length]), room, "plan", str(row), length))
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
        scorer = Scorer(student, teacher, ScoringSettings(batch_tokens=1))
        scorer.score(rollouts_of(work, prompts[0]))


READ = {"sample": sample, "continue": go_on, "score": score, "floor": score_wider}


def measure_training(work: Work, base: int, grader: Any) -> dict[str, int]:
    """Three whole steps, each phase by the trainer's own meter."""
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
        peaks = dict.fromkeys(METERED, 0)
        engines = training_engines(setup, trained, processes, reporter, stack)
        run = Run(setup, trained, engines, RunFolder(Path(folder)), processes, grader, reporter)
        for step in range(1, 4):
            row, _ = run.step(step)
            for name in METERED:
                peaks[name] = max(peaks[name], int(row[f"{name}_peak_gib"] * GIB) - base)
        prompts = setup.pair.prompts["student"].values()
    return peaks | {"prompt": max(map(len, prompts))}


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
    """By what was measured: the phase's bytes beside those of a process, its holes and terms."""
    if work.phase == "train":
        options = work.options(
            only=("train",),
            problems_per_step=work.rows,
            rollout_length=str(work.tokens),
            validation_problems=0,
            full_finetune=work.full_finetune,
            gradient_checkpointing=work.checkpointing,
        )
        wanted = METERED
    else:
        command, name = NAMES[work.phase]
        lengths = (0, work.prefix // 2, work.prefix) if work.prefix else (0, 1)
        options = work.options(only=(command,), prefix_lengths=lengths, controls=())
        wanted = {work.phase: (name,)}
    options = options.resolved()
    devices = options.stated_devices() or this_machine("cpu")
    by_name = {phase.name: phase for phase in phases(options, devices, known)}
    return {key: largest([by_name[name] for name in names]) for key, names in wanted.items()}


def largest(of: list[Phase]) -> dict[str, Any]:
    """The phase that takes most, beside a process."""
    phase = max(of, key=lambda phase: phase.load)
    working = sum(phase.terms.get(name, 0) for name in WORKING)
    return {
        "phase": phase.name,
        "bytes": phase.load - PROCESS,
        "holes": int(holes(phase.kind, "cpu") * working),
        "terms": phase.terms,
    }


# Hours


def hours() -> dict[str, Any]:
    """The probe's seconds for the tokens that a run of prefix-decay on the embedded pair wrote, and
    the seconds it took.

    sampling: of the engine alone; whole: of the command, with loading, grading and tables.
    """
    from unittest import mock

    from decaylab.commands.prefix_decay import prefix_decay
    from decaylab.options.measuring import Options
    from decaylab.planner.probe import load, probe
    from decaylab.problems.grading import Grader
    from decaylab.progress import Reporter

    options = PlanOptions(only=("prefix-decay",), memory="16GB").resolved()
    phases_of_plan = phases(options, this_machine("cpu"), asked(options))
    with Grader(workers=1) as grader:
        rates = probe(load(options, grader), options, phases_of_plan, 0).by_name
    tokens, seconds = {"student": 0, "teacher": 0}, {"student": 0.0, "teacher": 0.0}
    plain = TransformersEngine.sample

    def timed(engine: TransformersEngine, *given: Any) -> Any:
        role, started = engine.policy.name.removeprefix("abacus-"), time.monotonic()
        made = plain(engine, *given)
        seconds[role] += time.monotonic() - started
        tokens[role] += sum(len(response.ids) for response in made)
        return made

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(TransformersEngine, "sample", timed),
    ):
        started = time.monotonic()
        prefix_decay(Options(out=f"{folder}/run"), reporter=Reporter(quiet=True))
        whole = time.monotonic() - started
    planned, at_most = dict[str, float](), dict[str, int]()
    for role in tokens:
        rate = next(rates[name] for name in rates if role in name)
        planned[role] = round(tokens[role] / rate, 1)
        at_most[role] = sum(phase.tokens for phase in phases_of_plan if phase.rate == role)
    return {
        **surroundings(),
        "rates": {name: round(rate) for name, rate in rates.items()},
        "tokens": tokens,
        "tokens_at_most": at_most,
        "planned_seconds": planned,
        "sampling_seconds": {role: round(time, 1) for role, time in seconds.items()},
        "whole_seconds": round(whole, 1),
        "ratio": {role: round(planned[role] / seconds[role], 3) for role in tokens},
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
    result = json.loads(done.stdout.strip().splitlines()[-1])
    row: dict[str, Any] = {
        "how": how,
        **surroundings(),
        "process_mib": mib(result["process"]),
        "peaks": {},
    }
    for name, measured in result["measured"].items():
        planned = result["planned"][name]
        size = planned["bytes"] - (planned["holes"] if how == "returned" else 0)
        row["peaks"][name] = {
            "phase": planned["phase"],
            "planned_mib": mib(size),
            "measured_mib": mib(measured),
            "ratio": round(size / measured, 3),
            "terms_mib": {term: mib(size) for term, size in planned["terms"].items()},
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
        "--phase", choices=sorted({work.phase for work in WORKS}), help="one of them alone"
    )
    parser.add_argument("--measure", choices=("shipped", "returned"), help="one way alone")
    parser.add_argument("--hours", action="store_true", help="the probe's hours alone")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(run_job(Work(**arguments.job))))
        return
    if arguments.hours:
        result = hours()
        print(json.dumps(result, indent=1))
        keep("plan", {"hours": result})
        return
    for work in WORKS:
        if arguments.pair not in (None, work.pair) or arguments.phase not in (None, work.phase):
            continue
        for how in ("shipped", "returned"):
            if arguments.measure not in (None, how):
                continue
            row = measure(work, how)
            print(f"{work.name}, {how}: process {row.get('process_mib')} {row.get('failed', '')}")
            for name, peak_of in row.get("peaks", {}).items():
                print(
                    f"   {name:14} {peak_of['ratio']:6.3f} {peak_of['planned_mib']:8} "
                    f"{peak_of['measured_mib']:8} {peak_of['terms_mib']}",
                    flush=True,
                )
            keep("plan", {f"{work.name}, {how}": row})


if __name__ == "__main__":
    main()

"""Mutation testing of the mathematics: one small change of a module at a time, which some test of
that module must notice.

    python tests/mutants.py [--jobs 2] [module ...]        # make mutants

The changes are mutmut's. ``mutants.toml`` names the modules, the tests of each, and every change
that makes no difference, with the reason. Fails where another change survives, or where a listed
one no longer exists or is noticed after all.

mutmut's own runner changes the text of messages too, and leaves constants and decorated functions
alone. Here each mutant has a process of its own, forked from one in which torch is loaded already.
Results are kept in build/mutants.jsonl: those noticed as long as the module stays as it is,
survivors as long as its tests do too.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import libcst as cst
import pytest
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper
from mutmut.mutation import mutators
from mutmut.mutation.file_mutation import MutationVisitor
from mutmut.mutation.pragma_handling import IgnoredCode

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
KEPT = ROOT / "build" / "mutants.jsonl"
OPERATORS = (
    (cst.BaseNumber, mutators.operator_number),
    (cst.Name, mutators.operator_name),  # True, False
    (cst.UnaryOperation, mutators.operator_remove_unary_ops),
    (cst.AugAssign, mutators.operator_augmented_assignment),
    (cst.CSTNode, mutators.operator_keywords),  # is, in, break, continue
    (cst.CSTNode, mutators.operator_swap_op),
    (cst.IfExp, mutators.operator_if_exp),
)
HEAVY = (
    *(
        "torch",
        "transformers.models.llama.modeling_llama",
        "transformers.models.bloom.modeling_bloom",
        "peft",
    ),
    *(
        "pandas",
        "pyarrow.parquet",
        "scipy.stats",
        "scipy.optimize",
        "matplotlib.pyplot",
        "math_verify",
    ),
)
LONGEST_SECONDS = 600
MEMORY_GIB = 16  # of address space: a mutant may ask for everything there is
fork = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Change:
    """One mutant as it is listed: where it is, and the lines before and after."""

    module: str
    function: str
    before: str
    after: str

    def __str__(self) -> str:
        lines = [f"  - {line}" for line in self.before.splitlines()] + [
            f"  + {line}" for line in self.after.splitlines()
        ]
        return "\n".join([f"{self.module}, {self.function or 'at its top'}", *lines])


@dataclass(frozen=True)
class Mutant:
    change: Change
    source: str


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutation testing of the mathematics.")
    parser.add_argument("modules", nargs="*", help="all of them by default")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    options = parser.parse_args()
    listed = tomllib.loads((TESTS / "mutants.toml").read_text())
    names = options.modules or list(listed["tests"])
    for name in HEAVY:
        importlib.import_module(name)
    gc.freeze()  # else every child copies all of it at its first collection: five times the seconds
    failed = [name for name in names if not _module_holds(name, listed, options.jobs)]
    if failed:
        print(f"to be tested, or listed in tests/mutants.toml with the reason: {', '.join(failed)}")
    return 1 if failed else 0


def _module_holds(name: str, listed: dict, jobs: int) -> bool:
    """Runs one module's mutants and prints what became of them; whether every survivor is listed
    and every entry needed."""
    began, tests = time.monotonic(), listed["tests"][name]
    found = list(mutants(name))
    reasons = {
        Change(name, one["function"], one["before"], one["after"]): one["reason"]
        for one in listed.get("equivalent", [])
        if one["module"] == name
    }
    killed = outcomes(name, found, tests, jobs)
    survivors = [one.change for one, noticed in zip(found, killed, strict=True) if not noticed]
    unlisted, needless = (
        [one for one in survivors if one not in reasons],
        [one for one in reasons if one not in survivors],
    )
    print(
        f"{name}: {len(found)} mutants, {sum(killed)} killed, {len(survivors) - len(unlisted)} "
        "equivalent, "
        f"{len(unlisted)} survived; {time.monotonic() - began:.0f} seconds",
        flush=True,
    )
    for change, count in Counter(unlisted).items():
        print(f"survived{f' ({count} times)' if count > 1 else ''}: {change}", flush=True)
    for change in needless:
        exists = any(one.change == change for one in found)
        print(
            "listed as equivalent, but "
            f"{'a test notices it' if exists else 'there is no such mutant'}: {change}",
            flush=True,
        )
    return not unlisted and not needless


def mutants(name: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    source = path_of(name).read_text()
    wrapper = MetadataWrapper(cst.parse_module(source))
    visitor = Visitor(OPERATORS, IgnoredCode(set(), set(), set()))
    wrapper.visit(visitor)
    spans, text = wrapper.resolve(ByteSpanPositionProvider), source.encode()
    for mutation in visitor.mutations:
        span = spans[mutation.original_node]
        end = span.start + span.length
        old, new = (
            wrapper.module.code_for_node(one).encode()
            for one in (mutation.original_node, mutation.mutated_node)
        )
        before, found, after = old.partition(
            text[span.start : end]
        )  # blanks or parentheses that the span leaves out
        if (
            found and new.startswith(before) and new.endswith(after)
        ):  # several times faster than `deep_replace`
            inside = new[len(before) : len(new) - len(after)]
            changed = (text[: span.start] + inside + text[end:]).decode()
        else:
            changed = wrapper.module.deep_replace(
                mutation.original_node, mutation.mutated_node
            ).code
        compile(changed, name, "exec")  # what is no Python at all would pass as noticed
        lines = list(unified_diff(source.splitlines(), changed.splitlines(), n=0, lineterm=""))[3:]
        before, after = (
            "\n".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+"
        )
        function = mutation.contained_by_top_level_function
        yield Mutant(
            Change(
                name,
                function.name.value if isinstance(function, cst.FunctionDef) else "",
                before,
                after,
            ),
            changed,
        )


class Visitor(MutationVisitor):
    """Leaves ``strict=True`` of a zip alone: it guards against what does not happen. Enters
    decorated functions too."""

    def on_visit(self, node: cst.CSTNode) -> bool:
        strict = (
            isinstance(node, cst.Arg)
            and node.keyword is not None
            and node.keyword.value == "strict"
        )
        decorated = isinstance(node, cst.FunctionDef) and len(node.decorators) > 0
        return not strict and (decorated or super().on_visit(node))


def path_of(name: str) -> Path:
    return ROOT / f"{name.replace('.', '/')}.py"


def outcomes(name: str, found: Sequence[Mutant], tests: Sequence[str], jobs: int) -> list[bool]:
    """Whether some test notices each mutant; what an earlier run found is taken from disk."""
    texts = "".join((TESTS / test.partition("::")[0]).read_text() for test in tests)
    keys = [_hash(one.source) for one in found]
    known = {}
    if KEPT.exists():
        known = {
            one["key"]: one["killed"] for one in map(json.loads, KEPT.read_text().splitlines())
        }
    killed = {place for place, key in enumerate(keys) if known.get(key)}
    alive = {place for place, key in enumerate(keys) if known.get(_hash(key + texts)) is False}
    waiting = [place for place in range(len(found)) if place not in killed | alive]
    if waiting:
        spent = _seconds_of_children()
        (unchanged,) = _run(name, [path_of(name).read_text()], tests, 1, LONGEST_SECONDS)
        if unchanged[1]:
            raise SystemExit(
                f"{name}: its tests fail, or take more than {LONGEST_SECONDS} seconds, without "
                "any change"
            )
        limit = 10 + 5 * int(_seconds_of_children() - spent)
        KEPT.parent.mkdir(exist_ok=True)
        with KEPT.open("a") as kept:
            for index, noticed in _run(
                name, [found[place].source for place in waiting], tests, jobs, limit
            ):
                place = waiting[index]
                key = keys[place] if noticed else _hash(keys[place] + texts)
                kept.write(json.dumps({"key": key, "killed": noticed}) + "\n")
                kept.flush()
                if noticed:
                    killed.add(place)
    return [place in killed for place in range(len(found))]


def _seconds_of_children() -> float:
    """Of a processor, so that a busy machine makes no mutant look endless."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _run(
    name: str, sources: Sequence[str], tests: Sequence[str], jobs: int, limit: int
) -> Iterator[tuple[int, bool]]:
    """Place and whether a test failed, as they end; also where it took more of a processor's
    seconds than the limit."""
    left = list(enumerate(sources))[::-1]
    running: dict[int, tuple[BaseProcess, int, float]] = {}  # by sentinel
    while left or running:
        while left and len(running) < jobs:
            place, source = left.pop()
            process = fork.Process(target=_child, args=(name, source, tests, limit))
            process.start()
            running[process.sentinel] = process, place, time.monotonic() + LONGEST_SECONDS
        wait(list(running), timeout=1.0)
        for sentinel, (process, place, end) in list(running.items()):
            if process.is_alive() and time.monotonic() < end:
                continue
            if process.pid is not None and process.is_alive():
                os.killpg(process.pid, signal.SIGKILL)
            process.join()
            del running[sentinel]
            yield place, process.exitcode != 0


def _child(name: str, source: str, tests: Sequence[str], limit: int) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_GIB * 2**30,) * 2)
    silence = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(silence, descriptor)
    sys.meta_path.insert(0, Finder(name, source))
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(ROOT)
    code = pytest.main(
        [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-m",
            "not slow",
            *(str(TESTS / test) for test in tests),
        ]
    )
    os._exit(int(code))


class Finder(importlib.abc.MetaPathFinder):
    """Finds one module with another source."""

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = name, source

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(
            name, path_of(name), loader=Loader(name, self.source)
        )


class Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, source: str) -> None:
        super().__init__(name, str(path_of(name)))
        self.source = source

    def get_code(self, name: str) -> object:
        return compile(self.source, self.path, "exec")


if __name__ == "__main__":
    raise SystemExit(main())

"""Benchmarks are code of the project: each one runs at toy size, and a side that fails fails it."""

from __future__ import annotations

import functools
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from code_problems import needs_sandbox

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
EVERY = sorted(
    path.stem
    for path in BENCHMARKS.glob("*.py")
    if path.stem not in ("timing", "plan")  # plan: tests/planner
)
needs_trl = pytest.mark.skipif(
    importlib.util.find_spec("trl") is None, reason="needs extra: trl is not installed"
)
needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="needs engine: vllm is not installed"
)
needs_chromium = pytest.mark.skipif(
    shutil.which("chromium") is None or importlib.util.find_spec("playwright") is None,
    reason="needs extra: chromium and playwright",
)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results would be kept."""
    import timing

    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setattr(timing, "RESULTS", folder)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return folder


def loaded(name: str) -> Any:
    """A script as a module; by its path, since `coverage` is also the name of a package."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def run(name: str, results: Path, *words: str) -> Any:
    """Runs a benchmark at toy size in this process, and returns its module. Nothing is kept."""
    module = loaded(name)
    if hasattr(module, "RESULTS"):
        module.RESULTS = results
    module.main(["--toy", *words])
    assert not list(results.iterdir())
    return module


@pytest.mark.parametrize("name", EVERY)
def test_a_benchmark_says_what_it_is_run_with(
    name: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "pages":
        pytest.importorskip("playwright", reason="needs extra: playwright")
    with pytest.raises(SystemExit) as end:
        loaded(name).main(["--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and "--toy" in text and f"benchmarks/{name}.py" in text


def test_the_makefile_runs_scripts_that_exist() -> None:
    named = [word for word in (ROOT / "Makefile").read_text().split() if "benchmarks/" in word]
    scripts = [word for word in named if word.endswith(".py")]
    assert len(scripts) > 8 and all((ROOT / script).exists() for script in scripts)


def test_scoring(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("scoring", results, "--part", "throughput")
    text = capsys.readouterr().out
    row = json.loads(text[text.index("{") :])
    assert set(row["seconds"]) == {"bare", "decaylab, head model"}
    run("scoring", results, "--part", "memory")
    text = capsys.readouterr().out
    rows = json.loads(text[text.index("{") :])["rows"]
    assert [row["side"] for row in rows] == ["usual", "hidden", "decaylab"]


def test_scoring_with_two_tokenizers(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("aligned_scoring", results)
    text = capsys.readouterr().out
    row = json.loads(text[text.index("{") :])
    assert set(row["seconds"]) == {"one tokenizer", "two tokenizers"} and row["time_ratio"] > 0
    assert [side["side"] for side in row["memory"]] == ["one tokenizer", "two tokenizers"]


@needs_trl
def test_losses_of_scoring_agree(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("scoring", results, "--part", "losses")
    text = capsys.readouterr().out
    result = json.loads(text[text.index("{") :])
    assert "mean_reverse_kl" in result["rows"][1] and result["spread_of_mean_reverse_kl"] < 1e-3


@needs_trl
def test_both_sides_take_training_steps(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Until 2026 this ended with a missing argument of `Run`, and the other side's result was
    kept without ours."""
    run("training", results, "--part", "peers")
    text = capsys.readouterr().out
    sides = json.loads(text[text.index("{", text.index("peers {")) :])["sides"]
    for side in ("decaylab", "trl"):
        assert len(sides[side]["seconds"]) == 2 and sides[side]["tokens_a_step"] == 12
    assert sides["decaylab"]["prompts"] == sides["trl"]["prompts"]


def test_training_alone(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = run("training", results, "--part", "lengths")
    text = capsys.readouterr().out
    row = json.loads(text[text.index("{", text.index("lengths {")) :])
    assert row["ratio_of_tokens"] == 0.5
    run("training", results, "--part", "loss")
    text = capsys.readouterr().out
    rows = json.loads(text[text.index("{") :])["rows"]
    assert [row["side"] for row in rows] == list(module.LOSSES)
    assert rows[0]["gradient_norm"] == pytest.approx(rows[1]["gradient_norm"], rel=1e-4)


def test_sizes_of_training_are_those_that_are_asked_for() -> None:
    training = loaded("training")
    asked = training.argparse.Namespace(
        tokens=None, micro_batch=None, steps=4, dtype="float32", checkpointing=False
    )
    works = training.works_of_peers(["smollm2", "abacus"], asked)
    sizes = {(work.pair, work.tokens): work.micro_batch for work in works}
    assert sizes == training.PEERS
    asked.tokens, asked.micro_batch = 77, 0
    (work,) = training.works_of_peers(["abacus"], asked)
    assert (work.tokens, work.micro_batch) == (77, None)


def test_categories(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("categories", results)
    text = capsys.readouterr().out
    result = json.loads(text[text.index("{") :])
    assert result["agreement"]["modules"] == 5 and result["agreement"]["differ"] == 0
    assert [row["kind"] for row in result["speed"]] == ["mathematics", "code", "calls"]


def test_aggregation(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = run("aggregation", results, "--checkpoint")
    text = capsys.readouterr().out
    result = json.loads(text[text.index("\n{\n") :])
    assert result["tokens"] == module.TOY_PROBLEMS * module.SAMPLES * module.MEAN_TOKENS
    measurements = {row["side"]: row["measurements"] for row in result["rows"]}
    assert set(measurements) == set(module.DIAGNOSTICS) and min(measurements.values()) > 10


def test_continuations(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = run("continuations", results)
    lines = capsys.readouterr().out.splitlines()
    sides = [line.split("'side': '")[1].split("'")[0] for line in lines if "'side'" in line]
    assert sides == list(module.SIDES)
    with pytest.raises(SystemExit):
        module.main(["--toy", "--sides", "plain"])
    assert "decaylab must be among them" in capsys.readouterr().err


@pytest.mark.parametrize(
    "part", ["along_rollouts", "hand_back", "paired", "seconds", "truth", "values"]
)
def test_coverage(part: str, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("coverage", results, "--part", part)
    assert f"{part}: 3 draws a case" in capsys.readouterr().out


def test_of_one_law_only_what_is_given_the_bytes_is_zero(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = run("byte_laws", results)
    text = capsys.readouterr().out
    assert "distances: " in text and "coverage: " in text
    one_law = next(module.distances(1, 3, [("letters", "pairs")]))
    assert (one_law["loose"], one_law["distance"]) == (0.0, 0.0)
    zero = ("text_kl", "response_log_ratio", "k3", "given_bytes")
    assert all(abs(one_law[name]) < 1e-12 for name in zero)
    assert all(one_law[name] > 0.1 for name in ("given_tokens", "one_pass", "without_ends"))


@pytest.mark.slow
@pytest.mark.parametrize("part", ["verdicts", "bins"])
def test_slow_coverage(part: str, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("coverage", results, "--part", part)
    assert f"{part}: 3 draws a case" in capsys.readouterr().out


def test_whole_commands_run_on_a_cpu_too(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = run("gpu", results)
    lines = capsys.readouterr().out.splitlines()
    begun = [line.split()[:2] for line in lines if line.startswith(tuple(module.PARTS))]
    assert begun == [["decay", "transformers"], ["training", "transformers"]]


@needs_chromium
def test_pages() -> None:
    """In a process of its own: playwright drives one browser at a time, and pages have one."""
    words = [sys.executable, str(BENCHMARKS / "pages.py"), "--toy"]
    result = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    assert {"token view, 4 x 20 tokens", "report, a table of 30 rows"} < set(result)


def test_rollout_files(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = run("rollout_files", results)
    text = capsys.readouterr().out
    _, texts, ids = json.loads(text[text.index("\n{\n") :])["rows"]
    assert (texts["rollouts"], ids["rollouts"]) == (module.TOY, module.TOY // 2)


def test_function_calls(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = run("function_calls", results)
    text = capsys.readouterr().out
    result = json.loads(text[text.index("{") :])
    assert result["certain"] == module.TOY_CASES * len(module.CERTAIN)
    assert result["uncertain"] == [] and result.get("unexplained", []) == []
    lenient = functools.partial(module.judge, "name")  # a judge that looks at names only
    monkeypatch.setattr(module, "judge", lambda rule, text, problem: lenient(text, problem))
    with pytest.raises(SystemExit, match="verdicts differ"):
        module.main(["--toy"])


def test_the_bound_by_the_students_ids_is_exact_with_the_whole_vocabulary() -> None:
    from decaylab.policies import loading
    from decaylab.tokens.scoring import Scorer

    module = loaded("served_scores")
    student = module.student_of(module.TOY)
    teacher = loading.load(module.TOY["teacher"], module.HOST)
    rollouts = module.rollouts_of(student, module.TOY)
    scored = Scorer(student, teacher).score(rollouts)
    exact = np.concatenate([each.columns["reverse_kl"] for each in scored])
    bounds = module.by_students_ids(student, teacher, rollouts, [1, 520])
    few, whole = (module.compared(bounds[count], exact) for count in (1, 520))
    assert abs(whole["mean_missed"]) < 1e-5 and few["mean_missed"] > whole["mean_missed"]


@needs_vllm
def test_served_scores(results: Path) -> None:
    run("served_scores", results)


def test_what_both_sides_of_vllm_continue() -> None:
    from decaylab.policies import loading

    module = loaded("vllm_overhead")
    student = loading.load(module.TOY["student"], loading.LoadSettings("float32", "cpu"))
    requests = module.requests_of(module.TOY, student)
    prefixes = {len(request.prefix_ids) for request in requests}
    assert prefixes <= set(module.TOY["lengths"]) and len(requests) >= module.TOY["problems"]
    assert {len(request.prefix_ids) + request.max_new_tokens for request in requests} == {12}


@needs_vllm
def test_vllm_overhead(results: Path) -> None:
    run("vllm_overhead", results)


def test_a_side_that_fails_fails_the_benchmark_and_leaves_the_results(tmp_path: Path) -> None:
    """In processes of their own, as results are made."""
    kept = tmp_path / "aggregation.json"
    kept.write_text('{"base": "good"}')
    code = (
        "import sys, pathlib; sys.path.insert(0, 'benchmarks')\n"
        "import timing, aggregation\n"
        f"timing.RESULTS = pathlib.Path({str(tmp_path)!r})\n"
        "aggregation.PROBLEMS = 40\n"
        "aggregation.DIAGNOSTICS = ('position_kl', 'no such diagnostic')\n"
        f"aggregation.main(['--problems', '40', '--folder', {str(tmp_path / 'made')!r}])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1, ended.stderr
    assert "'side': 'position_kl'" in ended.stdout, "one side had worked"
    assert "KeyError: 'no such diagnostic'" in ended.stderr and "failed with exit" in ended.stderr
    assert kept.read_text() == '{"base": "good"}'


def test_results_of_other_parts_stay(results: Path) -> None:
    import timing

    timing.keep("some", {"first": 1, "second": 1})
    timing.keep("some", {"second": 2})
    assert json.loads((results / "some.json").read_text()) == {"first": 1, "second": 2}


def test_peaks_begin_where_they_are_reset() -> None:
    import timing

    timing.reset_peak()
    before = timing.resident_peak_gib()
    held = np.ones(2**24)  # 128 MiB
    assert timing.peak_gib() - before == pytest.approx(held.nbytes / timing.GIB, rel=0.3)


@needs_sandbox
def test_code_grading_agrees_with_its_peer(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = run("code_grading", results)
    text = capsys.readouterr().out
    parts = {
        part: text.split(f"\n{part} ", 1)[-1].removeprefix(f"{part} ") for part in module.PARTS
    }
    found = {part: json.JSONDecoder().raw_decode(words)[0] for part, words in parts.items()}
    assert found["references"]["not passed"] == {} and found["mutants"]["differing"] == []
    assert found["references"]["tests need the program's objects"] == 1
    assert any("peer True" in name for name in found["mutants"]["verdicts"])
    assert found["hung"]["seconds"] < 2 * 0.5 + 1

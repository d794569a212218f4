"""served-kl: the bound by position out of scored tokens; and as a command, killed, started again,
beside the exact KL."""

from __future__ import annotations

import importlib.util
import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import DATA, contents, decaylab, start
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from decaylab.analyses.served_kl import QUANTITIES, Settings, measure
from decaylab.commands.served_kl import COLUMNS, served_kl
from decaylab.errors import UserError
from decaylab.maths import token_means
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.runs import measurements
from decaylab.tokens.token_table import Scored, TokenTable

SMALL = ("--limit", 6, "--samples", 2, "--max-tokens", 40, "--batch-rows", 4)
ROUTE = "a lower bound from 4 ids"


def engine_test(function: Any) -> Any:
    missing = importlib.util.find_spec("vllm") is None
    skipped = pytest.mark.skipif(missing, reason="needs engine: vllm is not installed")
    return pytest.mark.engine(skipped(function))


# The analysis


def scored_tokens(
    lengths: list[int], problems: list[int], problem_count: int, seed: int = 0
) -> TokenTable:
    rng = np.random.default_rng(seed)
    columns = {name: rng.random(sum(lengths)).astype(np.float32) for name in COLUMNS}
    return TokenTable(np.array(lengths), np.array(problems), problem_count, columns)


def test_each_mean_is_that_of_the_tokens_in_its_bin() -> None:
    lengths, problems = [3, 5, 2, 4], [0, 0, 1, 2]
    table = scored_tokens(lengths, problems, 3)
    frame = measure([Scored("base", "fresh", table)], Settings((0, 2, 4), ROUTE))
    position = np.concatenate([np.arange(length) for length in lengths])
    values = {name: table[name].astype(np.float64) for name in COLUMNS}
    values["log_ratio"] = values["student_logprob"] - values["teacher_logprob"]
    for quantity, unit in QUANTITIES.items():
        rows = frame[frame["what"] == quantity]
        for (low, high), row in zip(
            [(0, 2), (2, 4), (4, math.inf)], rows.itertuples(), strict=True
        ):
            inside = (position >= low) & (position < high)
            assert row.value == pytest.approx(values[quantity][inside].mean(), abs=1e-6)
            assert (row.position_low, row.position_high, row.unit) == (low, high, unit)
            assert row.tokens == inside.sum()
        (whole,) = frame[frame["what"] == f"mean_{quantity}"].itertuples()
        assert whole.value == pytest.approx(values[quantity].mean(), abs=1e-6)
    assert frame[frame["what"] == "log_ratio"]["rollouts"].tolist() == [4, 3, 1]


def test_intervals_are_over_problems_and_a_signed_mean_may_lie_on_both_sides_of_zero() -> None:
    table = scored_tokens([4] * 12, [place // 2 for place in range(12)], 6)
    frame = measure([Scored("base", "fresh", table)], Settings((0,), ROUTE))
    cells = np.zeros(48, dtype=int)
    for quantity, signed in (("reverse_kl_bound", False), ("log_ratio", True)):
        values = table["student_logprob"] - table["teacher_logprob"] if signed else table[quantity]
        sums, counts = (
            token_means.sums_by_problem(one, table.token_problems, cells, 6, 1)
            for one in (values, None)
        )
        low, high = token_means.interval(token_means.means(sums, counts, signed=signed))
        row = frame[frame["what"] == f"mean_{quantity}"].iloc[0]
        assert (row["low"], row["high"]) == pytest.approx((low[0], high[0]))
        assert row["problems"] == 6


def test_every_row_says_that_it_is_an_approximation_and_no_change_is_measured() -> None:
    one, other = (scored_tokens([3, 3], [0, 1], 2, seed) for seed in (0, 1))
    given = [
        Scored("base", "fresh", one),
        Scored("base", "frozen", one),
        Scored("step-5", "frozen", other),
    ]
    frame = measure(given, Settings((0, 2, 9), ROUTE))
    assert frame["note"].str.startswith(f"approximation: {ROUTE}").all()
    assert (
        frame[frame["position_low"] == 9]["note"]
        .str.endswith(("; no tokens", "; nothing to share"))
        .all()
    )
    assert frame[frame["position_low"] == 9]["value"].isna().all()
    assert not frame["what"].str.contains("change").any()
    assert set(zip(frame["view"], frame["checkpoint"])) == {
        (one.view, one.checkpoint) for one in given
    }


def test_bins_that_do_not_ascend_from_0_are_refused() -> None:
    with pytest.raises(ValueError, match="edges must ascend from 0"):
        Settings((1, 2), ROUTE)


def test_scores_at_another_temperature_are_refused() -> None:
    with pytest.raises(UserError, match="scores at temperature 1"):
        served_kl(DiagnosticOptions(score_temperature=0.7))


# As a command


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """run: a served-kl that nothing disturbed, of every id. cache: what it left for others."""
    root = tmp_path_factory.mktemp("undisturbed")
    outcome = decaylab(
        *("served-kl", *SMALL, "--top-ids", 520, "--verbose"),
        *("--cache", root / "cache", "--out", root / "run"),
    )
    assert outcome.code == 0, outcome.err
    (root / "out.txt").write_text(outcome.out)
    return root


@engine_test
def test_with_every_id_the_bound_is_what_position_kl_measures(
    finished: Path, tmp_path: Path
) -> None:
    more = (
        "--cache",
        finished / "cache",
        "--floor-problems",
        0,
        "--quiet",
        "--out",
        tmp_path / "exact",
    )
    assert decaylab("position-kl", *SMALL, *more).code == 0
    exact = measurements.read(tmp_path / "exact" / "measurements.parquet")
    bound = measurements.read(finished / "run" / "measurements.parquet")
    for what, name in (("reverse_kl", "reverse_kl_bound"), ("student_entropy", "student_entropy")):
        for prefix in ("", "mean_"):
            ours = bound[bound["what"] == prefix + name]
            theirs = exact[(exact["what"] == prefix + what) & (exact["condition"] == "all")]
            for column in (
                "value",
                "low",
                "high",
                "position_low",
                "tokens",
                "rollouts",
                "problems",
            ):
                expected = theirs[column].to_numpy(dtype=float)
                assert ours[column].to_numpy(dtype=float) == pytest.approx(
                    expected, abs=2e-5, nan_ok=True
                )
    assert bound[bound["what"] == "teacher_mass"]["value"].dropna().to_numpy() == pytest.approx(
        1, abs=1e-5
    )


@engine_test
def test_a_bound_from_few_ids_lies_below_in_every_bin(finished: Path, tmp_path: Path) -> None:
    where = ("--cache", finished / "cache", "--out", tmp_path / "run", "--quiet", "--json")
    outcome = decaylab("served-kl", *SMALL, "--top-ids", 2, *where)
    rows = pd.DataFrame(json.loads(outcome.out)["measurements"])
    few = rows[rows["what"] == "reverse_kl_bound"]["value"].to_numpy(dtype=float)
    every = measurements.read(finished / "run" / "measurements.parquet").query(
        "what == 'reverse_kl_bound'"
    )["value"]
    assert (few <= every.to_numpy() + 2e-5)[~np.isnan(few)].all()
    assert np.nanmax(every.to_numpy() - few) > 1e-3  # or the test shows nothing
    assert (
        rows["note"]
        .str.startswith("approximation: a lower bound from the teacher's top 2 ids")
        .all()
    )
    assert "approximation: a lower bound" in " ".join(json.loads(outcome.out)["notes"])


@engine_test
def test_the_tables_say_what_the_numbers_are(finished: Path) -> None:
    text = " ".join((finished / "out.txt").read_text().split())
    assert (
        "Approximation: a lower bound of the reverse KL by response position, nats (fresh)" in text
    )
    assert "at least: the exact reverse KL is not known and not below it" in text
    record = json.loads((finished / "run" / "run.json").read_text())
    assert record["identity"]["scores"] == {"kind": "approximation: a lower bound", "top_ids": 520}
    assert "approximation: a lower bound from the teacher's top 520 ids" in " ".join(
        record["notes"]
    )


STALLS = """
import time
from decaylab.commands import served_kl; from decaylab.runs import store
served_kl.PART_TOKENS = 200
write, seen = store.write_table, []

def stalled(table, path, schema):
    write(table, path, schema)
    seen.extend([1] if schema == served_kl.TOKENS else [])
    if len(seen) == 2:
        time.sleep(300)

store.write_table = stalled
"""


@engine_test
@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_where_it_was_and_measures_the_same(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        "served-kl",
        *SMALL,
        "--top-ids",
        520,
        "--cache",
        tmp_path / "cache",
        "--out",
        tmp_path / "run",
        "--quiet",
    )
    with start(*words, before=STALLS) as process:
        deadline = time.monotonic() + 120
        while (
            len(list(tmp_path.glob("cache/served-*/part-*.parquet"))) < 2
            and time.monotonic() < deadline
        ):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    parts = {
        path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/served-*/part-*.parquet")
    }
    assert len(parts) == 2
    first = min(parts)
    kept = first.read_bytes()
    assert not (tmp_path / "run" / "measurements.parquet").exists()
    monkeypatch.setattr("decaylab.commands.served_kl.PART_TOKENS", 200)
    written: list[Path] = []
    monkeypatch.setattr(
        Path, "unlink", lambda path, **_: written.append(path)
    )  # keeps the parts to look at
    assert decaylab(*words).code == 0
    monkeypatch.undo()
    assert first.read_bytes() == kept and first.stat().st_mtime_ns == parts[first]
    found, expected = (
        measurements.read(folder / "measurements.parquet")
        for folder in (tmp_path / "run", finished / "run")
    )
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-5)


@engine_test
def test_what_was_scored_is_not_scored_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "decaylab.commands.served_kl.VllmEngine", lambda *_: pytest.fail("an engine was opened")
    )
    where = ("--cache", finished / "cache", "--out", tmp_path / "run", "--quiet")
    assert decaylab("served-kl", *SMALL, "--top-ids", 520, *where).code == 0
    ours, theirs = (
        contents(folder)["measurements.csv"] for folder in (tmp_path / "run", finished / "run")
    )
    assert ours == theirs


@engine_test
def test_a_checkpoint_is_measured_on_its_own_rollouts_and_on_those_of_base(
    finished: Path, tmp_path: Path
) -> None:
    """An adapter on the student, with every id: the KL that position-kl measures in either view."""
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(DATA / "student"),
        LoraConfig(r=2, target_modules=["v_proj", "up_proj"]),
    )
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(tmp_path / "esr")
    where = ("--cache", finished / "cache", "--quiet", "--json")
    served = decaylab(
        "served-kl",
        tmp_path / "esr",
        *SMALL,
        *where,
        "--top-ids",
        520,
        "--out",
        tmp_path / "served",
    )
    exact = decaylab(
        "position-kl",
        tmp_path / "esr",
        *SMALL,
        *where,
        "--floor-problems",
        0,
        "--out",
        tmp_path / "exact",
    )
    frames = [pd.DataFrame(json.loads(outcome.out)["measurements"]) for outcome in (served, exact)]
    found, expected = (
        frame[frame["what"] == what].set_index(["view", "checkpoint"])["value"]
        for frame, what in zip(frames, ("mean_reverse_kl_bound", "mean_reverse_kl"), strict=True)
    )
    assert set(found.index) == {
        (view, name) for view in ("fresh", "frozen") for name in ("base", "esr")
    }
    for key, value in found.items():
        assert value == pytest.approx(expected[key], abs=2e-5)
    assert (
        found["fresh", "base"]
        == found["frozen", "base"]
        != found["frozen", "esr"]
        != found["fresh", "esr"]
    )


def test_without_vllm_one_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    where = ("--cache", tmp_path / "cache", "--out", tmp_path / "run", "--quiet")
    assert 'pip install "decaylab[vllm]"' in decaylab("served-kl", *SMALL, *where).complaint


def test_help_tells_that_it_is_an_approximation() -> None:
    code = "from decaylab.cli import main as cli; cli.main(['served-kl', '--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "An approximation:" in done.stdout and "--top-ids" in done.stdout
    assert "--score-temperature" not in done.stdout

"""What a run writes down and goes on from: tables row by row, the state of the optimizer, alarms,
seconds and memory."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from decaylab.errors import UserError
from decaylab.options.training import TrainOptions
from decaylab.runs.growing_csv import Table
from decaylab.trainer.alarms import Behaviour, Thresholds, alarms
from decaylab.trainer.machinery.meter import Meter
from decaylab.trainer.machinery.processes import Processes
from decaylab.trainer.machinery.resume import ResumeState, checkpoint_folder

NAN = math.nan

# --- tables
# ---------------------------------------------------------------------------


def filled(path: Path, steps: int = 4) -> Table:
    table = Table(path)
    for step in range(1, steps + 1):
        table.append({"step": step, "loss": step / 3, "name": f"a,{step}"})
    return table


def test_floats_are_read_back_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(400) * 10.0 ** rng.integers(-300, 300, 400)
    table = Table(tmp_path / "metrics.csv")
    for step, (one, other) in enumerate(values.reshape(-1, 2), 1):
        table.append({"step": step, "plain": float(one), "numpy": other})
    rows = table.read()
    assert rows[["plain", "numpy"]].to_numpy().ravel().tolist() == values.tolist()
    assert rows["step"].tolist() == list(range(1, 201)) and rows["step"].dtype.kind == "i"


def test_what_is_unknown_is_an_empty_field_and_comes_back_as_nan(tmp_path: Path) -> None:
    table = Table(tmp_path / "metrics.csv")
    table.append({"step": 1, "a": NAN, "b": None, "c": np.float64("nan"), "d": 0.0, "e": math.inf})
    assert (tmp_path / "metrics.csv").read_bytes() == b"step,a,b,c,d,e\n1,,,,0.0,inf\n"
    (row,) = table.read().to_dict("records")
    assert all(math.isnan(row[name]) for name in "abc") and row["d"] == 0 and row["e"] == math.inf


def test_the_first_row_names_the_columns_and_every_row_is_on_disk_at_once(tmp_path: Path) -> None:
    table = Table(tmp_path / "metrics.csv")
    for step in (1, 2):
        table.append({"step": step, "loss": 0.5})
        assert len(pd.read_csv(tmp_path / "metrics.csv")) == step
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0] == "step,loss"
    (tmp_path / "empty.csv").touch()
    Table(tmp_path / "empty.csv").append({"step": 1})
    assert len(Table(tmp_path / "empty.csv").read()) == 1


@pytest.mark.parametrize("step", [0, 1, 3, 4, 9])
def test_rows_of_later_steps_are_dropped(tmp_path: Path, step: int) -> None:
    table, whole = filled(tmp_path / "metrics.csv"), (tmp_path / "metrics.csv").read_bytes()
    table.keep_until(step)
    if step == 0:
        assert not table.path.exists()
    else:
        assert table.read()["step"].tolist() == list(range(1, min(step, 4) + 1))
        assert whole.startswith(table.path.read_bytes())
    for following in range(min(step, 4) + 1, 5):
        table.append({"step": following, "loss": following / 3, "name": f"a,{following}"})
    assert table.path.read_bytes() == whole


def test_a_row_that_was_cut_off_anywhere_is_dropped(tmp_path: Path) -> None:
    """After a kill at any byte: the whole rows up to the step are left, and what follows makes the
    undisturbed file."""
    whole = filled(tmp_path / "whole.csv", 3).path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        table = Table(tmp_path / "cut.csv")
        table.path.write_bytes(whole[:cut])
        table.keep_until(3)
        rows = sum(end <= cut for end in ends) - 1
        assert (len(table.read()) if table.path.exists() else 0) == max(rows, 0), cut
        for step in range(max(rows, 0) + 1, 4):
            table.append({"step": step, "loss": step / 3, "name": f"a,{step}"})
        assert table.path.read_bytes() == whole, cut


def test_the_row_before_training_is_kept_and_is_made_again_where_it_was_cut_off(
    tmp_path: Path,
) -> None:
    table = Table(tmp_path / "validation.csv")
    table.append({"step": 0, "accuracy": 0.5})
    table.append({"step": 25, "accuracy": 0.6})
    whole = table.path.read_bytes()
    table.keep_until(0)
    assert table.read()["step"].tolist() == [0]
    table.path.write_bytes(whole[: len(b"step,accuracy\n0,0.")])
    table.keep_until(0)
    assert not table.path.exists()  # so whoever looks for it knows that it is not there


def test_rubbish_behind_the_rows_is_dropped(tmp_path: Path) -> None:
    for rubbish in ("\0\0\0\0", "\0\0\n", "abc,1\n", ",\n", "-1,2,3\n", "1.5,2\n"):
        table, whole = filled(tmp_path / "metrics.csv", 2), (tmp_path / "metrics.csv").read_bytes()
        table.path.write_bytes(whole + rubbish.encode())
        table.keep_until(5)
        assert table.path.read_bytes() == whole
        table.path.unlink()


def test_a_file_that_needs_no_change_is_left_alone(tmp_path: Path) -> None:
    table = filled(tmp_path / "metrics.csv")
    os.utime(table.path, (1, 1))
    table.keep_until(4)
    assert table.path.stat().st_mtime == 1
    Table(tmp_path / "none.csv").keep_until(3)
    assert not (tmp_path / "none.csv").exists()


def test_a_table_that_cannot_be_read_or_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text('step,loss\n1,"2\n')
    for name in ("metrics.csv", "none.csv"):
        with pytest.raises(UserError, match=f"{name} cannot be read"):
            Table(tmp_path / name).read()
    with pytest.raises(UserError, match="rows.csv"):
        Table(tmp_path / "no folder" / "rows.csv").append({"step": 1})


# --- the state to go on from
# ---------------------------------------------------------------------------


def weights(seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a.lora_A": (3, 4), "a.lora_B": (4, 3), "bias": (5,), "unused": (2,)}
    return {
        name: torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype))
        for name, shape in shapes.items()
    }


def optimizer_of(parameters: dict[str, Tensor]) -> torch.optim.AdamW:
    return torch.optim.AdamW(list(parameters.values()), lr=1e-2, weight_decay=0.1)


def train(parameters: dict[str, Tensor], optimizer: torch.optim.Optimizer, steps: range) -> None:
    """`unused` never has a gradient; no third step has any."""
    for step in steps:
        if step % 3:
            generator = torch.Generator().manual_seed(step)
            for name, weight in parameters.items():
                noise = torch.randn(weight.shape, generator=generator).to(weight.dtype)
                weight.grad = None if name == "unused" else noise
            optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_run_that_goes_on_from_its_state_is_the_undisturbed_one_bit_for_bit(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    """Through steps without an update, after which the optimizer has counted fewer than the run."""
    undisturbed = weights(dtype=dtype)
    train(undisturbed, optimizer_of(undisturbed), range(1, 11))
    for kill in range(11):
        state = ResumeState(tmp_path / f"run-{kill}")
        first = weights(dtype=dtype)
        optimizer = optimizer_of(first)
        train(first, optimizer, range(1, kill + 1))
        kept = {name: weight.detach().clone() for name, weight in first.items()}
        state.write(kill, first, optimizer)
        train(first, optimizer, range(kill + 1, 11))  # writing changes nothing
        assert all(weight.equal(undisturbed[name]) for name, weight in first.items())
        second = weights(seed=1, dtype=dtype)
        fresh = optimizer_of(second)
        assert state.read(second, fresh) == kill
        assert all(
            weight.equal(kept[name]) and weight.dtype == dtype for name, weight in second.items()
        )
        train(second, fresh, range(kill + 1, 11))
        assert all(weight.equal(undisturbed[name]) for name, weight in second.items())


def test_moments_come_back_and_not_only_weights(tmp_path: Path) -> None:
    """The near miss: with fresh moments, or with the run's count of steps for the optimizer's, it
    is another run."""
    undisturbed = weights()
    train(undisturbed, optimizer_of(undisturbed), range(1, 11))
    first = weights()
    optimizer = optimizer_of(first)
    train(first, optimizer, range(1, 8))
    state = ResumeState(tmp_path)
    state.write(7, first, optimizer)
    for spoil in ("moments", "count"):
        other = weights(seed=1)
        fresh = optimizer_of(other)
        state.read(other, fresh)
        for weight in other.values():
            if spoil == "moments":
                fresh.state.pop(weight, None)
            elif weight in fresh.state:
                assert float(fresh.state[weight]["step"]) == 5  # of 7 steps, 2 made no update
                fresh.state[weight]["step"] = torch.tensor(7.0)
        train(other, fresh, range(8, 11))
        assert not other["bias"].equal(undisturbed["bias"])


def test_no_state_is_step_0_and_leaves_everything_alone(tmp_path: Path) -> None:
    own = weights()
    before = {name: weight.detach().clone() for name, weight in own.items()}
    optimizer = optimizer_of(own)
    assert ResumeState(tmp_path).read(own, optimizer) == 0
    assert all(weight.equal(before[name]) for name, weight in own.items()) and not optimizer.state


def written(tmp_path: Path) -> ResumeState:
    own = weights()
    optimizer = optimizer_of(own)
    train(own, optimizer, range(1, 3))
    state = ResumeState(tmp_path)
    state.write(2, own, optimizer)
    return state


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "noise", "other names", "other shape", "no step", "no second moment"]
)
def test_a_damaged_state_is_told_in_one_line_that_says_what_to_do(
    tmp_path: Path, damage: str
) -> None:
    from safetensors.torch import load, save

    state, own = written(tmp_path), weights()
    whole = state.path.read_bytes()
    tensors = load(whole)
    spoilt = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "noise": b"\0" * 200,
        "other names": save({f"{name}.": one for name, one in tensors.items()}, {"step": "2"}),
        "other shape": save({**tensors, "weights.bias": torch.zeros(6)}, {"step": "2"}),
        "no step": save(tensors),
        "no second moment": save(
            {n: one for n, one in tensors.items() if n != "exp_avg_sq.bias"}, {"step": "2"}
        ),
    }
    state.path.write_bytes(spoilt[damage])
    with pytest.raises(UserError) as error:
        state.read(own, optimizer_of(own))
    message = str(error.value)
    assert message.startswith(f"{state.path} is damaged (") and message.endswith(
        "; use --overwrite to restart the run"
    )
    assert "\n" not in message


def test_a_state_is_replaced_whole_and_removed_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = written(tmp_path)
    before, own = state.path.read_bytes(), weights(seed=5)

    def full_disk(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(UserError, match=r"state\.safetensors"):
            state.write(3, own, optimizer_of(own))
    assert state.path.read_bytes() == before and os.listdir(state.path.parent) == [
        "state.safetensors"
    ]
    state.write(3, own, optimizer_of(own))
    assert state.read(weights(), optimizer_of(own)) == 3
    state.remove()
    assert os.listdir(tmp_path) == [] and state.read(own, optimizer_of(own)) == 0
    state.remove()


def test_checkpoints_folders_sort_by_their_step() -> None:
    assert checkpoint_folder(Path("runs/x"), 50) == Path("runs/x/step-000050")
    names = [checkpoint_folder(Path(), step).name for step in (5, 50, 100, 2000)]
    assert names == sorted(names)


# --- alarms
# ---------------------------------------------------------------------------

BEFORE = Behaviour(response_tokens=100.0, natural_stop_share=0.9, repetition_share=0.05)
KINDS = {
    "response_tokens": (
        "responses have grown to 151 tokens, from 100 before training",
        150.0,
        151.0,
    ),
    "repetition_share": (
        "16% of responses repeat themselves, against 5% before training",
        0.15,
        0.16,
    ),
    "natural_stop_share": (
        "only 79% of responses stop naturally, against 90%",
        0.8,
        0.79,
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_alarm_fires_just_past_its_threshold_and_is_silent_just_before(name: str) -> None:
    words, silent, firing = KINDS[name]
    (told,) = alarms(BEFORE, dataclasses.replace(BEFORE, **{name: firing}))
    assert told.startswith(words)
    assert alarms(BEFORE, dataclasses.replace(BEFORE, **{name: silent})) == []


def test_thresholds_are_one_and_a_half_times_and_ten_points_and_can_be_set() -> None:
    """Just above and just below, to a billionth."""
    assert Thresholds() == Thresholds(length=1.5, repetition=0.1, natural_stops=0.1)
    for thresholds in (Thresholds(), Thresholds(3.0, 0.25, 0.4)):
        edges = {
            "response_tokens": (thresholds.length * 100.0, 1),
            "repetition_share": (0.05 + thresholds.repetition, 1),
            "natural_stop_share": (0.9 - thresholds.natural_stops, -1),
        }
        for name, (edge, sign) in edges.items():
            for past in (-1e-9, 1e-9):
                now = dataclasses.replace(BEFORE, **{name: edge + sign * past})
                assert len(alarms(BEFORE, now, thresholds)) == (past > 0), (name, past)


def test_all_is_well_where_nothing_changed_or_things_got_better() -> None:
    assert alarms(BEFORE, BEFORE) == []
    assert alarms(BEFORE, Behaviour(20.0, 1.0, 0.0)) == []
    assert len(alarms(BEFORE, Behaviour(500.0, 0.0, 1.0))) == 3


def test_what_is_not_known_raises_no_alarm() -> None:
    unknown = Behaviour(NAN, NAN, NAN)
    assert (
        alarms(unknown, Behaviour(500.0, 0.0, 1.0))
        == alarms(BEFORE, unknown)
        == alarms(unknown, unknown)
        == []
    )
    assert len(alarms(BEFORE, Behaviour(NAN, 0.0, NAN))) == 1


# --- seconds and memory
# ---------------------------------------------------------------------------


def test_seconds_add_up_by_phase_until_they_are_cleared() -> None:
    meter = Meter(torch.device("cpu"))
    for _ in range(2):
        with meter.phase("scoring"):
            time.sleep(0.02)
    assert (
        0.04 <= meter.seconds["scoring"] < 0.5
        and meter.seconds["generation"] == meter.seconds["training"] == 0
    )
    assert list(meter.columns()) == [
        f"{phase}_{what}"
        for what in ("seconds", "peak_gib")
        for phase in ("generation", "scoring", "training")
    ]
    meter.clear()
    assert set(meter.seconds.values()) == {0.0} and all(
        math.isnan(one) for one in meter.peak_gib.values()
    )


class Memory:
    """A kernel by script: peaks as they are read, and whether a peak can be begun anew."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, peaks: list[float], resets: bool = True
    ) -> None:
        self.peaks, self.begun = peaks, 0

        def write(path: Path, text: str) -> int:
            assert (str(path), text) == ("/proc/self/clear_refs", "5")
            self.begun += 1
            if not resets:
                raise PermissionError(13, "denied")
            return 1

        monkeypatch.setattr(Path, "write_text", write)
        status = "Name:\tx\nVmPeak:\t 999999 kB\nVmHWM:\t {} kB\nVmRSS:\t 1 kB\n"
        monkeypatch.setattr(
            Path, "read_text", lambda path: status.format(int(self.peaks.pop(0) * 2**20))
        )


def test_the_peak_of_a_phase_is_the_largest_of_its_stretches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory, meter = Memory(monkeypatch, [3.0, 5.0, 2.0]), Meter(torch.device("cpu"))
    for name in ("training", "scoring", "training"):
        with meter.phase(name):
            pass
    assert memory.begun == 3 and math.isnan(meter.peak_gib["generation"])
    assert (meter.peak_gib["training"], meter.peak_gib["scoring"]) == (3.0, 5.0)


def test_a_peak_that_cannot_be_begun_anew_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be that of the whole process, whatever the phase."""
    Memory(monkeypatch, [2.0], resets=False)
    meter = Meter(torch.device("cpu"))
    with meter.phase("training"):
        pass
    assert math.isnan(meter.peak_gib["training"]) and meter.seconds["training"] > 0


MEASURED = """
import json, torch
from decaylab.trainer.machinery.meter import Meter
meter = Meter(torch.device("cpu"))
with meter.phase("scoring"):
    pass
with meter.phase("training"):
    held = torch.ones(2**26)  # 256 MiB
    del held
with meter.phase("generation"):
    pass
print(json.dumps(meter.peak_gib))
"""


def test_the_memory_of_a_phase_is_that_of_what_it_holds() -> None:
    """In a process of its own: one that has freed much before would take the memory from there."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED], check=True, capture_output=True, text=True
    )
    peaks = json.loads(done.stdout)
    if math.isnan(peaks["training"]):
        return  # where the kernel has none to tell
    assert 0.2 < peaks["training"] - peaks["scoring"] < 0.4
    assert peaks["generation"] < peaks["training"] - 0.2  # given back, and not carried on


# --- processes
# ---------------------------------------------------------------------------


def test_a_single_process_takes_everything_and_any_seed() -> None:
    """numpy's own seed ends at 2^32; a run's does not."""
    for seed in (0, 2**32 + 5, 2**63 - 1):
        one = Processes(TrainOptions(seed=seed, device="cpu").resolved())
        assert one.is_main and one.count == 1 and list(range(7))[one.share] == list(range(7))
    assert one.add_up({"a": 2.0}) == {"a": 2.0} and one.gathered(["a", "b"]) == ["a", "b"]
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.ones(2)
    one.add_gradients([weight])
    assert weight.grad.tolist() == [1.0, 1.0]
    options = TrainOptions(device="cpu").resolved()
    assert one.placed(options) is options
    with one.tracking(None, options) as track:
        track({"loss": 1.0}, 1)


def test_a_tracker_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="--track trackio needs a package.*pip install trackio"):
        Processes(TrainOptions(track="trackio").resolved())

"""Recomputes the results of the embedded pair by a second route, and prints the largest distances.

    python scripts/second_route.py runs/experiment

Decay and sweeps: pandas on the graded rollouts. KL: both models in float64, one rollout at a time,
over the first rollouts of the student. It shares no formula with decaylab; it exits with 1 where
the two routes differ by more than rounding.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForCausalLM

ROLLOUTS = 100
PAIR = Path(__file__).resolve().parents[1] / "data" / "abacus"
MOST = {"decay": 1e-12, "half-decay": 1e-9, "sweeps": 1e-12, "KL of a token": 2e-4, "mean KL": 1e-6}


def decay(run: Path) -> dict[str, float]:
    """Distances of accuracies and falls from those recomputed, and of the half-decay length."""
    rows = pd.read_parquet(run / "rollouts.parquet")
    stored = pd.read_parquet(run / "measurements.parquet")
    rows["right"] = rows["grade_last_boxed"].eq("correct").astype(float)
    alone = rows[rows["condition"] == "teacher"].groupby("problem_id")["right"].mean()
    own = rows[rows["condition"] == "student"].set_index("rollout_id")["right"]
    distances, shares = [], {0: 1.0}
    after = rows[rows["condition"] == "student-prefix"]
    for length, part in after.groupby("prefix_tokens"):
        reference = part["problem_id"].map(alone)
        student = part["prefix_rollout_id"].map(own)
        fall = part["right"].mean() - reference.mean()
        here = stored[(stored["prefix_tokens"] == length) & (stored["view"] == "open")]
        here = here[here["condition"] == "student-prefix"].set_index("what")["value"]
        shares[length] = (part["right"] - student).mean() / (reference - student).mean()
        for what, value in (
            ("accuracy", part["right"].mean()),
            ("accuracy_difference", fall),
            ("student_accuracy", student.mean()),
            ("retained_advantage", shares[length]),
        ):
            distances.append(abs(here[what] - value))
    half = stored[stored["what"] == "half_decay_length"]["value"].iloc[0]
    return {"decay": max(distances), "half-decay": abs(half - _crossing(shares))}


def _crossing(shares: dict[int, float]) -> float:
    """Where the straight lines between the retained shares first fall to a half."""
    lengths = sorted(shares)
    for low, high in zip(lengths, lengths[1:]):
        if shares[low] > 0.5 >= shares[high]:
            return low + (high - low) * (shares[low] - 0.5) / (shares[low] - shares[high])
    return float("nan")


def sweeps(run: Path, trained: Path) -> dict[str, float]:
    """Distances of each arm's accuracy and its difference from full rollouts, over the seeds."""
    stored = pd.read_parquet(run / "measurements.parquet")
    rows = stored[(stored["answer_rule"] == "last_boxed") & (stored["view"] == "last")]
    seeds = rows["training_seed"].dropna().astype(int).unique()
    over_seeds = rows[rows["training_seed"].isna()]
    means = {
        arm: np.mean([_accuracy(trained / f"{arm}-seed-{seed}") for seed in seeds])
        for arm in over_seeds["checkpoint"].unique()
    }
    distances = []
    for arm, mean in means.items():
        expected = {"avg_at_1": mean, "avg_at_1_minus_full": mean - means["full"]}
        for what, value in expected.items():
            same = (over_seeds["what"] == what) & (over_seeds["checkpoint"] == arm)
            distances += [abs(each - value) for each in over_seeds[same]["value"]]
    print(f"{run.name}: {len(distances)} numbers of {len(means)} arms, {len(seeds)} seeds")
    return {"sweeps": max(distances)}


def _accuracy(run: Path) -> float:
    """Share of correct answers of a training run's last checkpoint."""
    outcomes = pd.read_parquet(run / "evaluate" / "outcomes.parquet")
    last = outcomes[outcomes["checkpoint"].str.startswith(run.name)]
    return float(last["grade_last_boxed"].eq("correct").mean())


@torch.no_grad()
def kl(run: Path) -> dict[str, float]:
    """Distances of the reverse KL, in nats, from that of two float64 models: of the worst token,
    and of the mean over the tokens."""
    (cache,) = json.loads((run / "run.json").read_text())["tokens"]
    tokens = pd.read_parquet(Path(cache) / "tokens.parquet")
    prompts = pd.read_parquet(run / "prompts.parquet")
    models = {
        role: AutoModelForCausalLM.from_pretrained(PAIR / role, dtype=torch.float64)
        for role in ("student", "teacher")
    }
    distances = []
    for rollout, part in list(tokens.groupby("rollout_id", sort=False))[:ROLLOUTS]:
        part = part.sort_values("position")
        response = part["token_id"].tolist()
        laws = {}
        for role, model in models.items():
            prompt = _prompt(prompts, role, rollout)
            ids = torch.tensor([prompt + response])
            logits = model(ids).logits[0, len(prompt) - 1 : -1]
            laws[role] = torch.log_softmax(logits, -1)
        student, teacher = laws["student"], laws["teacher"]
        naive = (student.exp() * (student - teacher)).sum(-1).numpy()
        distances.append(naive - part["reverse_kl"].to_numpy())
    every = np.concatenate(distances)
    print(f"{run.name}: {len(every)} tokens")
    return {"KL of a token": float(np.abs(every).max()), "mean KL": abs(float(every.mean()))}


def _prompt(prompts: pd.DataFrame, role: str, rollout: str) -> list[int]:
    problem = next(name for name in prompts["problem_id"] if f"/{name}/" in rollout)
    row = prompts[(prompts["problem_id"] == problem) & (prompts["role"] == role)]
    return [int(each) for each in row["ids"].iloc[0]]


def main() -> None:
    runs = Path(sys.argv[1])
    found = decay(runs / "prefix-decay") | kl(runs / "position-kl")
    for name in ("rollout-length", "selector", "best-and-advised"):
        if (runs / name / "measurements.parquet").exists():
            found |= {f"{name}: {key}": v for key, v in sweeps(runs / name, runs / "runs").items()}
    for name, distance in found.items():
        print(f"{name}: at most {distance:.2g}")
    sys.exit(any(distance > MOST[name.split(": ")[-1]] for name, distance in found.items()))


if __name__ == "__main__":
    main()

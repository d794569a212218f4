"""How far the quantities of two tokenizers are from the exact KL of the laws of text, on Markov
sources whose laws of tokens are known.

    python benchmarks/byte_laws.py                    # every part
    python benchmarks/byte_laws.py --part distances   # byte KLs against the exact one, 8 minutes
    python benchmarks/byte_laws.py --part coverage --draws 2000   # mean response log-ratio
    python benchmarks/byte_laws.py --toy              # does it run at all?

Texts of up to 5 letters (a, b, c), 5 random laws a case; the teacher's law of text is the
student's with normal noise on every log-probability (distance). Expectations are sums over all that
the student can write. loose: probability, at each token, of a token drawn by its text alone, so
that a policy writes the same text in several ways; 0 is a policy that writes its own tokenization.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from timing import RESULTS, parser
from torch import Tensor

from decaylab.maths.byte_laws import STOP, span_sums, without_stop
from decaylab.maths.byte_reference import ByteReference
from decaylab.maths.divergences import reverse_kl
from decaylab.maths.token_means import interval, means

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
from byte_markov import LETTERS, Ids, Loose, nearby, random_texts, writer

Floats = NDArray[np.float64]
Row = dict[str, Any]
PARTS = ("distances", "coverage")
PAIRS = (("letters", "pairs"), ("pairs", "letters"), ("pairs", "merges"), ("jumps", "merges"))
DISTANCES, LOOSE = (0.0, 0.3, 1.0), (0.0, 0.02, 0.2)
FORMS = {
    "given_tokens": "shared",
    "given_bytes": "shared",
    "one_pass": "every byte",
    "without_ends": "every byte",
}
"""Byte KLs, and the bytes over which each is summed."""
LAWS, LONGEST = 5, 5
CAP = 10.0
"""Nats; a byte whose KL is above it counts as this much, an infinite one too."""


class Comparison:
    """Everything that a student can write, with both tokenizations. distance: of the laws of text.

    responses: tokens and probability of each response.
    """

    def __init__(
        self, pair: Sequence[str], distance: float, loose: float, seed: int, longest: int
    ) -> None:
        texts = random_texts(seed, longest)
        self.student = Loose(writer(texts, pair[0]), loose)
        self.teacher = Loose(writer(nearby(texts, distance, seed + 1000), pair[1]), loose)
        self.responses = list(self.student.responses())
        self.exact = self._exact()

    def _exact(self) -> dict[bytes, float]:
        """KL of the exact laws of the next byte, by the bytes so far."""
        found: dict[bytes, float] = {}
        laws = [
            ByteReference(each.next_token, each.pieces, each.state)
            for each in (self.student, self.teacher)
        ]
        for text in self.student.texts.all:
            if len(text) == self.student.texts.longest:
                terms = reverse_kl(*(torch.from_numpy(law.next_bytes(text)).log() for law in laws))
                found |= {text[:size]: float(term) for size, term in enumerate(terms)}
        return found

    def text_kl(self) -> float:
        """KL of the two laws of text, in nats: the exact KL of all bytes."""
        return math.fsum(
            mass * self.exact[text[:size]]
            for text, mass in self._texts().items()
            for size in range(len(text) + 1)
        )

    def _texts(self) -> dict[bytes, float]:
        masses: dict[bytes, float] = defaultdict(float)
        for ids, mass in self.responses:
            masses[self.student.text(ids)] += mass
        return masses

    def log_ratios(self) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Probability, log s - log t, and whether the tokens are the student's own, by response."""
        rows = []
        for ids, mass in self.responses:
            text = self.student.text(ids)
            ratio = self.student.logprob(ids) - self.teacher.logprob(self.teacher.ids(text))
            rows.append((mass, ratio, ids == self.student.ids(text)))
        mass, ratio, own = zip(*rows, strict=True)
        return np.array(mass), np.array(ratio), np.array(own)

    def span_means(self) -> Floats:
        """Mean span log-ratio by place of the span in the response, in nats."""
        sums, masses = np.zeros(len(LETTERS) * 9), np.zeros(len(LETTERS) * 9)
        for ids, mass in self.responses:
            theirs = self.teacher.ids(self.student.text(ids))
            stops = self.student.stops(ids), self.teacher.stops(theirs)
            shared = sorted(set(stops[0]) & set(stops[1]))
            sides = [
                span_sums(policy.token_logprobs(own), [stop.index(at) + 1 for at in shared])
                for policy, own, stop in zip(
                    (self.student, self.teacher), (ids, theirs), stops, strict=True
                )
            ]
            sums[: len(shared)] += mass * (sides[0] - sides[1])
            masses[: len(shared)] += mass
        return np.asarray(sums[masses > 0] / masses[masses > 0])

    def bytes(self) -> pd.DataFrame:
        """A row a place: its probability, whether both have a boundary there, and the KLs."""
        weights: dict[tuple[bytes, Ids, bytes, Ids, bytes], float] = defaultdict(float)
        for ids, mass in self.responses:
            text = self.student.text(ids)
            ours, theirs = self.student.places(ids), self.teacher.places(self.teacher.ids(text))
            for size, places in enumerate(zip(ours, theirs, strict=True)):
                weights[(text[:size], *places[0], *places[1])] += mass
        written, own, own_since, other, other_since = zip(*weights, strict=True)
        student, teacher = self.student.laws(own, own_since), self.teacher.laws(other, other_since)
        columns = {
            "weight": list(weights.values()),
            "shared": [not ours and not theirs for ours, theirs in zip(own_since, other_since)],
            "exact": [self.exact[text] for text in written],
            "given_tokens": reverse_kl(student, teacher).numpy(),
            "given_bytes": reverse_kl(
                self.student.given_bytes(own), self.teacher.given_bytes(other)
            ).numpy(),
            "one_pass": reverse_kl(student, teacher).numpy(),
            "without_ends": reverse_kl(without_stop(student), without_stop(teacher)).numpy(),
            "ends": _ends(student, teacher),
        }
        return pd.DataFrame(columns)


def _ends(student: Tensor, teacher: Tensor) -> Floats:
    """The larger of both masses of "the token ends here"."""
    found: Floats = torch.maximum(student[:, STOP], teacher[:, STOP]).exp().numpy()
    return found


def distances(seeds: int, longest: int, pairs: Sequence[tuple[str, str]] = PAIRS) -> Iterator[Row]:
    """A row for each pair of vocabularies, distance and looseness: sums over its random laws."""
    for pair in pairs:
        for loose in LOOSE:
            for distance in DISTANCES:
                cases = [Comparison(pair, distance, loose, seed, longest) for seed in range(seeds)]
                yield {
                    "student": pair[0],
                    "teacher": pair[1],
                    "loose": loose,
                    "distance": distance,
                    **_responses(cases),
                    **_bytes(cases),
                }


def _responses(cases: Sequence[Comparison]) -> Row:
    truth = math.fsum(case.text_kl() for case in cases)
    rows = [case.log_ratios() for case in cases]
    log_ratio = sum(float(mass @ ratio) for mass, ratio, _ in rows)
    k3 = sum(float(mass @ (np.expm1(-ratio) + ratio)) for mass, ratio, _ in rows)
    own = sum(float(mass @ (own * np.exp(-ratio) - 1 + ratio)) for mass, ratio, own in rows)
    spans = [case.span_means() for case in cases]
    return {
        "text_kl": truth / len(cases),
        "own_tokens": float(np.mean([mass @ own for mass, _, own in rows])),
        "response_log_ratio": log_ratio / len(cases),
        "k3": k3 / len(cases),
        "k3_own_tokens": own / len(cases),
        "span_mean_highest": float(np.mean([each.max() for each in spans])),
        "span_mean_lowest": float(np.mean([each.min() for each in spans])),
    }


def _bytes(cases: Sequence[Comparison]) -> Row:
    frames = [case.bytes() for case in cases]
    at_shared = [frame[frame["shared"]] for frame in frames]
    whole, shared = pd.concat(frames), pd.concat(at_shared)
    row = {
        "shared_share": float(shared["weight"].sum() / whole["weight"].sum()),
        "exact_at_shared": _sum(shared, "exact") / len(cases),
        "mass_of_ends": float((whole["weight"] * whole["ends"]).sum() / whole["weight"].sum()),
    }
    for name, where in FORMS.items():
        places = shared if where == "shared" else whole
        row |= {name: _sum(places, name) / len(cases), f"{name}_infinite": _infinite(places, name)}
        if where == "shared" and row["exact_at_shared"] > 1e-9:
            ratios = [_sum(frame, name) / _sum(frame, "exact") for frame in at_shared]
            row |= {f"{name}_lowest": min(ratios), f"{name}_highest": max(ratios)}
    return row


def _infinite(frame: pd.DataFrame, name: str) -> float:
    """Share of bytes whose KL is infinite."""
    return float(frame["weight"][np.isinf(frame[name])].sum() / frame["weight"].sum())


def _sum(frame: pd.DataFrame, name: str) -> float:
    """Expected sum over the bytes of a response, each at most the cap."""
    return float((frame["weight"] * frame[name].clip(upper=CAP)).sum())


POPULATION, ROLLOUTS = 60, 2


def coverage(draws: int, longest: int, population: int = POPULATION) -> Iterator[Row]:
    """Intervals of the mean response log-ratio, with problems drawn from a known population whose
    laws and distances differ."""
    for loose in LOOSE[:2]:
        problems = []
        for seed in range(population):
            distance = float(np.random.default_rng(seed).uniform(0.1, 1.0))
            problems.append(
                Comparison(("letters", "merges"), distance, loose, seed, longest).log_ratios()
            )
        truth = float(np.mean([mass @ ratio for mass, ratio, _ in problems]))
        for count in (30, 200):
            yield {
                "loose": loose,
                "problems": count,
                "truth": truth,
                **_covered(problems, truth, count, draws),
            }


def _covered(problems: Sequence[Any], truth: float, count: int, draws: int) -> Row:
    rng = np.random.default_rng(count)
    held, values = [], []
    tables = [(np.cumsum(mass) / mass.sum(), ratio) for mass, ratio, _ in problems]
    for _ in range(draws):
        sums = np.zeros((count, 1))
        for row, problem in enumerate(rng.integers(0, len(tables), count)):
            below, ratio = tables[problem]
            sums[row] = ratio[np.searchsorted(below, rng.random(ROLLOUTS))].sum()
        estimate = means(sums, np.full((count, 1), float(ROLLOUTS)), signed=True)
        low, high = interval(estimate)
        held.append(bool(low[0] <= truth <= high[0]))
        values.append(float(estimate.value[0]))
    rate = float(np.mean(held))
    inside = min(max(rate, 1 / draws), 1 - 1 / draws)
    return {
        "mean": float(np.mean(values)),
        "mean_error": float(np.std(values) / math.sqrt(draws)),
        "coverage": rate,
        "error": math.sqrt(inside * (1 - inside) / draws),
    }


def main(words: Sequence[str] | None = None) -> None:
    made = parser(__doc__, "one law a case, texts of up to 2 letters")
    made.add_argument("--part", choices=PARTS, action="append", help="default: every part")
    made.add_argument("--draws", type=int, default=2000, help="of coverage (default: 2000)")
    chosen = made.parse_args(words)
    for part in chosen.part or PARTS:
        started = time.perf_counter()
        if part == "distances":
            rows = list(distances(1, 2, PAIRS[:1]) if chosen.toy else distances(LAWS, LONGEST))
        else:
            rows = list(coverage(3, 2, 3) if chosen.toy else coverage(chosen.draws, LONGEST))
        seconds = round(time.perf_counter() - started, 1)
        print(f"\n{part}: {seconds} s")
        print(pd.DataFrame(rows).to_string(index=False, na_rep="", float_format="%.3f"))
        if not chosen.toy:
            path = RESULTS / f"byte-laws-{part}.json"
            path.write_text(json.dumps({"seconds": seconds, "rows": rows}, indent=1) + "\n")
            print(path)


if __name__ == "__main__":
    main()

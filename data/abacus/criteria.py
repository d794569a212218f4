"""The criteria of the embedded pair, measured on its own responses to test problems.

    python -m decaylab.data.abacus.criteria data/abacus                  # as in the model card
    python -m decaylab.data.abacus.criteria build/pair --problems 200    # to compare recipes

They are all that a recipe was chosen by. One of them concerns prefixes: whether the teacher
repairs a step that was broken in a response of its own writer, never in a student's.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from decaylab.data.abacus.recipe import RECIPES
from decaylab.maths.statistics import proportion
from decaylab.policies import loading
from decaylab.policies.policy import Policy
from decaylab.printing import in_unit, with_interval
from decaylab.problems import abacus
from decaylab.problems.abacus_checking import StepCheck, check_steps, style
from decaylab.problems.abacus_writing import LEADS, OPERATIONS, broken
from decaylab.problems.generated import TEST_SEED
from decaylab.problems.grading import Grader
from decaylab.problems.problem import Problem
from decaylab.rollouts.sampling import Request, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine

PROBLEMS, SAMPLES, BUDGET = 500, 4, 320
LEAST_FORM = 0.02
RANGES = {
    "avg@4": {"teacher": (0.85, 0.97), "student": (0.30, 0.60)},
    "verbose responses": {"teacher": (0.55, 0.85), "student": (0.15, 0.45)},
    "median tokens": {"teacher": (160, np.inf), "student": (100, np.inf)},
    "responses with a repaired slip": {"teacher": (0.08, 0.20), "student": (0.01, 0.08)},
    "responses with several boxes": {"teacher": (0.02, 0.10), "student": (0.05, 0.20)},
    "EOS rate": {"teacher": (0.99, 1.0), "student": (0.97, 1.0)},
    "accuracy, verbose minus concise": {"teacher": (0.0, 0.08), "student": (0.03, 0.15)},
    "broken last step repaired": {"teacher": (0.35, 1.0)},
}
"""The criteria set down before the second edition was trained: the point estimate, that of the
difference without its sign, lies between."""
FORMS = {
    "spacing": ("steps", ("spaced", "tight")),
    "delimiters": ("steps", ("LaTeX", "plain")),
    "product": ("products", ("*", "\\cdot", "\\times", "x")),
    "concise": ("concise steps", ("equation first", "operation named", "so")),
    "verbose": ("verbose steps", LEADS),
}
"""The forms of each kind of notation, and what they are shares of: the steps that can have one."""


@dataclass(frozen=True)
class Sampled:
    """Responses of one policy to the same problems, in order, ``samples`` of each.

    codes: index of the problem of each response.
    """

    problems: list[abacus.AbacusProblem]
    codes: np.ndarray
    texts: list[str]
    checks: list[StepCheck]
    correct: np.ndarray
    tokens: np.ndarray
    natural: np.ndarray

    @property
    def verbose(self) -> np.ndarray:
        return np.array([style(text) == "verbose" for text in self.texts])


def measure(
    folder: Path, role: str, problems: int = PROBLEMS, samples: int = SAMPLES
) -> pd.DataFrame:
    """Every criterion of one policy, and the shares of its forms of notation.

    Returns columns role, what, value, low, high (95 % over problems), of (what a share is of) and
    count (how many of those there are); what names a criterion of RANGES, "form: ..." a form of
    notation, and "steps: ..." how the verdicts on answers and on steps go together.
    """
    policy = loading.load(str(folder / role))
    asked = abacus.generate(problems, seed=TEST_SEED, part="test")
    sampled = _sampled(policy, asked, samples)
    rows = [*_shares(sampled), *_verdicts(sampled), _alarms(sampled), *_forms(sampled)]
    if role == "teacher":
        rows.append(_repair(policy, asked))
    frame = pd.DataFrame(rows, columns=["what", "value", "low", "high", "of", "count"])
    frame.insert(0, "role", role)
    return frame


def _sampled(policy: Policy, asked: list[abacus.AbacusProblem], samples: int) -> Sampled:
    prompts = [_prompt(policy, problem) for problem in asked]
    requests = [
        Request(prompt, (), BUDGET, "criteria", str(code), sample)
        for code, prompt in enumerate(prompts)
        for sample in range(samples)
    ]
    responses = TransformersEngine(policy).sample(requests, SamplingSettings())
    codes = np.repeat(np.arange(len(asked)), samples)
    texts = [policy.decode(list(response.ids)) for response in responses]
    with Grader() as grader:
        verdicts = grader.grade(texts, [str(asked[code].answer) for code in codes]).verdicts
    return Sampled(
        asked,
        codes,
        texts,
        [check_steps(text, asked[code].steps) for text, code in zip(texts, codes, strict=True)],
        np.array([verdict.is_correct for verdict in verdicts["last_boxed"]], dtype=bool),
        np.array([len(response.ids) for response in responses]),
        np.array([response.stop_reason == "eos" for response in responses]),
    )


def _prompt(policy: Policy, problem: abacus.AbacusProblem) -> tuple[int, ...]:
    return tuple(policy.prompt_ids(Problem("", problem.question, None), instruction=""))


Row = tuple[str, float, float, float, str, int]


def _share(
    what: str, values: np.ndarray, codes: np.ndarray, of: str, among: np.ndarray | None = None
) -> Row:
    """A share, of those that ``among`` marks, with its interval over problems."""
    among = np.ones(len(values), dtype=bool) if among is None else among
    estimate = proportion(values[among].astype(float), codes[among])
    return what, estimate.value, estimate.low, estimate.high, of, int(among.sum())


def _resampled(
    what: str, statistic: Callable[[np.ndarray], float], codes: np.ndarray, of: str
) -> Row:
    """A statistic of responses, given as places, with a percentile interval over resampled
    problems."""
    rng = np.random.default_rng(0)
    places = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    drawn = [
        statistic(
            np.concatenate([places[code] for code in rng.integers(len(places), size=len(places))])
        )
        for _ in range(1000)
    ]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return what, statistic(np.arange(len(codes))), low, high, of, len(codes)


def _shares(sampled: Sampled) -> Iterator[Row]:
    codes, verbose, correct = sampled.codes, sampled.verbose, sampled.correct
    repaired = np.array([check.count("repaired") > 0 for check in sampled.checks])
    boxes = np.array([text.count("\\boxed{") for text in sampled.texts])

    def difference(places: np.ndarray) -> float:
        mine, right = verbose[places], correct[places]
        return float(right[mine].mean()) - float(right[~mine].mean())

    yield _share("avg@4", correct, codes, "responses")
    yield _share("verbose responses", verbose, codes, "responses")
    yield _resampled(
        "median tokens", lambda at: float(np.median(sampled.tokens[at])), codes, "tokens"
    )
    yield _share("responses with a repaired slip", repaired, codes, "responses")
    yield _share("responses with several boxes", boxes > 1, codes, "responses")
    yield _share("EOS rate", sampled.natural, codes, "responses")
    yield _resampled("accuracy, verbose minus concise", difference, codes, "points")
    yield _share("accuracy, concise", correct, codes, "concise responses", ~verbose)
    yield _share("accuracy, verbose", correct, codes, "verbose responses", verbose)


def _verdicts(sampled: Sampled) -> Iterator[Row]:
    """How often the verdict on the answer and that on the steps agree, and how not."""
    correct, codes = sampled.correct, sampled.codes
    unread = np.array([check.count("unread") > 0 for check in sampled.checks])
    right = np.array(
        [
            check.count("right") + check.count("repaired") == len(sampled.problems[code].steps)
            and not check.count("wrong")
            for check, code in zip(sampled.checks, codes, strict=True)
        ]
    )
    yield _share("steps: one cannot be read", unread, codes, "responses")
    for what, values in (
        ("steps: all right, answer correct", right & correct),
        ("steps: all right, answer wrong", right & ~correct),
        ("steps: not all right, answer correct", ~right & correct),
    ):
        yield _share(what, values, codes, "responses that can be read", ~unread)


def _alarms(sampled: Sampled) -> Row:
    """How often a step that a "wait" doubts was right."""
    doubts = [
        (code, check_steps(text[: found.start()], sampled.problems[code].steps).written[-1:])
        for text, code in zip(sampled.texts, sampled.codes, strict=True)
        for found in re.finditer(r"\bwait\b", text, re.IGNORECASE)
    ]
    values = [bool(step) and step[0].verdict in ("right", "repaired") for _, step in doubts]
    codes = np.array([code for code, _ in doubts])
    return _share('"wait" behind a right step', np.array(values), codes, 'every "wait"')


def _forms(sampled: Sampled) -> Iterator[Row]:
    """The shares of the forms of notation, of the steps that can have them."""
    steps = pd.DataFrame(
        [
            {"code": code, **_notation(text, step.start, step.end)}
            for text, check, code in zip(sampled.texts, sampled.checks, sampled.codes, strict=True)
            for step in check.written
            if step.verdict != "unread"
        ]
    )
    for kind, (denominator, forms) in FORMS.items():
        known = steps.dropna(subset=[kind])
        for form in forms:
            values, codes = (known[kind] == form).to_numpy(), known["code"].to_numpy()
            yield _share(f"form: {form}", values, codes, denominator)


def _notation(text: str, start: int, end: int) -> dict[str, str]:
    """The forms that one written step has: spacing, delimiters, sign of a product, opening."""
    equation = text[start:end]
    line = text[text.rfind("\n", 0, start) + 1 : start]
    forms = {
        "spacing": "spaced" if " = " in equation else "tight",
        "delimiters": "LaTeX" if line.endswith("\\(") else "plain",
    }
    if sign := re.search(r"x|\*|\\times|\\cdot", equation):
        forms["product"] = sign[0]
    named = tuple(f"{operation} " for operation in OPERATIONS.values())
    if lead := next((lead for lead in LEADS if line.startswith(lead)), None):
        forms["verbose"] = lead
    elif line in ("", "\\("):
        forms["concise"] = "equation first"
    elif line.startswith("so "):
        forms["concise"] = "so"
    elif line.startswith(named):
        forms["concise"] = "operation named"
    return forms


def _repair(policy: Policy, asked: list[abacus.AbacusProblem]) -> Row:
    """How often the teacher repairs the broken last step of a prefix of its own writer."""
    rng = random.Random(0)
    prefixes = [broken(problem, RECIPES["teacher"].habits, rng) for problem in asked]
    requests = [
        Request(
            _prompt(policy, problem), tuple(policy.encode(prefix)), BUDGET, "repair", str(code), 0
        )
        for code, (problem, prefix) in enumerate(zip(asked, prefixes, strict=True))
    ]
    responses = TransformersEngine(policy).sample(requests, SamplingSettings())
    values = [
        _is_repaired(problem, prefix, prefix + policy.decode(list(response.ids)))
        for problem, prefix, response in zip(asked, prefixes, responses, strict=True)
    ]
    codes = np.arange(len(asked))
    of = "broken prefixes"
    return _share("broken last step repaired", np.array(values), codes, of)


def _is_repaired(problem: abacus.AbacusProblem, prefix: str, text: str) -> bool:
    last = len(check_steps(prefix, problem.steps).written) - 1
    return check_steps(text, problem.steps).written[last].verdict == "repaired"


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that a criterion is set for, with columns least, most and met.

    A form of notation must have LEAST_FORM of the steps that can have it.
    """
    rows = []
    for row in frame.to_dict("records"):
        least, most = RANGES.get(row["what"], {}).get(row["role"], (-np.inf, np.inf))
        if row["what"].startswith("form: "):
            least = LEAST_FORM
        if np.isfinite([least, most]).any():
            met = bool(least <= abs(row["value"]) <= most)
            rows.append(row | {"least": least, "most": most, "met": met})
    return pd.DataFrame(rows)


def card(frame: pd.DataFrame) -> str:
    """The table of the model card, in Markdown: what was measured of both, and what was wanted."""
    lines = ["| | teacher | wanted | student | wanted |", "|---|---|---|---|---|"]
    measured = frame.set_index(["role", "what"])
    for what in frame["what"].drop_duplicates():
        cells = []
        for role in RECIPES:
            row = measured.loc[(role, what)] if (role, what) in measured.index else None
            cells += ["", ""] if row is None else [_shown(what, row), _wanted(what, role)]
        of = measured.xs(what, level="what").iloc[0]["of"]
        unit = {"points": ", points", "tokens": ""}.get(of, f", % of {of}")
        lines.append(f"| {what}{unit} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _unit(what: str) -> str:
    return "tokens" if "tokens" in what else "fraction"


def _shown(what: str, row: pd.Series) -> str:
    signed = "minus" in what
    return with_interval(row["value"], row["low"], row["high"], _unit(what), signed=signed)


def _wanted(what: str, role: str) -> str:
    if what.startswith("form: "):
        return f">= {in_unit(LEAST_FORM, 'fraction')}"
    if role not in RANGES.get(what, {}):
        return ""
    least, most = (in_unit(end, _unit(what)) for end in RANGES[what][role])
    if RANGES[what][role][1] in (1, np.inf):
        return f">= {least}"
    return f"{least} to {most}{', either way' if 'minus' in what else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="holds the folders teacher and student")
    parser.add_argument("--problems", type=int, default=PROBLEMS, help="number of test problems")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="responses to each problem")
    parser.add_argument("--write", action="store_true", help="also FOLDER/criteria.csv")
    arguments = parser.parse_args()
    roles = [role for role in RECIPES if (arguments.folder / role / "config.json").exists()]
    measured = [measure(arguments.folder, r, arguments.problems, arguments.samples) for r in roles]
    frame = pd.concat(measured, ignore_index=True)
    marks = judged(frame).set_index(["role", "what"])["met"]
    for row in frame.to_dict("records"):
        met = marks.get((row["role"], row["what"]))
        mark = {True: "", False: "  NOT MET"}.get(met, "")
        shown = _shown(row["what"], pd.Series(row))
        print(f"{row['role']:8} {row['what']:36} {shown:24} of {row['count']} {row['of']}{mark}")
    if arguments.write:
        frame.round(6).to_csv(arguments.folder / "criteria.csv", index=False)


if __name__ == "__main__":
    main()

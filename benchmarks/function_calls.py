"""Verdicts on function calls against those of the leaderboard's own checker, bfcl-eval.

    pip install --no-deps bfcl-eval                     # in an environment that has decaylab
    python benchmarks/function_calls.py                 # 100 cases of each change, about 5,000
    python benchmarks/function_calls.py --cases 400     # of each change
    python benchmarks/function_calls.py --table tests/calls/ast_checker_cases.json
                                                        # the checker's verdicts for the tests
    python benchmarks/function_calls.py --toy           # on problems of the project's own

Right calls of the leaderboard's problems, which bfcl-eval brings, are changed as a model might
change them (function_calls_parts/perturbing.py), written as a response, and judged. The checker
gets the calls themselves. It is asked twice where names have dots: as for models that are offered
the names with dots, and as for those that are offered them with underscores; one of the two must
accept. Two kinds of cases are explained and counted, and every other difference fails the
benchmark: calls of which only some have underscores, which decaylab accepts; and calls at which the
checker itself ends with an exception, which decaylab judges wrong.
"""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import ModuleType, SimpleNamespace
from typing import Any

from function_calls_parts import own_problems
from function_calls_parts.perturbing import EVERY, Inapplicable, Made, changed, response
from timing import Row, keep, parser, show, surroundings

from decaylab.calls import sets
from decaylab.calls.judging import CallProblem, judge
from decaylab.problems.sets import load_problems

TOY_CASES, TABLE_CASES, TRIES = 4, 8, 200
MIXED, FAILED = "only some names with underscores", "the checker ends with an exception"
CERTAIN = {
    "nothing": "correct",
    "arguments in another order": "correct",
    "names with underscores": "correct",
    "extra argument": "wrong",
    "renamed argument": "wrong",
    "renamed function": "wrong",
    "capitals in the name": "wrong",
    "call twice": "wrong",
    "missing call": "wrong",
}
"""Verdicts on changes of the project's own problems that need no checker."""
STYLES = {"dots": False, "underscores": True}
"""Models of the checker, and whether it writes `_` for `.` in names for them."""


@dataclass(frozen=True)
class Case:
    """A response with its calls; change: what was changed in right calls."""

    problem: CallProblem
    change: str
    calls: Made
    text: str


def cases(problems: Sequence[CallProblem], count: int, seed: int) -> Iterator[Case]:
    """So many cases of each change, of problems drawn at random."""
    rng = Random(seed)
    for change in EVERY:
        made = 0
        for _ in range(TRIES * count):
            problem = rng.choice(problems)
            try:
                calls = changed(rng, change, problem)
            except Inapplicable:
                continue
            yield Case(problem, change, calls, response(rng, calls))
            made += 1
            if made == count:
                break


def checker() -> Any:
    """bfcl-eval's `ast_checker`, without the models that it could run; None if not installed."""
    if importlib.util.find_spec("bfcl_eval") is None:
        return None
    config = ModuleType("bfcl_eval.constants.model_config")
    styles = {name: SimpleNamespace(underscore_to_dot=flag) for name, flag in STYLES.items()}
    config.MODEL_CONFIG_MAPPING = styles  # type: ignore[attr-defined]
    sys.modules[config.__name__] = config
    for name in ("java", "js"):  # which need parsers of these languages
        module = f"bfcl_eval.eval_checker.ast_eval.type_convertor.{name}_type_converter"
        sys.modules[module] = ModuleType(module)
        setattr(sys.modules[module], f"{name}_type_converter", None)
    from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

    return ast_checker


def checked(ast_checker: Any, case: Case) -> str:
    """The checker's verdict: correct, wrong, or `FAILED`."""
    from bfcl_eval.constants.enums import Language

    verdicts = []
    for style in STYLES:
        calls = [{name: copy.deepcopy(arguments)} for name, arguments in case.calls]
        functions, expected = (
            copy.deepcopy(list(part)) for part in (case.problem.functions, case.problem.expected)
        )
        try:
            found = ast_checker(
                functions, calls, expected, Language.PYTHON, case.problem.category, style
            )
            verdicts.append("correct" if found["valid"] else "wrong")
        except (TypeError, KeyError, AttributeError):
            verdicts.append(FAILED)
    return next((one for one in ("correct", FAILED) if one in verdicts), "wrong")


def explained(case: Case, ours: str, peer: str) -> str:
    """The reason for a difference that is one of two kinds; empty for others."""
    if peer == FAILED and ours == "wrong":
        return FAILED
    dotted = {name for expected in case.problem.expected for name in expected if "." in name}
    called = {name for name, _ in case.calls}
    underscored = {name.replace(".", "_") for name in dotted}
    return MIXED if ours == "correct" and called & dotted and called & underscored else ""


def compare(made: Sequence[Case], ast_checker: Any) -> Row:
    """Verdicts of the checker by change; how many differ for a known reason; the others that
    differ."""
    by_change: dict[str, Counter[str]] = {change: Counter() for change in EVERY}
    reasons: Counter[str] = Counter()
    unexplained: list[Row] = []
    for case in made:
        ours = judge("full", case.text, case.problem.text())
        peer = checked(ast_checker, case)
        by_change[case.change][peer] += 1
        if ours.verdict == peer or (ours.verdict == "no_answer" and peer == "wrong"):
            continue
        reason = explained(case, ours.verdict, peer)
        reasons[reason or "none"] += 1
        if not reason:
            unexplained.append({"change": case.change, "text": case.text, "ours": str(ours)})
    result: Row = {"cases": len(made), "explained": dict(reasons), "unexplained": unexplained}
    return result | {"verdicts_of_the_checker": {name: dict(by_change[name]) for name in EVERY}}


def certain(made: Sequence[Case]) -> Row:
    """Changes of the project's own problems whose verdict needs no checker; those judged
    otherwise."""
    known = [case for case in made if case.change in CERTAIN]
    verdicts = [judge("full", case.text, case.problem.text()).verdict for case in known]
    pairs = zip(known, verdicts, strict=True)
    uncertain = [case.text for case, verdict in pairs if verdict != CERTAIN[case.change]]
    return {"certain": len(known), "uncertain": uncertain}


def published() -> list[CallProblem]:
    """The problems that bfcl-eval brings, of the categories with expected calls."""
    spec = importlib.util.find_spec("bfcl_eval")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "data"
    named = [name for name in sets.CATEGORIES if name != "irrelevance"]
    loaded = [load_problems(f"bfcl:{name}:{folder}").problems for name in named]
    return [CallProblem.of_text(str(one.answer)) for problems in loaded for one in problems]


def table(made: Sequence[Case], ast_checker: Any) -> str:
    """Cases with the checker's verdicts as JSON, a case a line, and each problem once."""
    problems = list(dict.fromkeys(case.problem.text() for case in made))
    rows = []
    for case in made:
        verdict = checked(ast_checker, case)
        if verdict != FAILED:
            rows.append([problems.index(case.problem.text()), case.change, case.text, verdict])
    lines = ",\n".join(json.dumps(row) for row in rows)
    head = json.dumps({"source": version(), "problems": problems}, indent=1)
    return f'{head[:-2]},\n "cases": [\n{lines}\n]}}'


def version() -> str:
    return f"ast_checker of bfcl-eval {importlib.metadata.version('bfcl-eval')}"


def main(words: Sequence[str] | None = None) -> None:
    made = parser(__doc__, f"{TOY_CASES} cases of each change, of the project's own problems")
    made.add_argument("--cases", type=int, default=100, help="of each change (default: 100)")
    made.add_argument("--seed", type=int, default=0, help="of the changes (default: 0)")
    made.add_argument("--table", type=Path, help="writes cases of the project's own problems here")
    asked = made.parse_args(words)
    ast_checker = checker()
    if ast_checker is None and not asked.toy:
        raise SystemExit("bfcl-eval is not installed: pip install --no-deps bfcl-eval")
    own = asked.toy or asked.table is not None
    problems = own_problems.problems() if own else published()
    if asked.table is not None:
        tabled = list(cases(problems, TABLE_CASES, asked.seed))
        asked.table.write_text(table(tabled, ast_checker) + "\n")
        return
    compared = list(cases(problems, TOY_CASES if own else asked.cases, asked.seed))
    result = certain(compared) if own else {"source": version(), "problems": len(problems)}
    if ast_checker is not None:
        result |= compare(compared, ast_checker)
    show("function_calls", result)
    if result.get("unexplained") or result.get("uncertain"):
        raise SystemExit("function_calls.py: verdicts differ")
    if not asked.toy:
        keep("function-calls", result | {"host": surroundings()})


if __name__ == "__main__":
    main()

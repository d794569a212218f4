"""How often intervals hold the truth and verdicts are wrong, by simulation: one part a subject,
1,000 draws a case or more.

    python benchmarks/coverage.py --part along_rollouts     # values along rollouts, 5 minutes
    python benchmarks/coverage.py --part bins               # KL of a position bin, and its change
    python benchmarks/coverage.py --part paired             # paired differences of accuracies
    python benchmarks/coverage.py --part seconds            # seconds a step whose noise lasts
    python benchmarks/coverage.py --part values             # AUROC and correlations of values
    python benchmarks/coverage.py --part verdicts --draws 1000   # wrong verdicts, 13 minutes
    python benchmarks/coverage.py --part paired --draws 4000

Each part is a module of coverage_parts. Rows are printed and kept in results/coverage-PART.json,
every rate with its Monte Carlo standard error. The nominal level is .95 throughout.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Sequence

import pandas as pd
from timing import RESULTS, parser

PARTS = ("along_rollouts", "bins", "paired", "seconds", "values", "verdicts")
TOY_DRAWS = 3


def main(words: Sequence[str] | None = None) -> None:
    made = parser(__doc__, f"{TOY_DRAWS} draws a case")
    made.add_argument("--part", choices=PARTS, action="append", help="default: every part")
    made.add_argument("--draws", type=int, default=2000, help="for each case (default: 2000)")
    chosen = made.parse_args(words)
    draws = TOY_DRAWS if chosen.toy else chosen.draws
    for part in chosen.part or PARTS:
        started = time.perf_counter()
        rows = list(importlib.import_module(f"coverage_parts.{part}").rows(draws))
        seconds = round(time.perf_counter() - started, 1)
        print(f"\n{part}: {draws} draws a case, {seconds} s")
        print(pd.DataFrame(rows).to_string(index=False, na_rep="", float_format="%.3f"))
        if not chosen.toy:  # written whole: the cases of one number of draws
            path = RESULTS / f"coverage-{part}.json"
            result = {"draws": draws, "seconds": seconds, "rows": rows}
            path.write_text(json.dumps(result, indent=1) + "\n")
            print(path)


if __name__ == "__main__":
    main()

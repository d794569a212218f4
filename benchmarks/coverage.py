"""How often intervals hold the truth and verdicts are wrong, by simulation: one part a subject,
1,000 draws a case or more.

    python benchmarks/coverage.py --part bins               # KL of a position bin, and its change
    python benchmarks/coverage.py --part paired             # paired differences of accuracies
    python benchmarks/coverage.py --part seconds            # seconds a step whose noise lasts
    python benchmarks/coverage.py --part verdicts --draws 1000   # wrong verdicts, 13 minutes
    python benchmarks/coverage.py --part paired --draws 4000

Each part is a module of coverage_parts. Rows are printed and kept in results/coverage-PART.json,
every rate with its Monte Carlo standard error. The nominal level is .95 throughout.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from pathlib import Path

import pandas as pd

PARTS = ("bins", "paired", "seconds", "verdicts")
RESULTS = Path(__file__).resolve().parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=PARTS, action="append", help="default: every part")
    parser.add_argument("--draws", type=int, default=2000, help="for each case (default: 2000)")
    chosen = parser.parse_args()
    for part in chosen.part or PARTS:
        started = time.perf_counter()
        rows = list(importlib.import_module(f"coverage_parts.{part}").rows(chosen.draws))
        seconds = round(time.perf_counter() - started, 1)
        print(f"\n{part}: {chosen.draws} draws a case, {seconds} s")
        print(pd.DataFrame(rows).to_string(index=False, na_rep="", float_format="%.3f"))
        path = RESULTS / f"coverage-{part}.json"
        path.write_text(
            json.dumps({"draws": chosen.draws, "seconds": seconds, "rows": rows}, indent=1) + "\n"
        )
        print(path)


if __name__ == "__main__":
    main()

"""How large the pages are, how soon they open and sort, in a headless Chromium: seconds, the best
of three.

    python benchmarks/pages.py          # needs Debian's chromium and playwright
    python benchmarks/pages.py --toy    # small pages: does it run at all?

The token view holds 200 rollouts of 500 tokens whose likeliest tokens are drawn at random from
150,000: as hard to pack as any. The report's table has 4,000 rows of 12 columns. Bounds: 8 MB and
2 seconds for the token view.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from playwright.sync_api import Page, sync_playwright
from timing import keep, parser, seconds, surroundings

from decaylab.pages import report, token_view

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
from viewed_tables import large  # noqa: E402


def best(work: Callable[[], Any], times: int = 3) -> float:
    """Seconds of the fastest of several."""
    return min(seconds(work) for _ in range(times))


def of_token_view(page: Page, path: Path, rollout_count: int, length: int) -> dict[str, Any]:
    rollouts, tokens = large(rollout_count, length)
    started = time.perf_counter()
    text = token_view.page(rollouts, tokens, title="Large", pair="two")
    built = time.perf_counter() - started
    path.write_text(text, encoding="utf-8")

    def opened() -> None:
        page.goto("about:blank")
        page.goto(path.as_uri())
        page.wait_for_selector("#token-view .tv-token[role=option]")

    return {
        "megabytes": len(text.encode()) / 1e6,
        "built_seconds": built,
        "open_seconds": best(opened),
    }


def of_report(page: Page, path: Path, rows: int) -> dict[str, Any]:
    mixed = np.random.default_rng(0).permutation(rows)
    frame = pd.DataFrame(
        {
            "name": [f"row {i}" for i in mixed],
            "value": mixed / 7,
            **{f"c{i}": mixed for i in range(10)},
        }
    )
    table = report.ReportTable("big", "Big", frame)
    content = report.ReportContent(
        title="R",
        student="s",
        teacher="t",
        problems="p",
        sections=[report.Section("big", "Big", tables=[table])],
    )
    path.write_text(report.render(content), encoding="utf-8")
    page.goto(path.as_uri())
    page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
    sort = (
        "() => { document.querySelectorAll('#rows-big thead button')[1].click(); "
        "document.body.offsetHeight; }"
    )
    return {
        "megabytes": path.stat().st_size / 1e6,
        "sort_seconds": best(lambda: page.evaluate(sort)),
    }


def main(words: Sequence[str] | None = None) -> None:
    made = parser(__doc__, "4 rollouts of 20 tokens, a table of 30 rows")
    toy = made.parse_args(words).toy
    rollouts, length, rows = (4, 20, 30) if toy else (200, 500, 4000)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page, root = browser.new_page(), Path(folder)
        view = of_token_view(page, root / "view.html", rollouts, length)
        result = {
            f"token view, {rollouts} x {length} tokens": view,
            f"report, a table of {rows:,} rows": of_report(page, root / "report.html", rows),
            "chromium": browser.version,
        }
        browser.close()
    print(json.dumps(result, indent=1))
    if not toy:
        keep("pages", {**surroundings(), **result})


if __name__ == "__main__":
    main()

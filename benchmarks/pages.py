"""How large the pages are, how soon they open and sort, in a headless Chromium: seconds, the best
of three.

    python benchmarks/pages.py                 # needs Debian's chromium and playwright

The token view holds 200 rollouts of 500 tokens whose likeliest tokens are drawn at random from
150,000: as hard to pack as any. The report's table has 4,000 rows of 12 columns. Bounds: 10 MB and
2 seconds for the token view.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from playwright.sync_api import Page, sync_playwright
from scoring import keep, surroundings

from decaylab.pages import report, token_view

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
from viewed_tables import large  # noqa: E402


def best(work: Callable[[], None], times: int = 3) -> float:
    """Seconds of the fastest of several."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def of_token_view(page: Page, path: Path) -> dict[str, Any]:
    rollouts, tokens = large()
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


def of_report(page: Page, path: Path) -> dict[str, Any]:
    mixed = np.random.default_rng(0).permutation(4000)
    frame = pd.DataFrame(
        {
            "name": [f"row {i}" for i in mixed],
            "value": mixed / 7,
            **{f"c{i}": mixed for i in range(10)},
        }
    )
    table = report.ReportTable("big", "Big", frame)
    content = report.ReportContent(
        title="R", student="s", teacher="t", problems="p", tables=[table]
    )
    path.write_text(report.render(content), encoding="utf-8")
    page.goto(path.as_uri())
    sort = (
        "() => { document.querySelectorAll('#rows-big thead button')[1].click(); "
        "document.body.offsetHeight; }"
    )
    return {
        "megabytes": path.stat().st_size / 1e6,
        "sort_seconds": best(lambda: page.evaluate(sort)),
    }


def main() -> None:
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        found = {
            "token view, 200 x 500 tokens": of_token_view(page, Path(folder) / "view.html"),
            "report, a table of 4,000 rows": of_report(page, Path(folder) / "report.html"),
            "chromium": browser.version,
        }
        browser.close()
    print(json.dumps(found, indent=1))
    keep("pages", {**surroundings(), **found})


if __name__ == "__main__":
    main()

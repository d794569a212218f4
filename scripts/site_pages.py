"""Writes the pages of the documentation site that are generated: `make docs` runs this first.

    python scripts/site_pages.py

The reference of the command line comes from the declared options, the changelog from CHANGELOG.md.
Git ignores both.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cli_reference import pages

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def write(docs: Path) -> None:
    """Writes the generated pages into a folder of Markdown files; replaces those of before."""
    shutil.rmtree(docs / "cli", ignore_errors=True)
    for name, text in pages().items():
        path = docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "CHANGELOG.md", docs / "changelog.md")


if __name__ == "__main__":
    write(DOCS)

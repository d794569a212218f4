"""Builds the documentation site into build/site; a warning is an error.

    python scripts/build_site.py      # `make docs`

First writes the pages that are generated, which git ignores: the reference of the command line from
the declared options, and the changelog from CHANGELOG.md.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from cli_reference import pages

ROOT = Path(__file__).resolve().parents[1]
DOCS, DONE = ROOT / "docs", ROOT / "build" / "site.done"


def write_pages(docs: Path) -> None:
    """Writes the generated pages into a folder of Markdown files, in place of those of before."""
    folder = docs / "reference" / "cli"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "CHANGELOG.md", docs / "changelog.md")


def main() -> int:
    DONE.unlink(missing_ok=True)
    write_pages(DOCS)
    # --clean: the cache does not notice that a docstring changed
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    code = subprocess.run(command, cwd=ROOT).returncode
    if code == 0:
        DONE.touch()
    return code


if __name__ == "__main__":
    sys.exit(main())

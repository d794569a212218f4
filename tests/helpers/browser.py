"""Chromium for the tests of pages. A test module takes the fixtures with ``pytest_plugins =
["browser"]``.

    def test_the_page_opens(page: Page, tmp_path: Path) -> None:
        open_text(page, report.render(content), tmp_path)

`page` ends in an error where its test wrote to the console's errors or warnings, threw, opened a
dialog, or asked for anything that does not lie on this machine.

PYTEST_DONT_REWRITE: its helpers are imported before its fixtures are.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LOCAL = ("file:", "data:", "blob:", "http://127.0.0.1:")  # the last for pages that a test serves
LARGE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all tests."""
    path = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        pytest.skip("needs extra: chromium and playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def faults() -> list[str]:
    """What `page` saw go wrong; a test that provokes faults takes them out of here."""
    return []


@pytest.fixture
def page(chromium: Browser, faults: list[str]) -> Iterator[Page]:
    """A page of its own, watched from its beginning to its end."""
    context = chromium.new_context(viewport=LARGE)
    opened = context.new_page()

    def refuse(dialog: Any) -> None:
        faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def written(message: Any) -> None:
        if message.type in ("error", "warning"):
            faults.append(f"console {message.type}: {message.text}")

    def asked(request: Any) -> None:
        if not request.url.startswith(LOCAL):
            faults.append(f"request: {request.url}")

    opened.on("console", written)
    opened.on("pageerror", lambda error: faults.append(f"page error: {error}"))
    opened.on("request", asked)
    opened.on("dialog", refuse)
    yield opened
    context.close()
    assert not faults, faults


def open_text(page: Page, text: str, folder: Path, fragment: str = "") -> Path:
    """Writes a page to a file and opens it from disk, at what ``fragment`` says (#problem=p1)."""
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    page.goto(path.as_uri() + fragment)
    return path


def axe_faults(page: Page, rules: list[str] | None = None) -> list[str]:
    """Serious and critical faults that axe finds in the page as it stands, one a rule with where it
    is. rules: the ones to check; all by default."""
    from axe_playwright_python.sync_playwright import Axe

    options = {"runOnly": rules} if rules else None
    found = Axe().run(page, options=options).response["violations"]
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    return [f"{one['id']}: {[node['html'][:200] for node in one['nodes'][:5]]}" for one in grave]


def sideways(page: Page) -> int:
    """Pixels by which the page is wider than the window."""
    return int(
        page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    )

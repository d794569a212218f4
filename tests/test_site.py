"""The documentation site, served on this machine and opened in Chromium.

`make docs` builds it; the tests use that build, or build it anew where a source is newer.
"""

from __future__ import annotations

import functools
import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from browser import PHONE, axe_faults, sideways
from filelock import FileLock

import decaylab

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["browser"]

ROOT = Path(__file__).resolve().parents[1]
DOCS, BUILT, DONE = ROOT / "docs", ROOT / "build" / "site", ROOT / "build" / "site.done"
SOURCES = ("docs/**/*", "mkdocs.yml", "CHANGELOG.md", "scripts/*.py", "decaylab/**/*.py")
GENERATED = ("changelog.md", "reference/cli/")
# Long pages of the same make: opening one of each shows what the others do.
ALIKE = ("reference/cli/", "reference/measuring", "reference/training", "reference/planning")
OF_THEM = ("reference/cli/rollouts.html", "reference/planning.html")
OUT_OF_GIT = tuple(f"docs/{name}" for name in GENERATED)

# What is wrong with an open page, by kind.
FAULTS = r"""() => {
    const article = document.querySelector("article");
    const wrong = ".katex-error, [mathcolor='#cc0000']"; // KaTeX: no formula; an unknown command
    const all = selector => [...article.querySelectorAll(selector)];
    const scrolls = box => getComputedStyle(box).overflowX !== "visible";
    const inside = part => {
        for (let box = part.parentElement; box !== article; box = box.parentElement)
            if (scrolls(box)) return true;
        return false;
    };
    const edge = document.body.clientWidth + 1; // without the scroll bar
    const beyond = all("*").filter(part => part.getBoundingClientRect().right > edge);
    const prose = article.cloneNode(true);
    prose.querySelectorAll("code, pre, .katex").forEach(part => part.remove());
    return {
        "not typeset": all(".arithmatex")
            .filter(box => !box.querySelector(".katex") || box.querySelector(wrong))
            .map(box => box.textContent),
        "raw formula": prose.textContent.match(/[$]|\\[(\[]/g) ?? [],
        "figure without a description or a file": all("img")
            .filter(image => !image.alt || !image.naturalWidth).map(image => image.src),
        "beyond the edge": beyond.filter(part => part.offsetParent && !inside(part))
            .map(part => part.outerHTML.slice(0, 100)),
    };
}"""


def written_pages() -> list[str]:
    return [
        name
        for path in sorted(DOCS.rglob("*.md"))
        if not (name := path.relative_to(DOCS).as_posix()).startswith(GENERATED)
    ]


def is_fresh() -> bool:
    """Whether the last build went well, and no source is newer."""
    sources = [path for pattern in SOURCES for path in ROOT.glob(pattern)]
    written = [
        path for path in sources if not path.relative_to(ROOT).as_posix().startswith(OUT_OF_GIT)
    ]
    return DONE.exists() and all(
        path.stat().st_mtime <= DONE.stat().st_mtime for path in written if path.is_file()
    )


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """Address of the built site."""
    with FileLock(ROOT / "build" / "site.lock"):
        if not is_fresh():
            subprocess.run([sys.executable, ROOT / "scripts" / "build_site.py"], check=True)
    handler = functools.partial(Quiet, directory=str(BUILT))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def opened(page: Page, address: str) -> None:
    """Opens a page and waits until its formulas are typeset."""
    page.goto(address)
    page.wait_for_selector("body[data-ready]")


def test_every_page_is_readable_on_a_phone(site: str, page: Page) -> None:
    """No sideways scrolling, formulas typeset, figures described; and what `page` watches."""
    page.set_viewport_size(PHONE)
    names = {path.relative_to(BUILT).as_posix() for path in BUILT.rglob("*.html")} - {"404.html"}
    faults: dict[str, Any] = {}
    formulas = 0
    for name in sorted(name for name in names if not name.startswith(ALIKE) or name in OF_THEM):
        opened(page, site + name)
        formulas += page.locator(".katex").count()
        found = page.evaluate(FAULTS) | {"wider than the window": max(sideways(page), 0)}
        faults[name] = {kind: at for kind, at in found.items() if at}
    assert {name: found for name, found in faults.items() if found} == {}
    assert formulas > 50


@pytest.mark.parametrize(
    "term, place",
    [
        ("selector", "train.html"),
        ("half-decay", "prefix-decay.html"),
        ("DecayCallback", "reference/callback.html"),
    ],
)
def test_search_finds(site: str, page: Page, term: str, place: str) -> None:
    opened(page, site + "submode.html")
    page.keyboard.press("Control+k")
    page.get_by_role("combobox", name="Search").fill(term)
    results = page.get_by_role("listbox").locator(f'a[href*="{place}"]')
    results.filter(has_text=term).first.click()
    page.wait_for_url(f"**/{place}*")
    assert term.lower() in page.locator("article").inner_text().lower()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(site: str, page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    rules = ["color-contrast"] if scheme == "dark" else None  # the others know no colours
    faults = {}
    for name in ("index.html", "quickstart.html", "submode.html", "reference/divergences.html"):
        opened(page, site + name)
        faults[name] = axe_faults(page, rules)
    assert not any(faults.values()), faults


def test_a_copy_button_copies_the_whole_block(site: str, page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site)
    opened(page, site + "train.html")
    block = page.locator(".highlight").first
    block.hover()
    block.locator("button[data-md-type=copy]").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == block.locator("code").inner_text().strip()
    assert "decaylab train" in copied


def test_figures_stand_on_a_light_card_in_the_dark(site: str, page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    opened(page, site + "index.html")
    colours = "element => getComputedStyle(element).backgroundColor"
    assert page.locator("article img").first.evaluate(colours) == "rgb(255, 255, 255)"
    red, green, blue = re.findall(r"\d+", page.locator("body").evaluate(colours))[:3]
    assert max(int(red), int(green), int(blue)) < 60


def test_every_page_is_in_the_navigation(site: str) -> None:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)["nav"]

    def pages(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        parts = entry.values() if isinstance(entry, dict) else entry
        return [name for part in parts for name in pages(part)]

    assert sorted(pages(nav)) == sorted(
        path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")
    )


def test_every_public_name_is_in_the_reference(site: str) -> None:
    text = "".join(path.read_text() for path in (BUILT / "reference").glob("*.html"))
    public = {f"{home}.{name}" for home, names in decaylab.HOMES.items() for name in names}
    for module in decaylab.MODULES:
        names = import_module(f"decaylab.api.{module}").__all__
        public |= {f"decaylab.api.{module}.{name}" for name in names}
    assert len(public) > 60
    assert {name for name in public if f'id="{name}"' not in text} == set()


def test_formulas_in_a_sentence_read_well_on_a_git_host() -> None:
    """Its Markdown takes the backslash from signs inside $...$, and a table's cells end at |."""
    for name in written_pages():
        text = re.sub(r"^```.*?^```|`[^`\n]*`", "", (DOCS / name).read_text(), flags=re.M | re.S)
        for formula in re.findall(r"\$([^$\n]+)\$", text):
            assert not re.search(r"\\[^a-zA-Z ]|\|", formula), (name, formula)

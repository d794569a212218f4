"""The blocks of README, docs and other pages, and what a command or a piece of Python must satisfy.

What a test does with a fenced block, by its language:

    bash      every command is parsed by the real command line, with all its options checked;
              so is a block without a language
    python    run, in one namespace for each page. With a first line "# NAME.py" it is a file, which
              other blocks import or name
    toml      a config file: every option in it is checked. A first line "# NAME.toml" names it.
              A project table is parsed
    yaml, json    parsed
    text      output, not checked; so is an indented block, which must hold no command
    math      a formula, not checked

Two comments in the Markdown, directly above a block, say otherwise: ``<!-- run -->`` also runs the
commands of a bash block, on the embedded pair; ``<!-- not run: REASON -->`` compiles a Python
block, resolves its imports and checks its calls of decaylab, and runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

GENERATED = ("docs/changelog.md", "docs/reference/cli/")  # by scripts/build_site.py
ROOT = Path(__file__).parents[2]
LANGUAGES = ("bash", "python", "toml", "yaml", "json", "text", "math")
COMMENT = re.compile(r"<!--\s*(.*?)\s*-->", re.DOTALL)
COMMAND = re.compile(r"\s*(decaylab|make|pip|python|import|from) ")
MARKER = re.compile(r"run|not run: \S.*", re.DOTALL)


class Stale(Exception):
    """What a document says does not hold. The message names the page and the line."""


@dataclass(frozen=True)
class Block:
    """A fenced block. line: of the fence, from 1. marker: run, not run: REASON, or nothing."""

    page: Path
    line: int
    language: str
    text: str
    marker: str = ""

    @property
    def place(self) -> str:
        return f"{shown(self.page)}:{self.line}"

    @property
    def file(self) -> str:
        """The name in a first line that is a comment with nothing but a file's name."""
        found = re.match(r"# ([\w-]+\.(?:py|toml))\n", self.text)
        return found.group(1) if found else ""


@dataclass(frozen=True)
class Page:
    """A Markdown file. spans: its inline code, with the line of each."""

    path: Path
    blocks: tuple[Block, ...]
    spans: tuple[tuple[int, str], ...]
    links: tuple[tuple[int, str], ...]


def shown(path: Path) -> str:
    """A page's name in messages."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def read(path: Path) -> Page:
    """The blocks, inline code and links of a page.

    Raises:
        Stale: an unknown language, an indented command, or a marker on the wrong block.
    """
    blocks: list[Block] = []
    spans: list[tuple[int, str]] = []
    links: list[tuple[int, str]] = []
    marker = ""
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
    for token in tokens:
        line = token.map[0] + 1 if token.map else 0
        if token.type == "code_block" and COMMAND.match(token.content):
            raise Stale(f"{shown(path)}:{line}: an indented command; fence the block")
        if token.type == "fence":
            blocks.append(_block(path, line, token.info, token.content, marker))
        for child in token.children or ():
            if child.type == "code_inline":
                spans.append((line, child.content))
            elif child.type in ("link_open", "image"):
                links.append((line, str(child.attrs.get("href") or child.attrs.get("src"))))
        marker = _marker(token.content) if token.type == "html_block" else ""
    return Page(path, tuple(blocks), tuple(spans), tuple(links))


def _block(path: Path, line: int, info: str, text: str, marker: str) -> Block:
    language = (info.split() or ["bash"])[0]
    if language not in LANGUAGES:
        known = ", ".join(LANGUAGES)
        raise Stale(f"{shown(path)}:{line}: the language {language!r} of a block; known: {known}")
    if marker == "run" and language != "bash":
        raise Stale(f"{shown(path)}:{line}: only bash blocks are marked as run")
    return Block(path, line, language, text, marker)


def _marker(comment: str) -> str:
    """The marker in a comment of the page, if it is one."""
    found = COMMENT.fullmatch(comment.strip())
    words = " ".join(found.group(1).split()) if found else ""
    return words if MARKER.fullmatch(words) else ""


def documents() -> list[Path]:
    """README, the pages for contributors, and every page of the site."""
    others = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")
    docs = sorted((ROOT / "docs").rglob("*.md"))
    written = [path for path in docs if not str(path.relative_to(ROOT)).startswith(GENERATED)]
    return [*(ROOT / name for name in others), *written]


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """The commands of a bash block with the place of each: lines joined where they continue, split
    at && and ;, without comments."""
    started, held = block.line + 1, ""
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        started = started if held else number
        if line.endswith("\\"):
            held += line[:-1] + " "
            continue
        for command in re.split(r"&&|;(?=\s)", _without_comment(held + line)):
            if command.strip():
                yield f"{shown(block.page)}:{started}", command.strip()
        held = ""


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*$", "", line)

"""Every block and every inline command of README and docs still holds: see `document_blocks`."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import checked_commands
import checked_python
import command_line
import document_blocks
import pytest
import yaml
from document_blocks import ROOT, Block, Page, Stale
from own_parts import forgotten
from qwen_configs import write_config

import decaylab

OF_OTHERS = {
    *("--config_file", "--log_samples", "--multi_gpu", "--num_processes", "--part", "--toy"),
    *("--install-completion", "--show-completion"),
}
"""Options of other programs that the text names."""


def check(page: Page, folder: Path) -> None:
    """Checks a page in an empty folder.

    Raises:
        Stale: something in it does not hold.
    """
    for block in page.blocks:
        if block.file:
            (folder / block.file).write_text(block.text)
    namespace: dict[str, Any] = {}
    for block in page.blocks:
        if block.language == "python":
            _check_python(block, namespace)
        elif block.language == "bash":
            _check_bash(block, folder)
        elif block.language == "toml":
            _check_toml(block, folder)
        elif block.language == "yaml":
            yaml.safe_load(block.text)
        elif block.language == "json":
            json.loads(block.text)
    for line, span in page.spans:
        try:
            _check_span(span, folder)
        except Stale as stale:
            raise Stale(f"{document_blocks.shown(page.path)}:{line}: {stale}") from stale


def _check_python(block: Block, namespace: dict[str, Any]) -> None:
    try:
        checked_python.check(block.text)
    except Stale as stale:
        raise Stale(f"{block.place}: {stale}") from stale
    if not block.marker and not block.file:
        padded = "\n" * block.line + block.text  # so that an error names the page's own line
        with command_line.shared_parts():
            exec(compile(padded, str(block.page), "exec"), namespace)


def _check_toml(block: Block, folder: Path) -> None:
    if "project" in tomllib.loads(block.text):
        return
    file = folder / (block.file or "config.toml")
    file.write_text(block.text)
    try:
        for command in ("prefix-decay", "train"):  # between them they have every registry
            checked_commands.check_decaylab([command, "--config", file.name], folder)
    except Stale as stale:
        raise Stale(f"{block.place}: {stale}") from stale


def _check_bash(block: Block, folder: Path) -> None:
    for place, command in document_blocks.commands(block):
        try:
            checked_commands.check(command, folder)
        except Stale as stale:
            raise Stale(f"{place}: {stale}") from stale
        words = shlex.split(command)
        if block.marker == "run" and words[0] == "decaylab":
            ended = command_line.decaylab(*words[1:])
            if ended.code != 0:
                raise Stale(f"{place}: {command} ended with {ended.code}: {ended.err[-500:]}")


def _check_span(span: str, folder: Path) -> None:
    first, *rest = span.split() or [""]
    if first == "decaylab" and rest:
        try:
            checked_commands.check(span, folder)
        except Stale as stale:
            if "Missing argument" not in str(stale):  # the name of the command alone
                raise
    elif first == "make" and rest:
        checked_commands.check(span, folder)
    elif re.match(r"--[a-z]", span):
        for word in re.findall(r"(?:^|\s)(--[a-z][\w-]*)", span):
            if word not in checked_commands.options_everywhere() | OF_OTHERS:
                raise Stale(f"no command has the option {word}")
    elif (name := re.match(r"dl\.(\w+)", span)) and not hasattr(decaylab, name.group(1)):
        raise Stale(f"there is no {name.group(0)}")


@pytest.mark.parametrize(
    "path", document_blocks.documents(), ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_block_and_inline_command_of_a_page_holds(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    with forgotten():  # what a page registers is unknown to the next one
        check(document_blocks.read(path), tmp_path)
    for name in set(sys.modules) - before:  # a file of this page is none of the next one
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_what_the_readme_links_to_is_there() -> None:
    """The site's own links are checked by its strict build."""
    page = document_blocks.read(ROOT / "README.md")
    local = [link for _, link in page.links if "://" not in link]
    assert len(local) > 20
    for link in local:
        path, _, heading = link.partition("#")
        assert (ROOT / path).exists(), link
        headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), re.M) if heading else ()
        slugs = [re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings]
        assert not heading or heading in slugs, link


def test_memory_and_hours_of_the_readme_and_the_tutorial_are_those_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("Qwen3-1.7B", "Qwen2.5-Math-1.5B"):
        write_config(name, tmp_path / "Qwen")
    readme = (ROOT / "README.md").read_text()
    (tmp_path / "mine.toml").write_text(re.search(r"```toml\n(.*?)```", readme, re.S).group(1))
    words = ("plan", "--config", "mine.toml", "--gpus", "1x80GB", "--json")
    rates = ("--tokens-per-second", "2000,9000,3000")
    planned = json.loads(command_line.decaylab(*words, *rates).out)["phases"]
    controls = ("--controls", "own-prefix,correct-so-far", "--batch-rows", "128")
    smaller = command_line.decaylab(*words, "--only", "prefix-decay", *controls).out
    controlled = json.loads(smaller)["phases"]

    def peak(phases: list[dict[str, Any]]) -> str:
        return f"{max(one['bytes'] for one in phases) / 2**30:.1f}"

    lines = re.findall(r"^decaylab ([\w-]+) .*# ([\d.]+) GiB, ([\d.]+) ", readme, re.M)
    named = {"prefix-decay": "prefix-decay", "signals": "diagnostics", "train": "train"}
    assert [command for command, _, _ in lines] == list(named)
    tutorial = (ROOT / "docs" / "tutorial.md").read_text()
    for command, memory, hours in lines:
        phases = [one for one in planned if one["command"] == named[command]]
        assert memory == peak(phases) and f"| {memory} GiB" in tutorial, command
        assert hours == f"{sum(one['seconds'] or 0 for one in phases) / 3600:.1f}", command
        if command == "prefix-decay":  # the tutorial measures with more controls
            phases = controlled
        tokens = sum(one["tokens"] or 0 for one in phases) / 1e6
        assert re.search(rf"\| {memory} GiB[^|]*; {tokens:.1f} M", tutorial), (command, tokens)
    assert f"`--batch-rows 128` takes {peak(controlled)} GiB" in readme
    assert f"({peak(controlled)} with `--batch-rows 128`)" in tutorial


BROKEN = {
    "```\ndecaylab plam\n```": "page.md:2: decaylab has no command plam",
    "```\nfigure: runs/first\n```": "no check for the program figure:",
    "    decaylab plan\n": "indented command",
    "```fish\nls\n```": "language 'fish'",
    "<!-- run -->\n```python\n1\n```": "only bash blocks",
    "```bash\ndecaylab position-kl --sample 4\n```": "page.md:2: .*--sample",
    "```bash\nmake demo\n\ndecaylab \\\n  plan --nonsense 3\n```": "page.md:4: .*--nonsense",
    "```bash\ndecaylab position-lk\n```": "no command position-lk",
    "```bash\ndecaylab train --selector best\n```": "selector",
    "```bash\ndecaylab prefix-decay --controls everything\n```": "controls",
    "```bash\ndecaylab sweep selector --values prefix,best\n```": "got best",
    "```bash\ndecaylab prefix-decay --samples many\n```": "samples",
    "```bash\ndecaylab plan && decaylab figures runs --width wide\n```": "width",
    "```bash\ndecaylab figures runs --only n-swep\n```": "n-swep",
    "```bash\ndecaylab report\n```": "Missing argument",
    "```bash\ndecaylab --versions\n```": "no option --versions",
    "```bash\ndecaylab category-kl --categories data/categries.toml\n```": "no file data/categ",
    "```bash\ndecaylab prefix-decay --config other.toml\n```": "no file other.toml",
    "```bash\ndecaylab rollouts competions.jsonl\n```": "no file competions.jsonl",
    "```bash\naccelerate launch --num_process 8 -m decaylab train\n```": "num_process",
    "```bash\naccelerate launch --num_processes 8 -m decaylab train --stepz 3\n```": "--stepz",
    "```bash\nmake demos\n```": "no demos",
    "```bash\npip install 'decaylab[vlm]'\n```": "no extra vlm",
    "```bash\npython benchmarks/scoring.py --partt losses\n```": "no option --partt",
    "```bash\nscripts/install_vllm.sh\n```": "no file scripts/install_vllm.sh",
    "```bash\ndecaylabs plan\n```": "no check for the program",
    "<!-- run -->\n```bash\ndecaylab show runs/none\n```": "ended with 2",
    "```toml\nsampels = 4\n```": "sampels",
    '```toml\nselector = "best"\n```': "selector",
    "```python\nimport decaylab as dl\ndl.prefx_decay()\n```": "no prefx_decay",
    "```python\nimport decaylab as dl\ndl.prefix_decay(limits=3)\n```": "limits",
    "```python\nimport decaylab as dl\ndl.train(selector='best')\n```": "selector",
    "```python\nfrom decaylab.maths import divergence\n```": "has no divergence",
    "```python\nfrom decaylabs import x\n```": "no module decaylabs",
    "```python\nimport decaylab as dl\ndl.open_run('a', 'b', 'c', 'd')\n```": "open_run",
    "<!-- not run: slow -->\n```python\nimport decaylab as dl\ndl.comparee('a')\n```": "comparee",
    "<!-- not run: slow -->\n```python\nx = = 3\n```": "invalid syntax",
    "Set `--sample`.": "no command has the option --sample",
    "Call `dl.everything()`.": "no dl.everything",
    "| a |\n|---|\n| `decaylab figures runs --al` |": "--al",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_page_with_a_stale_block_is_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "page.md"
    path.write_text(text)
    with pytest.raises(Stale, match=BROKEN[text]):
        check(document_blocks.read(path), tmp_path)


def test_a_block_that_is_a_file_can_be_imported_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "page.md"
    path.write_text(
        "```python\n# of_this_page.py\nn = 3\n```\n```python\nimport of_this_page\n"
        "assert of_this_page.n == 3\n```\n"
        "```toml\n# mine.toml\nsamples = 2\n```\n```bash\ndecaylab plan --config mine.toml\n```"
    )
    check(document_blocks.read(path), tmp_path)
    del sys.modules["of_this_page"]


def test_a_python_block_that_fails_fails_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of a page share their names; a marked block is not run."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "page.md"
    shares = "```python\nn = 1\n```\n<!-- not run: slow -->\n```python\nn = 2\n```\n"
    path.write_text(shares + "```python\nassert n == 1\n```")
    check(document_blocks.read(path), tmp_path)
    path.write_text(shares + "```python\nassert n == 2\n```")
    with pytest.raises(AssertionError):
        check(document_blocks.read(path), tmp_path)

"""A card of finished runs, in Markdown, for a model card on the hub. No model is at hand.

    write([Path("runs/decay"), Path("runs/esr")], Path("CARD.md"))     # and CARD-prefix-decay.png

Its verdicts, numbers and figure are those of the report. Beside measured runs it takes training
runs, of which it tells what became of the held-out problems.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decaylab import disk, printing
from decaylab.claims import one_run
from decaylab.claims.summary import Summary, summary
from decaylab.errors import UserError
from decaylab.options import declared
from decaylab.options.command_options import COMMANDS
from decaylab.pages import card_results, gallery
from decaylab.pages.merging import MergedRun, merge
from decaylab.paper.paper_items import FIGURES, VIEWED
from decaylab.plugins.origins import PLUGINS
from decaylab.policies.identity import versions
from decaylab.runs import found_runs, made, train_results
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.model_cards import (
    PAPER,
    base_id,
    called,
    escaped,
    front_matter,
    portable,
    portable_command,
    table,
)
from decaylab.runs.train_results import TrainResult
from decaylab.tables import card as tables
from decaylab.tables.model import to_markdown
from decaylab.tables.training import verdict as training_verdict

WRITTEN_BY = "<!-- Written by `decaylab report --card`"
VERSIONS = ("decaylab", "torch", "transformers")
DOTS_PER_INCH = 150  # 1,050 pixels wide: twice what the hub shows
TITLE = "# Teacher decay: {student} under {teacher}"
ABOUT = """*Teacher decay* is what a teacher loses when it continues a student's rollout. In
on-policy distillation it limits how far into a rollout the teacher can be trusted
([arXiv 2605.27028]({paper}))."""
LINKS = """- [Less is More: Early Stopping Rollout for On-Policy Distillation]({paper})
- Measured with decaylab {version}; its CITATION.cff says how to cite it"""
NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Drawn:
    """The figure of a card. name: ends its file's name. alt: what it shows, in a sentence."""

    name: str
    png: bytes
    alt: str
    caption: str


@dataclass(frozen=True)
class Sources:
    """What a card is of: measured runs and training runs of one pair, at least one of them."""

    measured: Sequence[FoundRun]
    trained: Sequence[TrainResult]

    @property
    def runs(self) -> list[FoundRun]:
        """All of them, training runs first, each with its measurements."""
        return [*map(_as_run, self.trained), *self.measured]


def write(paths: Sequence[str | Path], out: Path, *, published: bool = False) -> list[Path]:
    """Writes the card of the runs at these paths and below, and its figure beside it.

    Training runs count where a path is their folder. An earlier card is replaced, and no other
    file.

    published: the paper's numbers in the figure too.

    Returns:
        The files that were written.

    Raises:
        UserError: no run, runs of different pairs, an unfinished training, or a place that holds
            something else.
    """
    _check_place(out)
    sources = find(paths)
    figure = drawn(sources, published=published)
    file = out.with_name(f"{out.stem}-{figure.name}.png") if figure else None
    text = render(sources, figure, file.name if file else "")
    if file and figure:
        disk.write_atomically(file, figure.png)
    disk.write_atomically(out, text.encode())
    return [out, *([file] if file else [])]


def _check_place(out: Path) -> None:
    if out.is_dir():
        raise UserError(f"{out} is a folder; give the card a name in it, such as {out / 'CARD.md'}")
    if out.exists() and WRITTEN_BY not in out.read_text(encoding="utf-8", errors="replace"):
        raise UserError(
            f"{out} exists and was not written by decaylab report --card; choose another --out"
        )


def find(paths: Sequence[str | Path]) -> Sources:
    """The measured runs at these paths and below, and the training runs at them.

    Raises:
        UserError: as `write`.
    """
    folders = [Path(path) for path in paths]
    trained = [train_results.read(path) for path in folders if _is_training(path)]
    alone = {result.folder for result in trained if not found_runs.holds(result.folder)}
    left = [path for path in folders if path not in alone]
    measured = found_runs.find(left) if left or not trained else []
    sources = Sources(measured, trained)
    found_runs.check_one_pair(sources.runs)
    return sources


def _is_training(path: Path) -> bool:
    return path.is_dir() and train_results.is_training(path)


def _as_run(result: TrainResult) -> FoundRun:
    """A training run with its held-out results as measurements."""
    bare = found_runs.training(result.folder, result.record)
    return MergedRun.of(bare, tables.held_out(result.validation))


# The figure


def drawn(sources: Sources, *, published: bool = False) -> Drawn | None:
    """The first of the paper's figures that these runs can be drawn as, or the curves of a
    training; None where nothing can be drawn."""
    from decaylab.figures import style

    for item in FIGURES:
        merged = merge(item, sources.measured) if item.commands not in ((), (VIEWED,)) else None
        if merged is None or merged.run is None:
            continue
        if item.rows(merged.run.measurements)["value"].isna().all():
            continue
        try:
            made_of = gallery.drawn(merged.entry, published=published)
            png = style.encoded(made_of.sheet.draw("page"), "png", dots_per_inch=DOTS_PER_INCH)
        except UserError:  # another figure can be drawn
            continue
        return Drawn(item.name, png, f"{item.title}. {item.question}", made_of.caption)
    return _curves(sources.trained[0]) if sources.trained else None


def _curves(result: TrainResult) -> Drawn:
    from decaylab.figures import style, training

    sheet = training.sheet(result.metrics, result.validation)
    png = style.encoded(sheet.draw("page"), "png", dots_per_inch=DOTS_PER_INCH)
    alt = "Training. What became of held-out KL, accuracy and length, and of the loss?"
    caption = training.caption(result.metrics, result.validation)
    return Drawn("training", png, alt, caption)


# The text


def render(sources: Sources, figure: Drawn | None, file: str) -> str:
    """The card in Markdown. file: name of the figure's file, beside the card."""
    summed = summary(sources.measured) if sources.measured else None
    pair, version = sources.runs[0].pair, versions()["decaylab"]
    parts = [
        f"{_front(sources)}{WRITTEN_BY} of decaylab {version}: it replaces this file. -->",
        TITLE.format(student=called(pair.student), teacher=called(pair.teacher)),
        ABOUT.format(paper=PAPER),
        "## What was found",
        *_verdicts(sources, summed),
        *_figure(figure, file),
        *_numbers(sources),
        *_measured(summed),
        "## Reproduce",
        f"```bash\n{chr(10).join(_commands(sources))}\n```",
        "## Models",
        table(("role", "model", "revision", "contents (SHA-256)"), _models(sources.runs)),
        *_own_parts(sources.runs),
        "## Problems",
        table(("run", "problems", "version", "contents (SHA-256)"), _problems(sources.runs)),
        "## Runs",
        table(("run", "made", *VERSIONS), _made(sources.runs)),
        *_notes(sources, summed),
        "## Links",
        LINKS.format(paper=PAPER, version=version),
    ]
    return "\n\n".join(parts) + "\n"


def _front(sources: Sources) -> str:
    """What the hub reads. A card of an untrained pair is of no model that derives from another."""
    runs = sources.runs
    student = _policies(runs[0])["student"]
    trained = bool(sources.trained) or any(tables.trained(run) for run in sources.measured)
    return front_matter(
        library=_library(sources.trained),
        base_model=base_id(student) if trained else "",
        tags=("teacher-decay",),
        **card_results.model_index(sources.measured),
    )


def _library(trained: Sequence[TrainResult]) -> str:
    """What loads the trained students; "" where that is not known, or not the same for all."""
    whole = {result.record["identity"]["training"]["full_finetune"] for result in trained}
    if len(whole) != 1:
        return ""
    return "transformers" if whole.pop() else "peft"


def _verdicts(sources: Sources, summed: Summary | None) -> Iterator[str]:
    """What forbids to believe the rest, how to train the pair where training was compared, and what
    each run says."""
    if summed:
        yield from (f"**{_text(alarm)}**" for alarm in summed.alarms)
        if len(summed.advice.candidates):
            yield f"**{_text(' '.join(summed.advice.verdict))}**"
    for result in sources.trained:
        yield _listed(_name(result), [*training_verdict(result.validation), *result.alarms])
    for run in sources.measured:
        said = one_run.verdict(run)
        if not run.command.startswith("sweep") or len(sources.runs) == 1 or not summed:
            yield _listed(run.name, said)
        else:  # the advice is above
            yield _listed(run.name, [line for line in said if line not in summed.advice.verdict])


def _listed(run: str, sentences: Sequence[str]) -> str:
    return "\n".join([f"{_text(run)}:", "", *(f"- {_text(line)}" for line in sentences)])


def _figure(figure: Drawn | None, file: str) -> Iterator[str]:
    if figure:
        alt = " ".join(figure.alt.split()).replace("[", "(").replace("]", ")")
        yield f"![{alt}]({file.replace(' ', '%20')})"
        yield f"*{_text(' '.join(figure.caption.split()))}*"


def _numbers(sources: Sources) -> Iterator[str]:
    numbers = tables.numbers(sources.runs)
    if numbers.rows:
        yield "## Numbers"
        yield portable(to_markdown(numbers).partition("\n\n")[2].strip())
        yield numbers.caption


def _measured(summed: Summary | None) -> Iterator[str]:
    if summed:
        yield "## What was measured"
        yield "\n".join(f"- {_text(line)}" for line in summed.measured)


def _commands(sources: Sources) -> Iterator[str]:
    commands = dict.fromkeys(_command(run) for run in sources.runs)
    yield from (one if one.startswith("#") else portable_command(one) for one in commands)


def _command(run: FoundRun) -> str:
    """The command as it was typed; of a run out of Python the one that does the same, or a comment
    where that is not known."""
    typed = str(run.record.get("command") or "")
    if typed.startswith("decaylab "):
        return typed
    if "probe" in run.record["identity"]:
        return f"# {typed}, in a training loop: it asks its problems at each measured step"
    if "loaded:" in typed or "rows:" in typed:
        return f"# {typed}, with models or problems in memory"
    name = run.command.split()[0]  # a sweep's is followed by what it is over
    if name in ("sweep", found_runs.COMPARISON):  # their records do not hold every option
        return f"# {typed or run.command}, called from Python: run.json has its options"
    key = "training" if run.command == tables.TRAIN else "options"
    recorded = run.record["identity"][key]
    kind = COMMANDS[name].kind
    known = declared.options_of(kind, name)
    values = {
        option: tuple(value) if isinstance(value, list) else value
        for option, value in recorded.items()
        if option in known
    }
    placed = [name for name in values if known[name].argument]
    words = ["decaylab", name]
    words += [str(one) for one in placed for one in _each(values[one])]
    rest = {one: value for one, value in values.items() if one not in placed}
    return shlex.join([*words, *declared.as_words(kind, rest)])


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _policies(run: FoundRun) -> Mapping[str, Any]:
    """Student and teacher as run.json describes them."""
    identity: Mapping[str, Any] = run.record.get("identity", {})
    described: Mapping[str, Any] = identity if "student" in identity else run.record["pair"]
    return described


def _models(runs: Sequence[FoundRun]) -> list[tuple[str, ...]]:
    """Each model once: the pair with the bases of adapters, and the checkpoints."""
    rows = []
    for run in runs:
        for role in ("student", "teacher"):
            policy, words = _policies(run)[role], role
            while policy:
                rows.append((words, *_model(policy)))
                policy, words = policy.get("base"), f"base of the {role}"
        for label, digest in run.record.get("identity", {}).get("checkpoints", {}).items():
            rows.append(("checkpoint", str(label), "", f"`{digest}`"))
    return list(dict.fromkeys(rows))


def _model(policy: Mapping[str, Any]) -> tuple[str, str, str]:
    digest = policy.get("content_hash") or NOT_RECORDED
    name = called(str(policy["name"]))
    return name, policy.get("revision") or "", f"`{digest}`" if digest != NOT_RECORDED else digest


def _own_parts(runs: Sequence[FoundRun]) -> Iterator[str]:
    """The user's own selectors, answer rules and problem sets."""
    rows = [
        (one["kind"], one["name"], one["file"] or one["module"], f"`{one['sha256']}`")
        for run in runs
        for one in run.record.get("identity", {}).get(PLUGINS, {}).values()
    ]
    if rows:
        yield "## Own parts"
        yield table(("kind", "name", "file", "contents (SHA-256)"), dict.fromkeys(rows))


def _problems(runs: Sequence[FoundRun]) -> Iterator[tuple[str, ...]]:
    for run in runs:
        problems = run.record.get("identity", {}).get("problems") or {}
        count = problems.get("asked") or problems.get("trained_on")
        if count is None and len(run.measurements):
            count = int(run.measurements["problems"].max())
        name = called(str(problems.get("name") or NOT_RECORDED))
        many = f"{printing.rounded(count)} of {name}" if count else name
        digest = problems.get("content_hash")
        shown = f"`{digest}`" if digest else NOT_RECORDED
        yield run.name, many, str(problems.get("version") or ""), shown


def _made(runs: Sequence[FoundRun]) -> Iterator[tuple[str, ...]]:
    for run in runs:
        known = run.record.get("versions", {})
        how = made.words(run.record.get(made.MADE)) or NOT_RECORDED
        yield run.name, how, *(str(known.get(name, "")) for name in VERSIONS)


def _notes(sources: Sources, summed: Summary | None) -> Iterator[str]:
    notes = list(summed.warnings) if summed else []
    notes += [f"{_name(result)}: {note}" for result in sources.trained for note in result.notes]
    if notes:
        yield "## What must be known"
        yield "\n".join(f"- {_text(note)}" for note in notes)


def _name(result: TrainResult) -> str:
    return result.folder.absolute().name


def _text(sentence: str) -> str:
    """A sentence that leaves the machine; nothing in it is read as markup except commands."""
    return escaped(portable(sentence))

"""Reads rows of hub data sets from their parquet or JSONL files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from decaylab.errors import UserError
from decaylab.problems import cards
from decaylab.problems.files import FILE_SUFFIXES, Row, one_line, read_rows

DEFAULT_SPLITS, CARD = ("test", "train"), "README.md"
CONVERTED = "refs/convert/parquet"
# Hidden files, and JSON files without rows.
_ABOUT = re.compile(r"(^|/)(\.|(dataset_infos?|config|package)\.json$)")


@dataclass(frozen=True)
class DataSet:
    """A hub data set. name: its name in messages. local_copy: how to name a local copy instead."""

    repo: str
    name: str
    local_copy: str

    def rows(
        self,
        config: str | None,
        split: str | None,
        revision: str | None,
        limit: int | None,
        halves: list[str],
    ) -> tuple[list[Row], str, list[str]]:
        """The first rows of one split of one configuration, their commit, and notes.

        Raises:
            UserError: no such set, revision, split or configuration, or files that can't be fetched
                or read.
        """
        files, cached = self._files(revision)
        notes = ["the hub could not be reached: the local cache was read"] if cached else []
        # The hub converts only the main branch.
        converted = [] if revision or cached or _data_files(files) else self._converted_files()
        if converted:
            revision, notes = CONVERTED, [f"read from the hub's parquet conversion ({CONVERTED})"]
        place = f"{self.name} (in the local cache)" if cached else self.name
        declared: dict[str, cards.Splits] = {}
        if CARD in files and not converted:
            card = self._fetch(CARD, revision, cached)
            declared = cards.configurations(card, self.name)
        chosen, used = _choose(converted or files, declared, config, split, place)
        if used != (split or DEFAULT_SPLITS[0]):
            notes.append(f"the {used} split was read: there is no {DEFAULT_SPLITS[0]} split")
        first = self._fetch(chosen[0], revision, cached)
        commit = first.parents[len(PurePosixPath(chosen[0]).parts) - 1].name

        def stream() -> Iterator[Row]:
            for file in chosen:  # a file is fetched when its first row is needed
                path = self._fetch(file, commit, cached)
                yield from read_rows(path, f"{self.repo}/{file}", halves=halves)

        rows = list(islice(stream(), limit))
        # An earlier run with a limit may have cached only the first files.
        if cached and (limit is None or len(rows) < limit):
            _refuse_partial(chosen, self.name)
        return rows, commit, notes

    def file(self, name: str, revision: str | None) -> tuple[Path, str]:
        """A file of the repository, from the hub or the local cache, and its commit.

        Raises:
            UserError: it can't be fetched.
        """
        try:
            path = self._fetch(name, revision, cached=False)
        except UserError:
            if _cached_snapshot(self.repo, revision) is None:
                raise
            path = self._fetch(name, revision, cached=True)
        return path, path.parents[len(PurePosixPath(name).parts) - 1].name

    def _files(self, revision: str | None) -> tuple[list[str], bool]:
        """The file names at a revision, and whether they are from the local cache."""
        try:
            info = HfApi().dataset_info(self.repo, revision=revision)
        except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
            raise self._error(revision, error) from error
        # offline or unreachable: the exception's class changes with the client's transport
        except Exception as error:
            folder = _cached_snapshot(self.repo, revision)
            if folder is None:
                raise self._error(revision, error) from error
            paths = [path for path in folder.rglob("*") if path.is_file()]
            return [path.relative_to(folder).as_posix() for path in paths], True
        return [sibling.rfilename for sibling in info.siblings or ()], False

    def _converted_files(self) -> list[str]:
        """Files of the hub's own parquet conversion of the main branch; empty if there is none."""
        try:
            return self._files(CONVERTED)[0]
        except UserError:
            return []

    def _fetch(self, file: str, revision: str | None, cached: bool) -> Path:
        try:
            path = hf_hub_download(
                self.repo, file, repo_type="dataset", revision=revision, local_files_only=cached
            )
        except Exception as error:  # as in _files
            raise self._error(revision, error) from error
        return Path(path)

    def _error(self, revision: str | None, error: Exception) -> UserError:
        data_set, remedy = f"hub data set {self.repo}", f"or give a local copy as {self.local_copy}"
        if isinstance(error, GatedRepoError):
            return UserError(
                f"{data_set} is gated: accept its terms on the hub and set HF_TOKEN, {remedy}"
            )
        if isinstance(error, RevisionNotFoundError):
            return UserError(
                f"{data_set} has no revision {revision!r}: omit it for the newest, {remedy}"
            )
        if isinstance(error, RepositoryNotFoundError | HFValidationError):
            return UserError(
                f"no data set {self.repo} on the hub: check the name (set HF_TOKEN if it is "
                f"private), {remedy}"
            )
        why = f"{type(error).__name__}: {one_line(error)}"
        return UserError(
            f"{data_set} can't be fetched ({why}): check the network and HF_ENDPOINT, {remedy}"
        )


def _refuse_partial(files: list[str], name: str) -> None:
    """Raises UserError if shards are missing from the cache, by names (``-00000-of-00002``)."""
    shards = re.search(r"-of-(\d+)", files[0])
    if shards and int(shards[1]) > len(files):
        raise UserError(
            f"{name}: the hub could not be reached and the local cache has only {len(files)} of "
            f"{int(shards[1])} files; "
            "go online, or set a limit that the first files can satisfy"
        )


def _cached_snapshot(repo: str, revision: str | None) -> Path | None:
    try:
        return Path(
            snapshot_download(repo, repo_type="dataset", revision=revision, local_files_only=True)
        )
    except LocalEntryNotFoundError as error:
        # Newer clients report a partial snapshot with its folder.
        partial = getattr(error, "snapshot_path", None)
        return Path(partial) if partial else None


def _data_files(files: Iterable[str]) -> list[str]:
    return sorted(
        file for file in files if file.endswith(FILE_SUFFIXES) and not _ABOUT.search(file)
    )


def _choose(
    files: list[str],
    declared: Mapping[str, cards.Splits],
    config: str | None,
    split: str | None,
    name: str,
) -> tuple[list[str], str]:
    """The files of one split and configuration, and the split's name.

    They come from the card, or else from the file names, parquet before JSONL.
    """
    data = _data_files(files)
    if declared and config is None and "default" not in declared:
        raise _several(name, list(declared))
    splits = declared.get(config or "default", {})
    for wanted in [split] if split else [*DEFAULT_SPLITS, *splits]:
        matching = cards.matching(data, splits.get(wanted, ()))
        if matching:
            return matching, wanted
    inside = [file for file in data if config is None or config in PurePosixPath(file).parts[:-1]]
    for wanted in [split] if split else DEFAULT_SPLITS:
        for suffix in FILE_SUFFIXES:
            named = _of_split([file for file in inside if file.endswith(suffix)], wanted)
            if named:
                return _of_one_config(named, wanted, name), wanted
    if split is None and len(inside) == 1:
        return inside, "only"
    place = f" in configuration {config}" if config else ""
    wanted = split or " or ".join(DEFAULT_SPLITS)
    listed = ", ".join([*data[:6], *(["..."] if len(data) > 6 else [])]) or "no such files"
    raise UserError(
        f"{name} has no {wanted} split as parquet or JSONL{place}: found {listed}; set --split, or "
        "give a local file"
    )


def _of_split(files: list[str], split: str) -> list[str]:
    """Files in a folder or with a name equal to the split's; else the only one that contains it."""
    whole = re.compile(rf"{re.escape(split)}(-\d+-of-\d+.*)?")
    within = re.compile(rf"(?<![A-Za-z0-9]){re.escape(split)}(?![A-Za-z0-9])")
    exact, loose = [], []
    for file in files:
        path = PurePosixPath(file)
        if any(whole.fullmatch(part) for part in path.with_suffix("").parts):
            exact.append(file)
        if within.search(path.stem):
            loose.append(file)
    return exact or (loose if len(loose) == 1 else [])


def _of_one_config(files: list[str], split: str, name: str) -> list[str]:
    configs = {}
    for file in files:
        folders = PurePosixPath(file).parts[:-1]
        configs[file] = "/".join(name for name in folders if name not in (split, "data"))
    several = sorted(set(configs.values()))
    wanted = "default" if "default" in several else several[0]
    if len(several) > 1 and wanted != "default":
        raise _several(name, several)
    return [file for file in files if configs[file] == wanted]


def _several(name: str, configs: Sequence[str]) -> UserError:
    return UserError(
        f"{name} has configurations {', '.join(configs)}; choose one, as in {name}:{configs[-1]}"
    )

"""A small server that speaks enough of the hub's protocol to serve models and data sets from
folders.

    with HubServer() as hub:
        hub.add("dataset", "acme/sums", folder)
        subprocess.run(command, env=hub.environment(cache))

It listens on the loopback alone, on a port of its own. huggingface_hub reads HF_ENDPOINT when it is
imported, so a client runs in a subprocess with ``environment``. Files are served whole, as ordinary
blobs (neither LFS nor Xet).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

Kind = Literal["model", "dataset"]


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, code: str, commit: str | None = None) -> None:
        super().__init__(code)
        self.status, self.code, self.commit = status, code, commit


@dataclass(frozen=True)
class _Repo:
    """One revision of a repository; the commit is a hash of the folder's files."""

    repo_id: str
    folder: Path
    commit: str
    gated: bool

    def files(self) -> list[str]:
        return sorted(
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if path.is_file()
        )


class HubServer:
    """Serves the folders that were added; ``requests`` keeps every request line, for tests to look
    at."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self._repos: dict[tuple[str, str], dict[str, _Repo]] = {}
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(
        self, kind: Kind, repo_id: str, folder: Path, *, revision: str = "main", gated: bool = False
    ) -> str:
        """Serves a folder as one revision of a repository and returns the commit it resolves to."""
        digest = hashlib.sha1(f"{repo_id}@{revision}".encode())
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
        repo = _Repo(repo_id, folder, digest.hexdigest(), gated)
        self._repos.setdefault((kind, repo_id), {}).update({revision: repo, repo.commit: repo})
        return repo.commit

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """The environment of a client: this endpoint, its own cache, nothing that leaves the
        machine."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "HUGGING_FACE_"))
        }
        own = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
        }
        return {
            **kept,
            **own,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            **more,
        }

    def find(self, kind: str, repo_id: str, revision: str) -> _Repo:
        revisions = self._repos.get((kind, repo_id))
        if revisions is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "RepoNotFound")
        if revision not in revisions:
            raise _Refused(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        return revisions[revision]


_INFO = re.compile(r"/api/(model|dataset)s/([^/]+/[^/]+?)(?:/revision/([^/]+))?/?")
_TREE = re.compile(r"/api/(model|dataset)s/([^/]+/[^/]+)/tree/([^/]+)(?:/(.+?))?/?")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class _Handler(BaseHTTPRequestHandler):
    """Matches the path as it was sent: a revision such as refs/convert/parquet arrives with its
    slashes escaped."""

    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        path = urlsplit(self.path).path
        try:
            if match := _FILE.fullmatch(path):
                self._file(
                    "dataset" if match[1] else "model",
                    match[2],
                    unquote(match[3]),
                    unquote(match[4]),
                )
            elif match := _TREE.fullmatch(path):
                self._tree(
                    self.hub.find(match[1], match[2], unquote(match[3])), unquote(match[4] or "")
                )
            elif match := _INFO.fullmatch(path):
                self._info(self.hub.find(match[1], match[2], unquote(match[3] or "main")))
            else:
                raise _Refused(HTTPStatus.NOT_FOUND, "NotServedHere")
        except _Refused as refused:
            headers = {"X-Repo-Commit": refused.commit} if refused.commit else {}
            self._answer(refused.status, b"", {"X-Error-Code": refused.code, **headers})

    do_HEAD = do_GET

    def _info(self, repo: _Repo) -> None:
        siblings = [{"rfilename": file} for file in repo.files()]
        self._json({"id": repo.repo_id, "sha": repo.commit, "siblings": siblings, "tags": []}, repo)

    def _tree(self, repo: _Repo, under: str) -> None:
        files = [file for file in repo.files() if not under or file.startswith(f"{under}/")]
        if under and not files:
            raise _Refused(HTTPStatus.NOT_FOUND, "EntryNotFound", repo.commit)
        entries = [
            {
                "type": "file",
                "path": file,
                "size": (repo.folder / file).stat().st_size,
                "oid": _oid(repo.folder / file),
            }
            for file in files
        ]
        self._json(entries, repo)

    def _file(self, kind: str, repo_id: str, revision: str, file: str) -> None:
        repo = self.hub.find(kind, repo_id, revision)
        if repo.gated:
            raise _Refused(HTTPStatus.FORBIDDEN, "GatedRepo")
        if file not in repo.files():
            raise _Refused(HTTPStatus.NOT_FOUND, "EntryNotFound", repo.commit)
        path = repo.folder / file
        headers = {
            "X-Repo-Commit": repo.commit,
            "ETag": f'"{_oid(path)}"',
            "Content-Type": "application/octet-stream",
        }
        self._answer(HTTPStatus.OK, path.read_bytes(), headers)

    def _json(self, value: object, repo: _Repo) -> None:
        headers = {"X-Repo-Commit": repo.commit, "Content-Type": "application/json"}
        self._answer(HTTPStatus.OK, json.dumps(value).encode(), headers)

    def _answer(self, status: HTTPStatus, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing on stderr; ``HubServer.requests`` keeps the log."""


def _oid(path: Path) -> str:
    """Git's blob id."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

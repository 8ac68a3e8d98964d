"""A Hub on this machine: what the real huggingface_hub client asks, answered from local folders, with faults.

    with HubServer() as hub:
        commit = hub.add("owner/name", folder)               # kind="dataset" for a data set
        hub.cut("*/unet/*", after=1000)                      # the first download of it breaks off
        ...                                                  # the client, with HF_ENDPOINT=hub.url
        assert hub.ranges("unet/model.safetensors") == ["bytes=1000-"]

Faults are matched with the request's path, in the order in which they were made; each is used `times` times.
"""

import hashlib
import json
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.hub import uploads

Kind = Literal["model", "dataset"]
METHODS = ("GET", "HEAD", "POST", "PUT")
LARGE = (".safetensors", ".bin", ".ckpt", ".png", ".jpg", ".jpeg", ".zip", ".parquet")
"""What a repository keeps in LFS: announced with its SHA-256, and served from another address."""


@dataclass(frozen=True)
class StoredFile:
    path: Path
    size: int
    sha256: str
    git_sha1: str
    is_large: bool

    @classmethod
    def of(cls, path: Path, name: str) -> Self:
        size = path.stat().st_size
        sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                sha256.update(chunk)
                git.update(chunk)
        return cls(path, size, sha256.hexdigest(), git.hexdigest(), Path(name).suffix in LARGE)

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_large else self.git_sha1

    def lfs(self, name: str) -> dict[str, Any]:
        return {"lfs": {name: self.sha256, "size": self.size, "pointerSize": 134}} if self.is_large else {}


@dataclass
class Repository:
    files: dict[str, StoredFile]
    commit: str
    revisions: set[str]
    token: str | None
    """Files are for those who send this token; everyone sees that the repository exists."""
    is_private: bool = False


@dataclass
class Fault:
    match: str
    act: Callable[["Handler"], bool]
    """Does what is wrong; true when the request has been answered by that."""
    times: float
    methods: tuple[str, ...] = ("GET",)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    range: str | None
    has_token: bool


@dataclass
class Changes:
    """What faults make of the answer that is sent next."""

    cut_after: int | None = None
    stall_after: int | None = None
    keep: int | None = None
    flip: bool = False
    knows_no_ranges: bool = False


def _commit_of(files: Mapping[str, StoredFile]) -> str:
    return hashlib.sha1("".join(f"{path} {file.sha256}\n" for path, file in files.items()).encode()).hexdigest()


class HubServer:
    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.sent: list[Request] = []
        self.stopped = threading.Event()
        self._sent_to_us = tempfile.TemporaryDirectory()
        self.uploads = uploads.Uploads(Path(self._sent_to_us.name))
        self._repositories: dict[tuple[str, str], Repository] = {}
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{port}"
        # Another host name, as the Hub's content network is another host: the client sends no token there.
        self.content_url = f"http://localhost:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No network: connections are refused from now on."""
        self.stopped.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._sent_to_us.cleanup()

    def add(
        self,
        name: str,
        folder: Path,
        *,
        kind: Kind = "model",
        commit: str | None = None,
        branches: tuple[str, ...] = ("main",),
        token: str | None = None,
    ) -> str:
        """Serve a folder as a repository, as it is now; its commit is returned."""
        paths = sorted(p for p in folder.rglob("*") if p.is_file())
        files = {(path := p.relative_to(folder).as_posix()): StoredFile.of(p.resolve(), path) for p in paths}
        commit = commit or _commit_of(files)
        self._repositories[kind, name] = Repository(files, commit, {commit, *branches}, token)
        return commit

    def replace(self, name: str, paths: Mapping[str, Path], *, is_private: bool) -> str:
        """A model's repository as a commit leaves it; its commit is returned."""
        files = {path: StoredFile.of(place, path) for path, place in sorted(paths.items())}
        commit = _commit_of(files)
        self._repositories["model", name] = Repository(files, commit, {commit, "main"}, None, is_private)
        return commit

    def find(self, kind: str, name: str) -> Repository | None:
        return self._repositories.get((kind, name))

    # Faults ------------------------------------------------------------------------------------------------

    def cut(self, match: str, *, after: int, times: float = 1) -> None:
        """The connection breaks `after` bytes of the body."""
        self._change(match, times, cut_after=after)

    def truncate(self, match: str, *, keep: int, times: float = 1) -> None:
        """A shorter file, with a Content-Length that agrees."""
        self._change(match, times, keep=keep)

    def corrupt(self, match: str, *, times: float = 1) -> None:
        """The right size, with one bit of the last byte flipped."""
        self._change(match, times, flip=True)

    def send_whole(self, match: str, *, times: float = 1) -> None:
        """All of the file, whatever range is asked for, as some proxies do."""
        self._change(match, times, knows_no_ranges=True)

    def status(self, match: str, code: int, *, error: str | None = None, times: float = 1) -> None:
        """An error answer, with the Hub's X-Error-Code if one is given; HEAD is answered so as well."""
        self._add(match, times, lambda handler: handler.fail(code, error), METHODS)

    def hang_up(self, match: str, *, times: float = 1) -> None:
        """The connection is closed without an answer."""
        self._add(match, times, lambda handler: handler.hang_up(), METHODS)

    def slow(self, match: str, *, seconds: float, times: float = 1) -> None:
        """The answer comes late."""

        def wait(handler: "Handler") -> bool:
            time.sleep(seconds)
            return False

        self._add(match, times, wait)

    def stall(self, match: str, *, after: int, times: float = 1) -> None:
        """Nothing comes after `after` bytes of the body, until the Hub stops."""
        self._change(match, times, stall_after=after)

    def _change(self, match: str, times: float, **changes: Any) -> None:
        def act(handler: "Handler") -> bool:
            for name, value in changes.items():
                setattr(handler.changes, name, value)
            return False

        self._add(match, times, act)

    def _add(
        self, match: str, times: float, act: Callable[["Handler"], bool], methods: tuple[str, ...] = ("GET",)
    ) -> None:
        self._faults.append(Fault(match, act, times, methods))

    def next_fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.times > 0 and method in fault.methods and fnmatch(path, fault.match):
                    fault.times -= 1
                    return fault
        return None

    # What was asked ----------------------------------------------------------------------------------------

    def downloads(self, file: str = "") -> list[Request]:
        """Requests that were answered with content, of files whose path ends so."""
        return [r for r in self.sent if r.path.endswith(file)]

    def ranges(self, file: str) -> list[str]:
        """The Range headers that came with them."""
        return [r.range for r in self.downloads(file) if r.range]


class Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.changes = Changes()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    @property
    def body(self) -> str:
        return self.content.decode()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.content = uploads.read_content(self)
        has_token = "Authorization" in self.headers
        self.request_made = Request(self.command, path, self.headers.get("Range"), has_token)
        self.hub.requests.append(self.request_made)
        self.changes = Changes()
        fault = self.hub.next_fault(self.command, path)
        try:
            if fault is None or not fault.act(self):
                self._route(url.path, parse_qs(url.query))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _route(self, path: str, query: dict[str, list[str]]) -> None:
        # the revision is quoted once more than the rest: refs/pr/1 is refs%2Fpr%2F1
        if uploads.answer(self, path):
            return
        if found := re.fullmatch(r"/(datasets/)?(.+?)/resolve/([^/]+)/(.+)", path):
            kind, name, revision, file = found.groups()
            self._resolve("dataset" if kind else "model", unquote(name), unquote(revision), unquote(file))
        elif found := re.fullmatch(r"/cdn/(model|dataset)/([^/]+)/(.+)", path):
            self._send_large(found[1], unquote(found[2]), unquote(found[3]))
        elif found := re.fullmatch(
            r"/api/(model|dataset)s/(.+?)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.*))?)?", path
        ):
            kind, name, what, revision, below = found.groups()
            self._describe(kind, unquote(name), what, unquote(revision or "main"), unquote(below or ""), query)
        else:
            self.fail(404, None)

    def _require(self, kind: str, name: str, revision: str) -> Repository | None:
        repository = self.hub.find(kind, name)
        if repository is None:
            # the Hub tells strangers no difference between private and missing
            self.fail(404 if "Authorization" in self.headers else 401, "RepoNotFound")
        elif revision not in repository.revisions:
            self.fail(404, "RevisionNotFound")
            return None
        return repository

    def _describe(
        self, kind: str, name: str, what: str | None, revision: str, below: str, query: dict[str, list[str]]
    ) -> None:
        repository = self._require(kind, name, revision)
        if repository is None:
            return
        if what in {"tree", "paths-info"}:
            wanted = parse_qs(self.body).get("paths", []) if what == "paths-info" else None
            files = [
                {"type": "file", "path": path, "size": f.size, "oid": f.git_sha1, **f.lfs("oid")}
                for path, f in repository.files.items()
                if (path in wanted if wanted is not None else path.startswith(below))
            ]
            self.send_json(files)
            return
        with_blobs = "blobs" in query
        siblings = [
            {"rfilename": path} | ({"size": f.size, "blobId": f.git_sha1, **f.lfs("sha256")} if with_blobs else {})
            for path, f in repository.files.items()
        ]
        gated = "auto" if repository.token else False
        common = {
            "id": name,
            "sha": repository.commit,
            "private": repository.is_private,
            "gated": gated,
            "disabled": False,
        }
        self.send_json({**common, "disabled": False, "tags": [], "downloads": 0, "likes": 0, "siblings": siblings})

    def _resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        repository = self._require(kind, name, revision)
        if repository is None:
            return
        sent = self.headers.get("Authorization")
        if repository.token and sent != f"Bearer {repository.token}":
            self.fail(403 if sent else 401, "GatedRepo")
            return
        file = repository.files.get(path)
        if file is None:
            self.fail(404, "EntryNotFound", {"X-Repo-Commit": repository.commit})
            return
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
        if not file.is_large or self.changes != Changes():
            self._send_file(file, headers)
            return
        linked = {"X-Linked-Size": str(file.size), "X-Linked-ETag": f'"{file.sha256}"'}
        place = f"{self.hub.content_url}/cdn/{kind}/{quote(name, safe='')}/{quote(path)}"
        self._send(302, b"", {**headers, **linked, "Location": place})

    def _send_large(self, kind: str, name: str, path: str) -> None:
        repository = self.hub.find(kind, name)
        assert repository is not None, "only a redirect leads here"
        self._send_file(repository.files[path], {"ETag": f'"{repository.files[path].sha256}"'})

    def _send_file(self, file: StoredFile, headers: dict[str, str]) -> None:
        if self.command == "GET":
            self.hub.sent.append(self.request_made)
        content = self._changed(file)
        size = file.size if content is None else len(content)
        start, code = 0, 200
        asked = "" if self.changes.knows_no_ranges else self.headers.get("Range") or ""
        if found := re.fullmatch(r"bytes=(\d+)-", asked):
            start, code = int(found[1]), 206
            if start >= size:
                self._send(416, b"", {**headers, "Content-Range": f"bytes */{size}"})
                return
            headers = {**headers, "Content-Range": f"bytes {start}-{size - 1}/{size}"}
        if content is not None:
            self._send(code, content[start:], headers)
            return
        with file.path.open("rb") as opened:  # as a whole, a full-size model would not fit into memory
            opened.seek(start)
            self._start(code, size - start, headers)
            if self.command != "HEAD":
                shutil.copyfileobj(opened, self.wfile)

    def _changed(self, file: StoredFile) -> bytes | None:
        """What faults make of a file; None where there is none."""
        if self.changes == Changes():
            return None
        content = bytearray(file.path.read_bytes())
        if self.changes.flip:
            content[-1] ^= 1
        return bytes(content if self.changes.keep is None else content[: self.changes.keep])

    def send_json(self, value: object, code: int = 200) -> None:
        self._send(code, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def fail(self, code: int, error: str | None, more: dict[str, str] | None = None) -> bool:
        headers = {**(more or {}), **({"X-Error-Code": error, "X-Error-Message": error} if error else {})}
        self._send(code, json.dumps({"error": error or "wrong"}).encode(), headers)
        return True

    def hang_up(self) -> bool:
        self.close_connection = True
        return True

    def _start(self, code: int, size: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def _send(self, code: int, content: bytes, headers: dict[str, str]) -> None:
        self._start(code, len(content), headers)
        if self.command == "HEAD":
            return
        if self.changes.stall_after is not None:
            self.wfile.write(content[: self.changes.stall_after])
            self.hub.stopped.wait()
            self.close_connection = True
        elif self.changes.cut_after is not None:
            self.wfile.write(content[: self.changes.cut_after])
            self.close_connection = True
        else:
            self.wfile.write(content)

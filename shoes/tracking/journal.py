"""The run's own record: an append-only file of JSON lines, each event exactly once.

Every event has an id of its own, `train/17` say. An event that is there already is not written again: a
training that goes on from a checkpoint runs some steps a second time, with the same result, and the journal
keeps the first. A last line cut off by a crash is removed when the journal is opened, and one cut off by a full disk
at once. A line in the middle that is no event, because the disk lost some of it, is passed over: a gap in a curve is
no reason to lose a night. The writer says so when it opens the journal.
"""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from shoes.durability import sync

log = logging.getLogger(__name__)
Event = dict[str, Any]
_FIELDS: dict[str, dict[str, type]] = {
    "metrics": {"step": int, "values": dict},
    "parameters": {"values": dict},
    "tags": {"values": dict},
    "image": {"key": str, "step": int, "path": str},
    "artifact": {"path": str, "folder": str},
    "data_set": {"name": str, "digest": str, "context": str, "about": dict},
    "status": {"status": str, "step": int},
}
"""What events of a kind hold beside their id and time; other kinds hold what they like."""


class Journal:
    """Writes events; one writer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(path)
        _tell_of_damage(path)
        self._seen = {event["id"] for event in read_events(path)}
        self._file = path.open("ab", buffering=0)
        self._end = os.fstat(self._file.fileno()).st_size
        self._is_torn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OSError as failure:
            if error is None:
                raise
            log.warning("%s could not be put on the disk: %s", self.path, failure)  # what ended the block counts more

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._seen

    def write(self, event_id: str, kind: str, **payload: Any) -> bool:
        """Append an event unless its id is there; true if it was written. Times are Unix milliseconds.

        Raises:
            OSError: it could not be written, and nothing of it is left; it may be written later.
        """
        if event_id in self._seen:
            return False
        event = {"id": event_id, "time": time.time_ns() // 1_000_000, "kind": kind, **payload}
        self._append(_line(event))
        self._seen.add(event_id)
        return True

    def _append(self, line: bytes) -> None:
        if self._is_torn:
            self._cut()
        self._is_torn = True
        try:
            rest = line
            while rest:  # a disk that fills up takes a part first
                rest = rest[self._file.write(rest) :]
        except BaseException:
            with suppress(OSError):  # the next event tries again
                self._cut()
            raise
        self._is_torn = False
        self._end += len(line)

    def _cut(self) -> None:
        """Remove what there is of a line that was not written to its end."""
        os.ftruncate(self._file.fileno(), self._end)
        self._is_torn = False

    def metrics(self, event_id: str, step: int, values: Mapping[str, float]) -> bool:
        """Metrics of one step."""
        return self.write(event_id, "metrics", step=step, values=dict(values))

    def parameters(self, values: Mapping[str, Any]) -> bool:
        """The run's parameters; they never change."""
        return self.write("parameters", "parameters", values={k: str(v) for k, v in values.items()})

    def tags(self, event_id: str, values: Mapping[str, str]) -> bool:
        """Tags; a later event may set them anew."""
        return self.write(event_id, "tags", values=dict(values))

    def image(self, event_id: str, key: str, step: int, path: Path) -> bool:
        """A picture of one step, shown with a slider in MLflow."""
        return self.write(event_id, "image", key=key, step=step, path=str(path))

    def artifact(self, event_id: str, path: Path, folder: str) -> bool:
        """A file, or all files of a folder, to be kept with the run below `folder`."""
        return self.write(event_id, "artifact", path=str(path), folder=folder)

    def data_set(self, event_id: str, *, name: str, digest: str, context: str, about: Mapping[str, Any]) -> bool:
        """A data set that the run uses, as `training`, `validation` or `testing`.

        The digest has 36 characters at most. `about` holds source_type and, as JSON, source, schema and profile.
        """
        return self.write(event_id, "data_set", name=name, digest=digest, context=context, about=dict(about))

    def status(self, event_id: str, status: str, *, step: int, time: int | None = None) -> bool:
        """The run's state in MLflow's words: RUNNING, SCHEDULED (it goes on later), FINISHED, FAILED or KILLED.

        `time` is given, in Unix milliseconds, where the state is found out later.
        """
        when = {} if time is None else {"time": time}
        return self.write(event_id, "status", status=status, step=step, **when)

    def sync(self) -> None:
        """Put everything on the disk: before a checkpoint counts, the journal holds all of its steps.

        Raises:
            OSError: some of it may not be there.
        """
        sync(self._file.fileno())

    def close(self) -> None:
        """Sync and close."""
        if not self._file.closed:
            try:
                self.sync()
            finally:
                self._file.close()


def _line(event: Event) -> bytes:
    """An event as JSON, NaN and infinity as Python's own module writes them.

    The faster writer takes a third of the time between two steps; what it has no word for it says is null, or refuses.
    """
    try:
        line = orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:
        line = b"null"
    if b"null" not in line:
        return line
    return json.dumps(event, ensure_ascii=False, allow_nan=True).encode() + b"\n"


def read_events(path: Path, offset: int = 0) -> Iterator[Event]:
    """The journal's whole lines from a byte offset on."""
    for event, _ in read_with_offsets(path, offset):
        yield event


def last_status(path: Path) -> Event | None:
    """The newest event that says in which state the run is."""
    found = None
    for line, _ in _read_lines(path):
        if b'"status"' not in line:  # most lines need not be understood
            continue
        if (event := _parse(line)) is not None and event["kind"] == "status":
            found = event
    return found


def read_with_offsets(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Events, each with the byte offset behind it; a line that is still being written is left for later."""
    for line, end in _read_lines(path, offset):
        if (event := _parse(line)) is not None:
            yield event, end


def _read_lines(path: Path, offset: int = 0) -> Iterator[tuple[bytes, int]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield line, (offset := offset + len(line))


def _parse(line: bytes) -> Event | None:
    """The event of a line; None if it is none, or lacks something."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if not isinstance(event, dict):
        return None
    fields = {"id": str, "time": int, "kind": str}
    if not _has(event, fields) or not _has(event, _FIELDS.get(event["kind"], {})):
        return None
    return event


def _has(event: Event, fields: Mapping[str, type]) -> bool:
    return all(isinstance(event.get(name), kind) for name, kind in fields.items())


def _tell_of_damage(path: Path) -> None:
    broken = [number for number, (line, _) in enumerate(_read_lines(path), start=1) if _parse(line) is None]
    if broken:
        lines = f"line {broken[0]}" if len(broken) == 1 else f"{len(broken)} lines, the first one being {broken[0]},"
        log.warning("%s of %s can't be read and is passed over: the disk may be failing", lines, path)


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)

"""The run's own record: an append-only file of JSON lines, each event exactly once.

Every event has an id of its own, `train/17` say. An event that is there already is not written again: a
training that goes on from a checkpoint runs some steps a second time, with the same result, and the journal
keeps the first. A last line cut off by a crash is removed when the journal is opened.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Event = dict[str, Any]


class Journal:
    """Writes events; one writer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(path)
        self._seen = {event["id"] for event in read_events(path)}
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._seen

    def write(self, event_id: str, kind: str, **payload: Any) -> bool:
        """Append an event unless its id is there; true if it was written. Times are Unix milliseconds."""
        if event_id in self._seen:
            return False
        event = {"id": event_id, "time": time.time_ns() // 1_000_000, "kind": kind, **payload}
        self._file.write(json.dumps(event, ensure_ascii=False, allow_nan=True) + "\n")
        self._file.flush()
        self._seen.add(event_id)
        return True

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

    def status(self, event_id: str, status: str, *, step: int) -> bool:
        """The run's state in MLflow's words: RUNNING, FINISHED, FAILED or KILLED."""
        return self.write(event_id, "status", status=status, step=step)

    def sync(self) -> None:
        """Put everything on the disk: before a checkpoint counts, the journal holds all of its steps."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close."""
        if not self._file.closed:
            self.sync()
            self._file.close()


def read_events(path: Path, offset: int = 0) -> Iterator[Event]:
    """The journal's whole lines from a byte offset on."""
    for event, _ in read_with_offsets(path, offset):
        yield event


def read_with_offsets(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Events, each with the byte offset behind it; a line that is still being written is left for later."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield json.loads(line), (offset := offset + len(line))


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)

"""What `shoes up` runs, kept beside the data: for `shoes status` and `shoes down`, and for a start after a crash."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from pydantic import ValidationError

from shoes.errors import Busy
from shoes.reports import Report
from shoes.settings import Settings
from shoes.storage import write_text

NUM_FLOW_RUNS = 500
"""As many are known at most; what was longer ago is taken up by nobody."""


class Seat(Report):
    """A process, told apart from a later one of the same number by when it was made."""

    pid: int
    created: float
    """Unix seconds."""

    @property
    def is_alive(self) -> bool:
        """It still runs."""
        return self.process() is not None

    def process(self) -> psutil.Process | None:
        """The process itself, if it still runs."""
        try:
            found = psutil.Process(self.pid)
            # Linux gives the time in ticks since the start of the machine, whose own time may be corrected
            same = abs(found.create_time() - self.created) < 2
            return found if same and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def seat(pid: int) -> Seat:
    """The seat of a process that runs."""
    return Seat(pid=pid, created=psutil.Process(pid).create_time())


class Running(Report):
    """What one `shoes up` has started."""

    up: Seat
    since: datetime
    is_ready: bool
    prefect_api: str
    """Prefect's API: its own server's, or the team's."""
    dashboard: str
    mlflow: str
    programs: dict[str, Seat]
    """Those that it started, by their name."""


class FlowRuns(Report):
    """Flow runs that have had a process here."""

    machine: str
    ids: tuple[str, ...]


def _file(settings: Settings) -> Path:
    return settings.data / "servers" / "running.json"


def read(settings: Settings) -> Running | None:
    """The last `shoes up` of this data folder; it may be dead by now. None: there was none, or it stopped well."""
    try:
        return Running.model_validate_json(_file(settings).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None


def running(settings: Settings) -> Running | None:
    """The `shoes up` of this data folder that runs now."""
    found = read(settings)
    return found if found is not None and found.up.is_alive else None


def write(settings: Settings, found: Running) -> None:
    """Keep what runs."""
    write_text(_file(settings), found.model_dump_json(indent=2))


def remove(settings: Settings) -> None:
    """Nothing runs any more."""
    _file(settings).unlink(missing_ok=True)


@contextmanager
def seated(settings: Settings) -> Iterator[None]:
    """Inside, this process is known to run flows by itself: `shoes up` does not take its runs for lost ones."""
    file = _seats(settings) / f"{os.getpid()}.json"
    write_text(file, seat(os.getpid()).model_dump_json())
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def anybody_seated(settings: Settings) -> bool:
    """A process that runs flows by itself is alive; what dead ones left is removed."""
    alive = False
    for file in _seats(settings).glob("[!.]*.json"):
        if Seat.model_validate_json(file.read_text(encoding="utf-8")).is_alive:
            alive = True
        else:
            file.unlink(missing_ok=True)
    return alive


def _seats(settings: Settings) -> Path:
    return settings.data / "servers" / "runs"


def flow_runs(settings: Settings, machine: str) -> list[str]:
    """Ids of the flow runs that have had a process on a machine, the latest last.

    A data folder that was carried from another machine knows those of that one, which are not asked for.
    """
    try:
        known = FlowRuns.model_validate_json(_flow_runs(settings).read_bytes())
    except (FileNotFoundError, ValidationError):
        return []
    return list(known.ids) if known.machine == machine else []


def note_flow_runs(settings: Settings, machine: str, ids: Iterable[str]) -> None:
    """Keep that flow runs have a process on this machine."""
    known = flow_runs(settings, machine)
    if new := [one for one in ids if one not in known]:
        kept = FlowRuns(machine=machine, ids=tuple([*known, *new][-NUM_FLOW_RUNS:]))
        write_text(_flow_runs(settings), kept.model_dump_json(indent=2))


def _flow_runs(settings: Settings) -> Path:
    return settings.data / "servers" / "flow-runs.json"


def only_one(settings: Settings) -> FileLock:
    """The lock of a data folder's servers, held; release it at the end. The system frees it when the process dies.

    Raises:
        Busy: `shoes up` runs already.
    """
    lock = FileLock(_file(settings).with_name("lock"), timeout=0)
    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout as error:
        raise Busy(_busy(running(settings))) from error
    return lock


def _busy(found: Running | None) -> str:
    if found is None:
        return "`shoes up` is starting or stopping already for this data folder. Wait a moment."
    return (
        f"`shoes up` runs already (process {found.up.pid}, since {found.since.astimezone():%a %H:%M}): "
        f"Prefect {found.dashboard}, MLflow {found.mlflow}. Stop it with `shoes down`."
    )

"""One computation at a time on a device of this machine, whoever starts it: a worker, a second one, the command line.

Who comes later waits in line: it says once for whom, gives way to a signal at once, and goes on when the device is
free. The claim is a file lock, which the system frees when its process dies. A stage may be called by another one
that holds the device already: the claim belongs to the thread, and counts.
"""

import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from shoes import clock
from shoes.errors import Busy
from shoes.storage import write_text

log = logging.getLogger(__name__)
SECONDS_BETWEEN_TRIES = 0.5
LOCK = ".lock"


@dataclass(frozen=True)
class Holder:
    """Who computes on a device."""

    device: str
    pid: int
    what: str
    """The recipe's title and the stage, for people: overnight sd15 r8 3000, training."""
    since: str
    """ISO 8601, by this machine's clock."""

    def __str__(self) -> str:
        return f"'{self.what}' since {datetime.fromisoformat(self.since):%H:%M} (process {self.pid})"


@contextmanager
def claimed(names: Sequence[str], what: str, lock_dir: Path, *, until: datetime | None = None) -> Iterator[None]:
    """Hold devices while the block runs; wait for them before it.

    Args:
        names: as `lock_names` gives them; taken in that order by everybody, so that nobody waits in a circle.
        what: who asks, for the others to read.
        lock_dir: the same folder for everything that computes on this machine.
        until: how long waiting makes sense, aware; None: for ever.

    Raises:
        Busy: it was not free until then; who held it is in the message.
    """
    with ExitStack() as held:
        for name in names:
            held.enter_context(_one(name, what, lock_dir, until))
        yield


@contextmanager
def _one(name: str, what: str, lock_dir: Path, until: datetime | None) -> Iterator[None]:
    lock = _lock(lock_dir / f"{name}{LOCK}")
    is_mine_already = lock.is_locked
    _acquire(lock, name, lock_dir, until)
    note = _note(lock_dir, name)
    try:
        if not is_mine_already:
            _sign(note, Holder(name, os.getpid(), what, clock.now().isoformat(timespec="seconds")))
        yield
    finally:
        if not is_mine_already:
            with suppress(OSError):
                note.unlink()
        lock.release()


def _acquire(lock: FileLock, name: str, lock_dir: Path, until: datetime | None) -> None:
    told: Holder | None = None
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = _signed(lock_dir, name)
            if until is not None and clock.seconds_between(clock.now(), until) <= 0:
                raise Busy(_in_use(name, holder)) from None
            if holder is not None and holder != told:
                log.warning("%s: waiting", _in_use(name, holder))
                told = holder
            time.sleep(SECONDS_BETWEEN_TRIES)
        else:
            with suppress(OSError):
                os.utime(lock.lock_file)  # macOS removes from its temporary folder what is three days old, held or not
            if told is not None:
                log.info("the device %s is free: going on", name)
            return


def holders(lock_dir: Path) -> list[Holder]:
    """Who computes on this machine now, by device."""
    names = sorted(path.name.removesuffix(LOCK) for path in lock_dir.glob(f"[!.]*{LOCK}"))
    return [holder for name in names if _is_held(lock_dir, name) and (holder := _signed(lock_dir, name))]


def lock_names(device: str, processes: int = 1, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The devices that a computation takes: mps, cpu, or each of the GPUs by its number on this machine.

    Args:
        device: as PyTorch calls it: cuda, cuda:1, mps, cpu.
        processes: that share the computation, one per GPU.
        environment: where CUDA_VISIBLE_DEVICES says which GPUs this process calls 0, 1, …
    """
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return [kind]
    visible = [part.strip() for part in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    first = int(number or 0)
    wanted = range(first, first + 1) if number else range(max(1, processes))
    return sorted(f"cuda-{_plain(visible[n]) if n < len(visible) else n}" for n in wanted)


def _plain(name: str) -> str:
    """A GPU may be named by its number or a long id."""
    return re.sub(r"[^A-Za-z0-9-]", "-", name)


@cache
def _lock(path: Path) -> FileLock:
    """One lock object for a file: it counts how often its thread holds it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return FileLock(path)


def _is_held(lock_dir: Path, name: str) -> bool:
    """By anybody, this process too."""
    lock = _lock(lock_dir / f"{name}{LOCK}")
    if lock.is_locked:
        return True
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True


def _note(lock_dir: Path, name: str) -> Path:
    return lock_dir / f"{name}.json"


def _sign(note: Path, holder: Holder) -> None:
    try:
        write_text(note, json.dumps(asdict(holder)))
    except OSError as error:  # the lock itself is held; only the others' words are poorer
        log.debug("who holds %s can't be written down: %s", holder.device, error)


def _signed(lock_dir: Path, name: str) -> Holder | None:
    """What the holder wrote; None where it has not come to that."""
    try:
        holder = Holder(**json.loads(_note(lock_dir, name).read_text(encoding="utf-8")))
        datetime.fromisoformat(holder.since)
    except (OSError, ValueError, TypeError):
        return None
    return holder


def _in_use(name: str, holder: Holder | None) -> str:
    return f"the device {name} is used by {holder or 'another process'}"

"""Installing, removing and looking at the service."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shoes.errors import ServiceError
from shoes.service.definition import Definition, differences
from shoes.service.manager import Manager
from shoes.storage import write_bytes


@dataclass(frozen=True)
class Installed:
    """What an installation did."""

    is_new: bool
    """False: the same service ran already, and was left alone."""
    note: str


@dataclass(frozen=True)
class Status:
    """The service as it is."""

    is_installed: bool
    is_loaded: bool
    pid: int | None
    since: datetime | None
    written: Definition | None
    """What the installed file says; nothing when there is none, or it can't be read."""
    differences: tuple[str, ...]
    """From what would be installed now."""

    @property
    def is_good(self) -> bool:
        """Installed as it would be now, and running."""
        return self.pid is not None and self.written is not None and not self.differences


def install(manager: Manager, definition: Definition) -> Installed:
    """Write the service's file and start it; one that is installed is replaced, and left alone if it is the same.

    Raises:
        ServiceError: the system refused; what was there before is there again.
    """
    content, former = manager.render(definition), _content(manager.file)
    if content == former and manager.state().is_loaded:
        return Installed(is_new=False, note="")
    write_bytes(manager.file, content)
    try:
        return Installed(is_new=True, note=manager.load())
    except (ServiceError, KeyboardInterrupt):
        _undo(manager, former)
        raise


def _undo(manager: Manager, former: bytes | None) -> None:
    """What fails here says the same again: the first error is the one to read."""
    if former is None:
        with suppress(ServiceError):
            manager.unload()
        manager.file.unlink(missing_ok=True)
        with suppress(ServiceError):
            manager.forget()
    else:
        write_bytes(manager.file, former)
        with suppress(ServiceError):
            manager.load()


def uninstall(manager: Manager) -> bool:
    """Stop the service and remove its file; false when there was none.

    Raises:
        ServiceError: it could not be stopped, and stays.
    """
    if not manager.file.exists() and not manager.state().is_loaded:
        return False
    manager.unload()
    manager.file.unlink(missing_ok=True)
    manager.forget()
    return True


def status(manager: Manager, wanted: Definition) -> Status:
    """What is installed and running, and how it differs from what would be installed now."""
    content, state = _content(manager.file), manager.state()
    written = manager.read(content) if content is not None else None
    found = differences(written, wanted) if written else []
    if content is not None and not found and content != manager.render(wanted):
        found = ["it was written by another version of this program, or by hand"]
    return Status(
        is_installed=content is not None,
        is_loaded=state.is_loaded,
        pid=state.pid,
        since=_started(state.pid) if state.pid else None,
        written=written,
        differences=tuple(found),
    )


def _started(pid: int) -> datetime | None:
    import psutil

    try:
        return datetime.fromtimestamp(psutil.Process(pid).create_time(), UTC)
    except psutil.Error:
        return None


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None

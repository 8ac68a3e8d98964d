"""What must survive a power cut is put past the drive's own memory where the system can ask for that: F_FULLFSYNC."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from shoes import durability, nights, storage
from shoes.durability import make_engines_durable, sync_path
from shoes.settings import PROJECT_ROOT, load_settings
from shoes.tracking.database import make_database
from shoes.tracking.journal import Journal
from shoes.tracking.mirror import connect
from tests.training.test_checkpoints import snapshot

FULL = 51
"""F_FULLFSYNC's number on macOS."""


class Drive:
    """The system's calls as macOS has them, and what was asked of them, by the name of the file or folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fault: int | None = None) -> None:
        self.handed_over: list[str] = []
        self.full: list[str] = []
        self.fault = fault
        self._fcntl = fcntl.fcntl
        monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULL, raising=False)
        monkeypatch.setattr(fcntl, "fcntl", self._ask)
        monkeypatch.setattr(os, "fsync", lambda descriptor: self.handed_over.append(self._name(descriptor)))

    def _name(self, descriptor: int) -> str:
        return Path(f"/proc/self/fd/{descriptor}").readlink().name

    def _ask(self, descriptor: int, command: int, *words: int) -> int:
        if command != FULL:
            return int(self._fcntl(descriptor, command, *words))
        if self.fault is not None:
            raise OSError(self.fault, os.strerror(self.fault))
        self.full.append(self._name(descriptor))
        return 0


def a_text(folder: Path) -> None:
    storage.write_text(folder / "decisions.json", "{}")


def a_schedule(folder: Path) -> None:
    nights.save(nights.Schedule(timezone="UTC"), folder)


def a_checkpoint(folder: Path) -> None:
    from shoes.training import checkpoint

    checkpoint.save(folder, snapshot(3), keep=1)


def a_journal(folder: Path) -> None:
    with Journal(folder / "journal.jsonl") as journal:
        journal.metrics("train/1", 1, {"train/loss": 0.5})


def a_database(folder: Path) -> None:
    make_database(f"sqlite:///{folder / 'mlflow.db'}")


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (a_text, "decisions.json"),
        (a_schedule, "schedule.toml"),
        (a_checkpoint, "step-000003"),
        (a_journal, "journal.jsonl"),
        (a_database, "mlflow.db"),
    ],
)
def test_it_is_past_the_drives_memory_before_it_has_its_name_and_so_is_the_name(
    write: Callable[[Path], None], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = Drive(monkeypatch)
    write(tmp_path)
    assert any(name in full for full in drive.full), "the file or folder itself, under its temporary name"
    assert name == "journal.jsonl" or tmp_path.name in drive.full, "and the folder that lists it"


def test_the_files_of_a_folder_are_handed_over_and_synced_once_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drive takes tens of milliseconds for each full sync; a data set has thousands of files."""
    drive = Drive(monkeypatch)
    with storage.new_folder(tmp_path / "split") as folder:
        for number in range(20):
            (folder / f"{number}.png").write_bytes(b"x")
    assert {f"{number}.png" for number in range(20)} | {"manifest.json"} <= set(drive.handed_over)
    assert len(drive.full) == 2
    assert "split" in drive.full[0]


@pytest.mark.parametrize("fault", [errno.ENOTSUP, errno.EINVAL, errno.ENOTTY])
def test_a_drive_without_such_a_call_is_synced_as_it_can(
    fault: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = Drive(monkeypatch, fault)
    storage.write_text(tmp_path / "a.json", "{}")
    assert len(drive.handed_over) == 2


def test_a_drive_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Drive(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        storage.write_text(tmp_path / "a.json", "{}")
    assert list(tmp_path.iterdir()) == []


def test_only_a_folder_may_be_one_that_can_not_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    sync_path(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Invalid argument"):
        sync_path(tmp_path / "file")


def pragmas(run: Callable[[str], int]) -> tuple[int, int]:
    return run("PRAGMA fullfsync"), run("PRAGMA checkpoint_fullfsync")


def test_databases_that_others_open_in_this_process_are_synced_fully(own_world: Path) -> None:
    """MLflow's, and what an asynchronous engine such as Prefect's opens."""
    connect(f"sqlite:///{own_world}/mlflow.db")
    with create_engine(f"sqlite:///{own_world}/other.db").connect() as base:
        assert pragmas(lambda words: base.execute(text(words)).scalar_one()) == (1, 1)

    async def ask() -> list[int]:
        engine = create_async_engine(f"sqlite+aiosqlite:///{own_world}/asynchronous.db")
        async with engine.connect() as base:
            found = [(await base.execute(text(f"PRAGMA {name}"))).scalar_one() for name in names]
        await engine.dispose()
        return found

    import asyncio

    names = ("fullfsync", "checkpoint_fullfsync")
    make_engines_durable()
    assert asyncio.run(ask()) == [1, 1]
    with closing(durability.connect(own_world / "mlflow.db")) as own:
        assert pragmas(lambda words: own.execute(words).fetchone()[0]) == (1, 1)


SERVER = """
import sys
from sqlalchemy import create_engine, text
with create_engine("sqlite://").connect() as base:
    print(sys.argv[1:], __name__, base.execute(text("PRAGMA fullfsync")).scalar_one())
"""


def test_prefects_server_is_started_so_that_its_database_is_too(own_world: Path) -> None:
    from shoes.servers.program import prefect_server

    program = prefect_server(load_settings())
    assert program is not None
    assert program.command[1:6] == ("-m", "shoes.servers.durable", "prefect", "server", "start")
    (own_world / "stand_in.py").write_text(SERVER)
    command = [sys.executable, "-m", "shoes.servers.durable", "stand_in", "start", "--port", "4200"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(own_world), str(PROJECT_ROOT)))}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "['start', '--port', '4200'] __main__ 1\n"

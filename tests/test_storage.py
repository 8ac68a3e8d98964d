"""Files are whole or not there."""

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shoes import storage
from shoes.tensors import write_tensors
from tests.limits import fill, on_small_disk, with_small_files

BIG = 300_000


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "result"
    with storage.new_folder(target) as folder:
        (folder / "a.txt").write_text("a")
        assert not target.exists()
    assert storage.is_whole(target)


def test_a_failed_write_leaves_the_former_folder_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "result"
    with storage.new_folder(target) as folder:
        (folder / "a.txt").write_text("old")

    def fail() -> None:
        with storage.new_folder(target) as folder:
            (folder / "a.txt").write_text("new")
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert (target / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_leftovers_of_a_writer_that_died_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".partial-result-999"
    leftover.mkdir()
    (leftover / "x").touch()
    with storage.new_folder(tmp_path / "result") as folder:
        (folder / "a").touch()
    assert not leftover.exists()


@pytest.mark.parametrize("harm", ["flip", "truncate", "delete", "no manifest", "broken manifest"])
def test_every_damage_is_seen(tmp_path: Path, harm: str) -> None:
    target = tmp_path / "result"
    with storage.new_folder(target) as folder:
        (folder / "a.bin").write_bytes(bytes(1000))
    file = target / "a.bin"
    match harm:
        case "flip":
            file.write_bytes(bytes(500) + b"\x01" + bytes(499))
        case "truncate":
            file.write_bytes(bytes(999))
        case "delete":
            file.unlink()
        case "no manifest":
            (target / storage.MANIFEST).unlink()
        case "broken manifest":
            (target / storage.MANIFEST).write_text("{")
    assert storage.damage(target)
    assert not storage.is_whole(target)


def test_fingerprints_are_of_values() -> None:
    assert storage.fingerprint({"a": 1, "b": 2}) == storage.fingerprint({"b": 2, "a": 1})
    assert storage.fingerprint({"a": 1}) != storage.fingerprint({"a": 2})
    assert storage.fingerprint("a", "b") != storage.fingerprint("ab")


def test_write_text_replaces_atomically(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file.json"
    storage.write_text(file, "one")
    storage.write_text(file, "two")
    assert file.read_text() == "two"
    assert [path.name for path in file.parent.iterdir()] == ["file.json"]


def text_in(folder: Path, value: int, count: int) -> None:
    storage.write_text(folder / "result", str(value) * count)


def tensors_in(folder: Path, value: int, count: int) -> None:
    import torch

    write_tensors(folder / "result", {"a": torch.full((count,), value)})


def folder_in(folder: Path, value: int, count: int) -> None:
    with storage.new_folder(folder / "result") as partial:
        (partial / "small").write_text(str(value))
        (partial / "large").write_bytes(bytes([value]) * count)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


Write = Callable[[Path, int, int], None]
WRITERS: list[Write] = [text_in, tensors_in, folder_in]


def require_all_or_nothing(write: Write, folder: Path) -> None:
    """A write that fails leaves what there was before, and nothing when there was nothing."""
    for had_one in (False, True):
        if had_one:
            write(folder, 1, 10)
        before = content(folder)
        with pytest.raises(OSError, match=r"No space left|File too large") as caught:
            write(folder, 2, BIG)
        assert storage.is_disk_full(caught.value)
        assert content(folder) == before
        assert [path.name for path in folder.iterdir() if path.name != "filler"] == ["result"] * had_one
    write(folder, 3, 10)
    assert content(folder) != before


def write_with_small_files(folder: Path) -> None:
    for write in WRITERS:
        (folder / write.__name__).mkdir()
        require_all_or_nothing(write, folder / write.__name__)


def write_on_full_disk(folder: Path) -> None:
    filler = fill(folder, spare=BIG // 2)
    for write in WRITERS:
        require_all_or_nothing(write, folder)
        storage.remove_path(folder / "result")
    filler.unlink()
    write_tensors_of_others(folder)


def write_tensors_of_others(folder: Path) -> None:
    """Libraries that write themselves say it in words of their own."""
    import torch
    from safetensors.torch import save_file

    fill(folder, spare=BIG // 2)
    with pytest.raises(Exception, match="o space left") as caught:
        save_file({"a": torch.zeros(BIG)}, folder / "tensors")
    assert not isinstance(caught.value, OSError)
    assert storage.is_disk_full(caught.value)
    (folder / "tensors").unlink(missing_ok=True)
    database = sqlite3.connect(folder / "database")
    with pytest.raises(sqlite3.OperationalError) as refused:
        database.execute("create table t as select randomblob(?)", (BIG,))
    assert storage.is_disk_full(refused.value)


def test_a_file_that_may_not_grow_is_not_half_there(tmp_path: Path) -> None:
    with_small_files(write_with_small_files, tmp_path, num_bytes=BIG // 2)


def test_a_full_disk_holds_no_halves(tmp_path: Path) -> None:
    on_small_disk(write_on_full_disk, tmp_path, kilobytes=4096)


@pytest.mark.parametrize("write", WRITERS)
def test_what_the_disk_does_not_confirm_is_not_there(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "the disk is failing")

    write(tmp_path, 1, 10)
    before = content(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="failing") as caught:
            write(tmp_path, 2, 10)
    assert not storage.is_disk_full(caught.value)
    assert content(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


@pytest.mark.parametrize("write", WRITERS)
def test_all_of_it_is_put_on_the_disk(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: asked.add(os.fstat(descriptor).st_ino))
    write(tmp_path, 1, 10)
    assert {path.stat().st_ino for path in [tmp_path, *tmp_path.rglob("*")]} <= asked


def test_a_folder_that_can_not_appear_leaves_the_former_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_in(tmp_path, 1, 10)
    before = content(tmp_path)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if target == tmp_path / "result" and "old" not in self.name:
            raise OSError(errno.EIO, "the disk is failing")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(OSError, match="failing"):
            folder_in(tmp_path, 2, 10)
    assert content(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_the_writer_of_another_folder_is_left_alone(tmp_path: Path) -> None:
    with storage.new_folder(tmp_path / "result-2") as other:
        (other / "a").touch()
        folder_in(tmp_path, 1, 10)
        assert other.is_dir()
    assert storage.is_whole(tmp_path / "result-2")


def test_leftovers_are_those_of_the_dead(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    outer = tmp_path / "deep" / f".partial-folder-{dead.pid}"
    for name in (outer / f".partial-file-{dead.pid}", tmp_path / f".partial-folder-{os.getpid()}"):
        name.mkdir(parents=True)
    file = tmp_path / f".partial-file.json-{dead.pid}"
    file.touch()
    assert storage.leftovers(tmp_path) == [file, outer]
    for path in storage.leftovers(tmp_path):
        storage.remove_path(path)
    assert [path.name for path in tmp_path.rglob(".partial-*")] == [f".partial-folder-{os.getpid()}"]


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EFBIG, "File too large"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (PermissionError(errno.EACCES, "Permission denied", "/no space left on device"), False),
        (sqlite3.OperationalError("database or disk is full"), True),
        (sqlite3.OperationalError("database is locked"), False),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (RuntimeError("MPS backend out of memory"), False),
        (caused(ValueError("it failed"), OSError(errno.ENOSPC, "No space left on device")), True),
        (caused(ValueError("it failed"), KeyError("x")), False),
    ],
    ids=str,
)
def test_a_full_disk_is_told_from_other_trouble(error: Exception, is_full: bool) -> None:
    assert storage.is_disk_full(error) is is_full

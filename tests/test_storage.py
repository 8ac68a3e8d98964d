"""Files are whole or not there."""

from pathlib import Path

import pytest

from shoes import storage


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

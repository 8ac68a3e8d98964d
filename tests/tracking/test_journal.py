"""The journal keeps every event exactly once, whatever happens to its writer."""

import errno
import json
import logging
import math
import os
from pathlib import Path

import numpy as np
import pytest

from shoes.storage import is_disk_full
from shoes.tracking.journal import Journal, last_status, read_events, read_with_offsets
from tests.limits import fill, on_small_disk, with_small_files

LONG = "x" * 3000


def test_an_event_is_kept_once(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    with Journal(file) as journal:
        assert journal.metrics("train/1", 1, {"loss": 0.5})
        assert not journal.metrics("train/1", 1, {"loss": 0.7})
    with Journal(file) as journal:
        assert not journal.metrics("train/1", 1, {"loss": 0.9})
        assert journal.metrics("train/2", 2, {"loss": 0.4})
    assert [event["values"]["loss"] for event in read_events(file)] == [0.5, 0.4]


def test_a_line_cut_off_by_a_crash_is_removed_and_can_be_written_again(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    with Journal(file) as journal:
        journal.metrics("train/1", 1, {"loss": 0.5})
        journal.metrics("train/2", 2, {"loss": 0.4})
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    assert [event["id"] for event in read_events(file)] == ["train/1"]
    with Journal(file) as journal:
        assert journal.metrics("train/2", 2, {"loss": 0.4})
    assert [event["id"] for event in read_events(file)] == ["train/1", "train/2"]


def test_a_reader_goes_on_where_it_stopped(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    with Journal(file) as journal:
        journal.metrics("train/1", 1, {"loss": 0.5})
        *_, (_, offset) = read_with_offsets(file)
        journal.metrics("train/2", 2, {"loss": 0.4})
        assert [event["id"] for event in read_events(file, offset)] == ["train/2"]


def ids(file: Path) -> list[str]:
    return [event["id"] for event in read_events(file)]


def fits(journal: Journal, number: int) -> bool:
    try:
        return journal.tags(f"event/{number}", {"a": LONG})
    except OSError as error:
        if is_disk_full(error):
            return False
        raise


def require_whole_lines(journal: Journal) -> int:
    """Write until nothing more fits; only whole lines are there. The number of the event that failed."""
    failed = next(number for number in range(1000) if not fits(journal, number))
    content = journal.path.read_bytes()
    assert content.endswith(b"\n")
    assert content.count(b"\n") == failed > 0
    assert f"event/{failed}" not in journal
    return failed


def write_with_small_files(folder: Path) -> None:
    with Journal(folder / "journal.jsonl") as journal:
        failed = require_whole_lines(journal)
        assert journal.tags("short", {"a": "b"})
    assert ids(journal.path) == [*(f"event/{number}" for number in range(failed)), "short"]


def write_on_full_disk(folder: Path) -> None:
    with Journal(folder / "journal.jsonl") as journal:
        filler = fill(folder, spare=20_000)
        failed = require_whole_lines(journal)
        filler.unlink()
        assert journal.tags(f"event/{failed}", {"a": LONG})
    assert ids(journal.path) == [f"event/{number}" for number in range(failed + 1)]


def test_a_journal_that_may_not_grow_holds_whole_lines(tmp_path: Path) -> None:
    with_small_files(write_with_small_files, tmp_path, num_bytes=10_000)


def test_a_journal_on_a_full_disk_goes_on_when_there_is_room(tmp_path: Path) -> None:
    on_small_disk(write_on_full_disk, tmp_path, kilobytes=1024)


def test_a_half_line_that_could_not_be_removed_at_once_is_removed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "journal.jsonl"

    def fail(descriptor: int, length: int) -> None:
        raise OSError(errno.EIO, "the disk is failing")

    with Journal(file) as journal:
        journal.tags("first", {})
        whole = file.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(journal, "_file", HalfFile(journal._file))
            patch.setattr(os, "ftruncate", fail)
            with pytest.raises(OSError, match="no room"):
                journal.tags("second", {"a": LONG})
        assert file.stat().st_size > len(whole)
        assert ids(file) == ["first"]
        journal.tags("third", {})
    assert ids(file) == ["first", "third"]


class HalfFile:
    """Takes a few bytes, and then no more."""

    def __init__(self, file) -> None:
        self.file = file
        self.fileno = file.fileno
        self.is_full = False

    def write(self, content: memoryview) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, "no room")
        self.is_full = True
        return self.file.write(content[:10])


def fail_to_sync(descriptor: int) -> None:
    raise OSError(errno.EIO, "the disk is failing")


def test_what_the_disk_does_not_confirm_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.tags("first", {})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_to_sync)
        with pytest.raises(OSError, match="failing"):
            journal.sync()
        with pytest.raises(OSError, match="failing"), journal:
            pass
    assert journal._file.closed


def test_what_ended_the_run_counts_more_than_the_journals_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "fsync", fail_to_sync)
    with pytest.raises(KeyboardInterrupt), Journal(tmp_path / "journal.jsonl") as journal:
        raise KeyboardInterrupt
    assert journal._file.closed
    assert "could not be put on the disk" in caplog.text


@pytest.mark.parametrize(
    "harm",
    [
        lambda line: line[:20] + b"\x00" * 10 + line[30:],
        lambda line: line[:20] + b"\xff" + line[21:],
        lambda line: line[: len(line) // 2] + b"\n",
        lambda line: b"\n",
        lambda line: b"17\n",
        lambda line: line.replace(b'"id"', b'"ie"'),
        lambda line: line.replace(b'"values"', b'"walues"'),
        lambda line: line.replace(b'"kind":"metrics"', b'"kind":["metrics"]'),
    ],
    ids=["zeros", "no text", "cut", "empty", "no object", "no id", "no values", "no kind"],
)
def test_a_line_that_the_disk_spoilt_is_passed_over_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm
) -> None:
    file = tmp_path / "journal.jsonl"
    with Journal(file) as journal:
        for step in range(1, 4):
            journal.metrics(f"train/{step}", step, {"loss": 0.5})
    first, second, third = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + harm(second) + third)
    assert [event["id"] for event, _ in read_with_offsets(file)] == ["train/1", "train/3"]
    assert [offset for _, offset in read_with_offsets(file)][-1] == file.stat().st_size
    with caplog.at_level(logging.WARNING), Journal(file) as journal:
        assert "train/2" not in journal
        assert journal.metrics("train/2", 2, {"loss": 0.5})
        assert not journal.metrics("train/3", 3, {"loss": 0.5})
    assert [record.getMessage() for record in caplog.records] == [
        f"line 2 of {file} can't be read and is passed over: the disk may be failing"
    ]
    assert ids(file) == ["train/1", "train/3", "train/2"]


def test_what_is_no_number_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    values = {"loss": math.nan, "norm": math.inf, "lr": 1e-05, "step": 2**70, "of numpy": np.float64(0.1)}
    with Journal(file) as journal:
        journal.metrics("train/1", 1, values)
        journal.write("said", "note", text="null", nothing=None)
    metrics, note = [event for event, _ in read_with_offsets(file)]
    assert math.isnan(metrics["values"].pop("loss"))
    assert metrics["values"] == {name: value for name, value in values.items() if name != "loss"}
    assert (note["text"], note["nothing"]) == ("null", None)


def test_the_last_status_is_found_in_journals_of_both_writers(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    former = {"id": "status/0", "time": 1, "kind": "status", "status": "RUNNING", "step": 0}
    file.write_text(json.dumps(former) + "\n")
    assert last_status(file) == former
    with Journal(file) as journal:
        journal.status("status/1", "FINISHED", step=3)
        journal.tags("tags", {"status": "none"})
        journal.metrics("train/3", 3, {"loss": 0.5})
    assert last_status(file)["id"] == "status/1"

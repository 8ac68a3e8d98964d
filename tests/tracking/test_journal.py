"""The journal keeps every event exactly once, whatever happens to its writer."""

from pathlib import Path

from shoes.tracking.journal import Journal, read_events, read_with_offsets


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

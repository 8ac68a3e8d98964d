"""Peak memory is what was really held, and limits are set once, never over a person's own."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shoes import stages
from shoes.device import DeviceFacts, apply_limits, limit_memory, measure, watch_memory
from shoes.device.facts import GIGABYTE, HIGH_WATERMARK, LOW_WATERMARK
from shoes.errors import TrainingError
from shoes.spec import Recipe
from shoes.tracking.journal import read_events

MEGABYTE = 1024**2


@pytest.fixture(autouse=True)
def no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (HIGH_WATERMARK, LOW_WATERMARK):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_the_peak_of_memory_that_is_free_again_is_seen() -> None:
    with watch_memory("cpu") as watch:
        block = bytearray(os.urandom(1)) * (300 * MEGABYTE)
        deadline = time.monotonic() + 20
        while watch.growth_bytes < 250 * MEGABYTE and time.monotonic() < deadline:
            time.sleep(0.01)
        del block
    assert 250 * MEGABYTE < watch.growth_bytes < 600 * MEGABYTE
    assert watch.peak_bytes == watch.baseline_bytes + watch.growth_bytes


def test_the_peak_stays_as_it_was_when_the_block_ended() -> None:
    with watch_memory("cpu") as watch:
        pass
    before = watch.peak_bytes
    block = bytearray(os.urandom(1)) * (200 * MEGABYTE)
    time.sleep(0.2)
    assert watch.peak_bytes == before
    del block


def facts(mps: bool) -> DeviceFacts:
    return DeviceFacts(mps=mps, total_memory_bytes=32 * GIGABYTE, device_memory_bytes=32 * GIGABYTE * 2 // 3)


def test_both_limits_are_set_on_mps_and_none_elsewhere() -> None:
    limit_memory(facts(mps=False))
    assert HIGH_WATERMARK not in os.environ
    limit_memory(facts(mps=True))
    assert (os.environ[HIGH_WATERMARK], os.environ[LOW_WATERMARK]) == ("1.0", "0.85")


@pytest.mark.parametrize("name", [HIGH_WATERMARK, LOW_WATERMARK])
def test_a_limit_of_the_person_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "0.7")
    limit_memory(facts(mps=True))
    assert [os.environ.get(n) for n in (HIGH_WATERMARK, LOW_WATERMARK) if n != name] == [None]
    assert os.environ[name] == "0.7"


def test_no_limits_are_no_change() -> None:
    apply_limits("none")
    assert HIGH_WATERMARK not in os.environ


def test_the_facts_of_this_machine_can_be_true() -> None:
    found = measure()
    assert found.device_name
    assert found.total_memory_bytes > GIGABYTE
    assert 1 <= found.num_cores <= (os.cpu_count() or 1)
    assert (found.device_memory_bytes > 0) is (found.cuda or found.mps)


def recorded(journal: Path) -> list[float]:
    events = (event for event in read_events(journal) if event["id"].startswith("memory/"))
    return [event["values"]["system/peak_memory_bytes"] for event in events]


def test_a_training_records_its_peak(night) -> None:
    peaks = recorded(night.training.run_dir / "journal.jsonl")
    assert night.training.peak_memory_bytes == max(peaks) > 100 * MEGABYTE


def test_a_try_that_fails_records_its_peak_and_the_next_one_its_own(
    night, micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = micro({"train.max_train_steps": "2", "train.seed": "3"})
    with monkeypatch.context() as patch:

        def fail(session: object) -> None:
            raise TrainingError("no step works")

        patch.setattr("shoes.training.recovery.take_step", fail)
        with pytest.raises(TrainingError, match="no step works"):
            stages.train(recipe, night.models, night.data)
    report = stages.train(recipe, night.models, night.data)
    peaks = recorded(report.run_dir / "journal.jsonl")
    assert len(peaks) == 2
    assert report.peak_memory_bytes == max(peaks)

"""Short memory is seen, said once, and recorded."""

import logging
from collections import namedtuple
from dataclasses import dataclass, replace

import psutil
import pytest

from shoes.device import pressure
from shoes.device.pressure import Pressure, Reading, judge

GB = 1024**3
TOTAL = 32 * GB
START = Reading(20 * GB, swap_used_bytes=1 * GB, swapped_out_bytes=5 * GB, process_bytes=4 * GB, device_bytes=0)


def reading(available: float, swap: float = 1, out: float = 5) -> Reading:
    """In GB."""
    return replace(
        START,
        available_bytes=int(available * GB),
        swap_used_bytes=int(swap * GB),
        swapped_out_bytes=int(out * GB),
    )


@pytest.mark.parametrize(
    ("now", "before", "level"),
    [
        (reading(20), "fine", "fine"),
        (reading(3.3), "fine", "fine"),
        (reading(3.1), "fine", "tight"),
        (reading(3.1, swap=1.4), "fine", "tight"),
        (reading(3.1, swap=1.6), "fine", "swapping"),
        (reading(3.1, swap=0.5, out=5.6), "fine", "swapping"),  # it reads back as fast as it writes
        (reading(3.1, swap=0.2), "fine", "tight"),
        (reading(20, swap=9, out=15), "fine", "fine"),  # other programs were moved out of the way, once
        (reading(3.3), "tight", "tight"),
        (reading(4.7), "tight", "tight"),
        (reading(4.9), "tight", "fine"),
        (reading(4.7, swap=3), "swapping", "swapping"),
        (reading(4.9, swap=3), "swapping", "fine"),
    ],
)
def test_memory_is_judged_by_what_is_left_and_what_was_swapped(now: Reading, before, level: str) -> None:
    assert judge(now, START, TOTAL, before) == level


@dataclass
class Machine:
    """What the system says of its memory."""

    available: float = 20
    swap: float = 1
    out: float = 5

    def virtual_memory(self):
        return namedtuple("svmem", "total available")(TOTAL, int(self.available * GB))

    def swap_memory(self):
        return namedtuple("sswap", "used sout")(int(self.swap * GB), int(self.out * GB))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(psutil, "virtual_memory", machine.virtual_memory)
    monkeypatch.setattr(psutil, "swap_memory", machine.swap_memory)
    return machine


def test_a_person_is_told_once_when_it_gets_worse_and_once_when_it_is_fine(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Pressure("cpu", interval_seconds=0) as watched:
        for available, swap in [(20, 1), (2, 1), (2, 1), (2, 1.4), (2, 3), (2, 4), (4, 4), (20, 4), (20, 4)]:
            machine.available, machine.swap = available, swap
            watched.sample()
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in told] == ["WARNING", "WARNING", "INFO", "INFO"]
    assert told[0][1].startswith("memory is tight: 2.0 GB of 32.0 GB are available, this training holds ")
    assert told[0][1].endswith(f". {pressure.FIX}.")
    assert told[1][1].startswith("the machine swaps, which makes training many times slower: 2.0 GB of 32.0 GB")
    assert "swap grew by 2.0 GB. Close other programs." in told[1][1]
    assert told[2:] == [
        ("INFO", "memory is fine again: 20.0 GB available"),
        ("INFO", "while training, swap grew by 3.0 GB"),
    ]


def test_nothing_is_said_of_a_machine_with_memory_to_spare(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Pressure("cpu", interval_seconds=0) as watched:
        watched.sample()
    assert not caplog.records


def test_between_two_readings_nothing_is_read(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(pressure.time, "monotonic", lambda: clock[0])
    with Pressure("cpu", interval_seconds=10) as watched:
        for clock[0], machine.available, level in [
            (109.9, 2, "fine"),
            (110.0, 2, "tight"),
            (119.9, 20, "tight"),
            (120.1, 20, "fine"),
        ]:
            watched.sample()
            assert watched.level == level


def test_what_is_recorded_is_what_the_machine_says(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    with Pressure("cpu") as watched:
        values = watched.metrics()
    assert values["system/available_memory_bytes"] == 20 * GB
    assert values["system/swap_used_bytes"] == 1 * GB
    held = psutil.Process().memory_info().rss
    assert held / 2 < values["system/process_memory_bytes"] < held * 2
    assert "system/device_memory_bytes" not in values
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 7 * GB)
    with Pressure("mps") as watched:
        assert watched.metrics()["system/device_memory_bytes"] == 7 * GB
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 9 * GB)
    with Pressure("cuda") as watched:
        assert watched.metrics()["system/device_memory_bytes"] == 9 * GB


def test_on_macos_written_files_are_not_taken_for_swap(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure.platform, "system", lambda: "Darwin")
    with Pressure("cpu", interval_seconds=0) as watched:
        machine.available, machine.out = 2, 50
        watched.sample()
    assert watched.level == "tight"


def test_this_machine_can_be_read() -> None:
    now = pressure.read_memory("cpu")
    assert 0 < now.available_bytes < psutil.virtual_memory().total
    assert now.process_bytes > 0
    assert now.device_bytes == 0

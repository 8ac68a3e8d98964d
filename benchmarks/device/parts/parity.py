"""Every precision against fp32 on the CPU, by the check that a training makes before its first step."""

import time
from collections.abc import Iterator

from benchmarks.device import ground
from benchmarks.device.place import Place
from benchmarks.device.rows import Row, no_time
from shoes.training.run import Job

PART = "parity"


def run(place: Place) -> Iterator[Row]:
    yield from rows(PART, place, ground.demo_job(place, PART), "the demo's model, 64 px")


def rows(part: str, place: Place, job: Job, where: str) -> Iterator[Row]:
    """One row for each precision that the device can train in."""
    from shoes.device import precision_name
    from shoes.training.parity import fault_finder

    fault = fault_finder(job, place.device)
    for precision in place.precisions:
        what = f"{precision_name(precision)}, {where}"
        if place.seconds_left <= 0:
            yield no_time(part, what)
            continue
        if (place.device, precision) == ("cpu", "no"):
            yield Row(part, what, "reference", "fp32 on the CPU is what the others are compared with")
            continue
        started = time.monotonic()
        found = fault(precision)
        seconds = time.monotonic() - started
        values = {"precision": precision_name(precision), "fault": found, "seconds": round(seconds, 2)}
        figure, note = ("wrong", found) if found else ("right", f"agrees with fp32 on the CPU; {seconds:.0f} s")
        yield Row(part, what, figure, note, "failed" if found else "done", values)

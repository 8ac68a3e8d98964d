"""Where a step's time goes, without making the processor wait for the device.

On an accelerator work is queued: a clock on the CPU would time the queueing. There, events are put into the queue and
read once the step's result has been read anyway.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stopwatch:
    """Adds up the seconds of named parts."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._marks: list[tuple[str, Any, Any]] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a block as a part, or a piece of one."""
        started = self._now()
        try:
            yield
        finally:
            self._marks.append((name, started, self._now()))

    def seconds(self) -> dict[str, float]:
        """Seconds by part; the device must be done with them."""
        found: dict[str, float] = {}
        for name, started, ended in self._marks:
            found[name] = found.get(name, 0.0) + self._between(started, ended)
        return found

    def _now(self) -> Any:
        if self._device == "cpu":
            return time.perf_counter()
        import torch

        event = torch.cuda.Event(enable_timing=True) if self._device == "cuda" else torch.mps.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, started: Any, ended: Any) -> float:
        if self._device == "cpu":
            return float(ended - started)
        ended.synchronize()
        return float(started.elapsed_time(ended)) / 1000

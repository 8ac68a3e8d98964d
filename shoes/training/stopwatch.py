"""Where a step's time goes, without making the processor wait for the device.

On an accelerator work is queued: a clock on the CPU would time the queueing. There, events are put into the queue and
read once the step's result has been read anyway. Timing never ends a training: what can't be timed is left out.
"""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)
NOT_TIMED = (RuntimeError, ValueError)
"""What PyTorch raises where it can't time: on MPS 2.13 takes two events close together for the wrong way round
(pytorch#196395). What is wrong with the device itself, the step's own work says, too."""


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
        """Seconds by part, without the parts of which a piece could not be timed; the device must be done with them."""
        pieces = [(name, self._between(started, ended)) for name, started, ended in self._marks]
        unknown = {name for name, seconds in pieces if not (math.isfinite(seconds) and seconds >= 0)}
        found: dict[str, float] = {}
        for name, seconds in pieces:
            if name not in unknown:
                found[name] = found.get(name, 0.0) + seconds
        return found

    def _now(self) -> Any:
        """A mark of this moment; None where the device can't make one."""
        if self._device == "cpu":
            return time.perf_counter()
        import torch

        make = torch.cuda.Event if self._device == "cuda" else torch.mps.Event
        try:
            event = make(enable_timing=True)
            event.record()
        except NOT_TIMED as error:
            log.debug("not timed: %s", error)
            return None
        return event

    def _between(self, started: Any, ended: Any) -> float:
        """Seconds from one mark to another; NaN where they are not known."""
        if self._device == "cpu":
            return float(ended - started)
        if started is None or ended is None:
            return math.nan
        try:
            # on MPS elapsed_time waits by itself, and could wait for ever after this (pytorch#196395)
            if self._device == "cuda":
                ended.synchronize()
            return float(started.elapsed_time(ended)) / 1000
        except NOT_TIMED as error:
            log.debug("not timed: %s", error)
            return math.nan

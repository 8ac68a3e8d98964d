"""How short the machine's memory is while it trains.

A machine that swaps still trains, at a tenth of its speed and without a word. So its memory is read every few seconds
between two steps, recorded, and a person is told once when it becomes short and once when it is fine again.
"""

import logging
import platform
import time
import warnings
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from shoes.progress import size

log = logging.getLogger(__name__)
Level = Literal["fine", "tight", "swapping"]
LEVELS: tuple[Level, ...] = ("fine", "tight", "swapping")
TIGHT_SHARE = 0.10
"""Of the memory: less available is tight."""
RELIEF_SHARE = 0.15
"""Of the memory: once it was tight, more has to be available until it is fine, so that it does not flicker."""
SWAP_GROWTH_BYTES = 512 * 1024**2
"""Swap that has grown by more, while memory is tight, is the training's doing."""
SECONDS_BETWEEN_SAMPLES = 10.0
FIX = (
    "Close other programs. A new training with a smaller --train.train_batch_size, or with "
    "--train.gradient_checkpointing full, needs less"
)


@dataclass(frozen=True)
class Reading:
    """The machine's memory at one moment, in bytes."""

    available_bytes: int
    """What programs can still get without swapping."""
    swap_used_bytes: int
    swapped_out_bytes: int
    """Written to swap since the system's start; 0 where the system does not say."""
    process_bytes: int
    """What this process holds in memory."""
    device_bytes: int
    """What PyTorch holds of the accelerator's memory; 0 on the CPU."""


def judge(reading: Reading, start: Reading, total_bytes: int, before: Level = "fine") -> Level:
    """How short memory is.

    Args:
        reading: now.
        start: when the training began; what was swapped before is not its doing.
        total_bytes: the machine's memory.
        before: the last judgement.
    """
    share = TIGHT_SHARE if before == "fine" else RELIEF_SHARE
    if reading.available_bytes >= share * total_bytes:
        return "fine"
    return "swapping" if _swap_growth(reading, start) > SWAP_GROWTH_BYTES else "tight"


class Pressure:
    """Reads the memory now and then, inside a `with` block that is the training."""

    def __init__(self, device: str, *, interval_seconds: float = SECONDS_BETWEEN_SAMPLES) -> None:
        """Watch this process on `device` (cpu, cuda or mps)."""
        self._device = device
        self._interval = interval_seconds
        self.level: Level = "fine"

    def __enter__(self) -> Self:
        import psutil

        self._total = int(psutil.virtual_memory().total)
        self._start = self._last = read_memory(self._device)
        self._read_at = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        grown = _swap_growth(self._last, self._start)
        if grown > SWAP_GROWTH_BYTES:
            log.info("while training, swap grew by %s", size(grown))

    def sample(self) -> None:
        """Read the memory if the last reading is old enough, and tell when it has become short or fine."""
        now = time.monotonic()
        if now - self._read_at < self._interval:
            return
        self._read_at = now
        self._last = read_memory(self._device)
        before, self.level = self.level, judge(self._last, self._start, self._total, self.level)
        if LEVELS.index(self.level) > LEVELS.index(before):
            log.warning("%s. %s.", self._in_words(), FIX)
        elif self.level == "fine" != before:
            log.info("memory is fine again: %s available", size(self._last.available_bytes))

    def metrics(self) -> dict[str, float]:
        """The last reading, by MLflow name; the device's memory only where it is not the CPU's."""
        values = {
            "system/available_memory_bytes": float(self._last.available_bytes),
            "system/swap_used_bytes": float(self._last.swap_used_bytes),
            "system/process_memory_bytes": float(self._last.process_bytes),
        }
        if self._device != "cpu":
            values["system/device_memory_bytes"] = float(self._last.device_bytes)
        return values

    def _in_words(self) -> str:
        last = self._last
        held = f"this training holds {size(last.process_bytes)}"
        if self._device != "cpu":
            held += f" and {size(last.device_bytes)} of the {self._device} device"
        left = f"{size(last.available_bytes)} of {size(self._total)} are available, {held}"
        if self.level == "tight":
            return f"memory is tight: {left}"
        grown = size(_swap_growth(last, self._start))
        return f"the machine swaps, which makes training many times slower: {left}, swap grew by {grown}"


def read_memory(device: str) -> Reading:
    """The machine's memory now."""
    import psutil

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # psutil's, where the system does not count what it swaps
        swap = psutil.swap_memory()
    return Reading(
        available_bytes=int(psutil.virtual_memory().available),
        swap_used_bytes=int(swap.used),
        # on macOS psutil counts pages of ordinary files here, too
        swapped_out_bytes=0 if platform.system() == "Darwin" else int(swap.sout),
        process_bytes=int(psutil.Process().memory_info().rss),
        device_bytes=_device_bytes(device),
    )


def _device_bytes(device: str) -> int:
    if device == "cpu":
        return 0
    import torch

    return int(torch.cuda.memory_reserved() if device == "cuda" else torch.mps.driver_allocated_memory())


def _swap_growth(reading: Reading, start: Reading) -> int:
    """How much more was swapped out: what lies there now, or what went there, whichever tells more."""
    used = reading.swap_used_bytes - start.swap_used_bytes
    return max(0, used, reading.swapped_out_bytes - start.swapped_out_bytes)

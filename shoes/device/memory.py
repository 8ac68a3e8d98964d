"""How much memory the device may take, and how much it took."""

import ctypes
import gc
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from shoes.device.facts import GIGABYTE, HIGH_WATERMARK, LOW_WATERMARK, DeviceFacts

log = logging.getLogger(__name__)
INTERVAL_SECONDS = 0.05


@dataclass
class Watch:
    """Memory while a block runs: up to date within it, final behind it.

    On the CPU it is what this process holds in memory (its resident set), on CUDA what PyTorch's tensors take, on
    MPS what the driver gave to PyTorch. CUDA counts every allocation; elsewhere a peak shorter than the time
    between two samples can be missed.
    """

    device: str
    baseline_bytes: int = 0
    """When the block began."""
    peak_bytes: int = 0
    """The most since then."""

    @property
    def growth_bytes(self) -> int:
        """How far the peak lies above the baseline."""
        return self.peak_bytes - self.baseline_bytes

    def restart(self) -> None:
        """Forget the peak so far."""
        if self.device == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()
        self.peak_bytes = _held(self.device)


@contextmanager
def watch_memory(device: str) -> Iterator[Watch]:
    """Watch the memory of `device` (cpu, cuda or mps) while the block runs, from a thread of its own."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    now = _held(device)
    watch = Watch(device, baseline_bytes=now, peak_bytes=now)
    done = threading.Event()
    sampler = threading.Thread(target=_sample, args=(watch, done), name="watch-memory", daemon=True)
    sampler.start()
    try:
        yield watch
    finally:
        done.set()
        sampler.join()
        watch.peak_bytes = max(watch.peak_bytes, _held(device))


def _sample(watch: Watch, done: threading.Event) -> None:
    while not done.wait(INTERVAL_SECONDS):
        watch.peak_bytes = max(watch.peak_bytes, _held(watch.device))


def _held(device: str) -> int:
    """Bytes held now; on CUDA the most since the counter was reset, which misses nothing."""
    import psutil

    if device == "cpu":
        return int(psutil.Process().memory_info().rss)
    import torch

    return int(torch.cuda.max_memory_allocated() if device == "cuda" else torch.mps.driver_allocated_memory())


def watermark_ratios(facts: DeviceFacts) -> tuple[float, float]:
    """The MPS allocator's high and low watermark, as ratios of what Metal recommends.

    High is where PyTorch raises instead of taking more. Its default of 1.7 can lie above the machine's whole memory,
    which then swaps. Ours is what Metal recommends, and less where that leaves the system less than an eighth of the
    memory (at least 2 GB). Low is where the allocator starts to give unused memory back.
    """
    spare = max(2 * GIGABYTE, facts.total_memory_bytes // 8)
    high = min(1.0, (facts.total_memory_bytes - spare) / max(1, facts.device_memory_bytes))
    return round(max(high, 0.1), 2), round(max(high, 0.1) * 0.85, 2)


def limit_memory(facts: DeviceFacts) -> None:
    """Set the MPS allocator's limits for this process; nothing to do on other devices."""
    if facts.mps:
        high, low = watermark_ratios(facts)
        apply_limits(f"{HIGH_WATERMARK}={high} {LOW_WATERMARK}={low}")


def apply_limits(limits: str) -> None:
    """Put limits, as the decision `memory_limits` spells them, into the environment, unless the person set one of them.

    The allocator reads both once, at the first allocation: call this before anything is put on the device.
    """
    if limits == "none" or any(os.environ.get(name) for name in (HIGH_WATERMARK, LOW_WATERMARK)):
        return
    for assignment in limits.split():
        name, _, value = assignment.partition("=")
        os.environ[name] = value
    log.debug("memory limits: %s", limits)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device's or the machine's memory is used up."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # what MPS and the CPU's allocator raise has no type of its own
    words = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words)


def release(device: str) -> None:
    """Give memory that is free back to the system, so that the next peak is the next one's own."""
    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()
    if sys.platform == "linux":  # glibc keeps freed memory otherwise
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)

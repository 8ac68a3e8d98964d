"""Room on the disk, looked at before every step, so that a training stops with its state saved before writing fails.

What the next save needs is measured on the last one: a checkpoint, a candidate and what is written around them. One
more checkpoint is held in reserve, for the state that is saved when the training has to stop. When that much is not
free, what the training can do without is removed; when that is not enough, it waits for a person or another program to
free some, and then stops as paused.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shoes.environment.disk import free_bytes
from shoes.environment.disk_need import ADAPTER_FORMATS, FLOAT_BYTES, geometry_of
from shoes.progress import duration, size
from shoes.reports import HeldOutLoss
from shoes.storage import damage, leftovers, remove_path, size_of
from shoes.training.checkpoint import step_folders
from shoes.training.run import Job
from shoes.training.saving import best_candidates

log = logging.getLogger(__name__)
MEGABYTE = 1024**2
MARGIN_BYTES = 16 * MEGABYTE
"""For what grows slowly beside the checkpoints: the journal, MLflow's database, samples."""
SECONDS_TO_WAIT = 600.0
"""For room, before the training stops."""
SECONDS_BETWEEN_LOOKS = 3.0


@dataclass(frozen=True)
class Need:
    """What has to be free on the disk, in bytes."""

    save_bytes: int
    """The next save: checkpoint, candidate and margin."""
    reserve_bytes: int
    """The state that is saved when the training stops."""

    @property
    def total_bytes(self) -> int:
        """Both."""
        return self.save_bytes + self.reserve_bytes


def decide(free: int, need: Need, removable_bytes: int) -> Literal["fine", "prune", "stop"]:
    """What to do with so many bytes free, and so many that the training can do without. Nothing is removed in vain."""
    if free >= need.total_bytes:
        return "fine"
    return "prune" if free + removable_bytes >= need.total_bytes else "stop"


def estimate_need(job: Job) -> Need:
    """What the first save takes: the adapter with AdamW's two moments (and its average), and three formats of it."""
    spec = job.spec
    rank_one = geometry_of(job.model.path, spec.lora_target_modules).adapter_parameters
    adapter = rank_one * spec.rank * FLOAT_BYTES
    checkpoint = adapter * (4 if spec.use_ema else 3)
    return _need(checkpoint, adapter * ADAPTER_FORMATS)


def measure_need(job: Job) -> Need:
    """What the next save takes, by the largest so far; an estimate before there are any."""
    sizes = [max(map(size_of, step_folders(place)), default=0) for place in (job.checkpoints, job.candidates)]
    return _need(*sizes) if all(sizes) else estimate_need(job)


def _need(checkpoint: int, candidate: int) -> Need:
    return Need(save_bytes=checkpoint + candidate + MARGIN_BYTES, reserve_bytes=checkpoint + MARGIN_BYTES)


def removable(job: Job, losses: Sequence[HeldOutLoss]) -> list[Path]:
    """What a training can do without, in the order in which it goes; the caller holds the run's lock.

    What writers left that died; checkpoints other than the newest whole one; candidates other than the newest and the
    best so far, which is the one that would be exported in the end, the worst first.
    """
    return [*leftovers(job.folder), *_spare_checkpoints(job), *_spare_candidates(job, losses)]


def prune(paths: Sequence[Path], folder: Path, goal_bytes: int) -> int:
    """Remove paths one by one until so many bytes are free on the disk of `folder`; how many bytes they held."""
    removed = 0
    for path in paths:
        if free_bytes(folder) >= goal_bytes:
            break
        held = size_of(path)
        remove_path(path)
        removed += held
        log.info("removed %s, %s, to make room", path, size(held))
    return removed


class DiskGuard:
    """Keeps one training from running into a full disk."""

    def __init__(self, job: Job) -> None:
        """Guard the disk of the run's folder; the caller holds the run's lock."""
        self._job = job
        self._need: Need | None = None
        self._measured_at: tuple[int, int] | None = None

    def short(self, request: object, losses: Sequence[HeldOutLoss]) -> str | None:
        """Why the training has to stop for want of room, after pruning and waiting; None: there is room.

        Once `request` is true, nothing is waited for. There is room for the state in any case, as far as pruning can
        make it.
        """
        if self._look(losses) == "fine":
            return None
        reason = self._in_words()
        log.warning("%s; waiting up to %s for room", reason, duration(SECONDS_TO_WAIT))
        until = time.monotonic() + SECONDS_TO_WAIT
        while not request and time.monotonic() < until:
            time.sleep(min(SECONDS_BETWEEN_LOOKS, max(0.0, until - time.monotonic())))
            if self._look(losses) == "fine":
                log.info("there is room on the disk again: the training goes on")
                return None
        prune(self._removable(losses), self._job.folder, self.need().reserve_bytes)
        return f"{self._in_words()}; free some space or set SHOES_DATA_DIR, and start again"

    def need(self) -> Need:
        """What has to be free now; measured again only after something was saved."""
        state = (_changed(self._job.checkpoints), _changed(self._job.candidates))
        if self._need is None or state != self._measured_at:
            self._need = measure_need(self._job)
            self._measured_at = state
        return self._need

    def _look(self, losses: Sequence[HeldOutLoss]) -> Literal["fine", "stop"]:
        need, free = self.need(), free_bytes(self._job.folder)
        if free >= need.total_bytes:
            return "fine"
        paths = self._removable(losses)
        if decide(free, need, sum(map(size_of, paths))) == "stop":
            return "stop"
        log.warning("%s; what the training can do without is removed", self._in_words())
        prune(paths, self._job.folder, need.total_bytes)
        return "fine" if free_bytes(self._job.folder) >= need.total_bytes else "stop"

    def _removable(self, losses: Sequence[HeldOutLoss]) -> list[Path]:
        return removable(self._job, losses)

    def _in_words(self) -> str:
        folder = self._job.folder
        free = size(free_bytes(folder) // MEGABYTE * MEGABYTE)
        needed = size(-(-self.need().total_bytes // MEGABYTE) * MEGABYTE)
        return f"the disk is nearly full: {free} free, {needed} needed in {folder}"


def _changed(folder: Path) -> int:
    """When something was last added to a folder or removed from it."""
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _spare_checkpoints(job: Job) -> list[Path]:
    found = step_folders(job.checkpoints)
    whole = next((path for path in reversed(found) if not damage(path)), None)
    return [path for path in found if path != whole] if whole else []


def _spare_candidates(job: Job, losses: Sequence[HeldOutLoss]) -> list[Path]:
    found = step_folders(job.candidates)
    best_first = [job.candidate(step) for step in best_candidates(job, losses)]
    kept = {*best_first[:1], *found[-1:]}
    others = [path for path in found if path not in best_first]
    return [path for path in [*others, *reversed(best_first)] if path not in kept]

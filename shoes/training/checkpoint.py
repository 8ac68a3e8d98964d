"""Resumable state on disk: whole and verified, or not there."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shoes.errors import TrainingError
from shoes.reports import HeldOutLoss
from shoes.storage import damage, new_folder, pretty_json, remove_path
from shoes.tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
_NAME = re.compile(r"step-\d{6,}")


@dataclass(frozen=True)
class Snapshot:
    """All that a training is at the end of a step; noise, order and learning rate follow from the step."""

    step: int
    adapter: "Mapping[str, torch.Tensor]"
    optimizer: "Mapping[str, torch.Tensor]"
    average: "Mapping[str, torch.Tensor]"
    """The moving average of the adapter; empty where the spec wants none."""
    scaler: Mapping[str, float]
    """State of fp16's loss scaler; empty in other precisions."""
    losses: tuple[HeldOutLoss, ...]
    smoothed: tuple[float, float] = (0.0, 0.0)
    """Of the training loss: decayed sum, and that of the weights."""


def save(folder: Path, snapshot: Snapshot, *, keep: int) -> Path:
    """Write a checkpoint, verify it by reading it back, then prune older ones down to `keep`.

    Raises:
        TrainingError: what was written reads back as something else; older checkpoints are kept.
        OSError: it could not be written; the same.
    """
    target = folder / f"step-{snapshot.step:06d}"
    with new_folder(target) as partial:
        write_tensors(partial / "adapter.safetensors", snapshot.adapter)
        write_tensors(partial / "optimizer.safetensors", snapshot.optimizer)
        if snapshot.average:
            write_tensors(partial / "average.safetensors", snapshot.average)
        (partial / "state.json").write_text(pretty_json(_state(snapshot)), encoding="utf-8")
    if problems := damage(target):
        raise TrainingError(
            f"A checkpoint was written and reads back as something else: {'; '.join(problems)}. The disk is failing: "
            "set SHOES_DATA_DIR to another one. Older checkpoints are kept."
        )
    _prune(folder, keep)
    return target


def _state(snapshot: Snapshot) -> dict[str, object]:
    return {
        "step": snapshot.step,
        "scaler": snapshot.scaler,
        "losses": [loss.model_dump() for loss in snapshot.losses],
        "smoothed": list(snapshot.smoothed),
    }


def latest(folder: Path) -> Snapshot | None:
    """The newest checkpoint that verifies; broken ones are passed over and said so."""
    for candidate in reversed(step_folders(folder)):
        if problems := damage(candidate):
            log.warning("checkpoint %s is passed over: %s", candidate.name, "; ".join(problems))
            continue
        return _load(candidate)
    return None


def _load(folder: Path) -> Snapshot:
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    average = folder / "average.safetensors"
    return Snapshot(
        step=state["step"],
        adapter=read_tensors(folder / "adapter.safetensors"),
        optimizer=read_tensors(folder / "optimizer.safetensors"),
        average=read_tensors(average) if average.exists() else {},
        scaler=state["scaler"],
        losses=tuple(HeldOutLoss.model_validate(loss) for loss in state["losses"]),
        smoothed=tuple(state["smoothed"]),
    )


def latest_step(folder: Path) -> int:
    """The step of the newest checkpoint that verifies; 0 where there is none."""
    whole = (number_of(path) for path in reversed(step_folders(folder)) if not damage(path))
    return next(whole, 0)


def step_folders(folder: Path) -> list[Path]:
    """Folders of single steps in order; not what a person or a system has put beside them, `step-000050 copy` say."""
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name) and path.is_dir())


def number_of(step_folder: Path) -> int:
    """The step of one of `step_folders`."""
    return int(step_folder.name.removeprefix("step-"))


def _prune(folder: Path, keep: int) -> None:
    for old in step_folders(folder)[:-keep]:
        remove_path(old)

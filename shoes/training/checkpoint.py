"""Resumable state on disk: whole and verified, or not there."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shoes.reports import HeldOutLoss
from shoes.storage import MANIFEST, damage, is_whole, new_folder, pretty_json
from shoes.tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """All that a training is at the end of a step; noise, order and learning rate follow from the step."""

    step: int
    adapter: "Mapping[str, torch.Tensor]"
    optimizer: "Mapping[str, torch.Tensor]"
    scaler: Mapping[str, float]
    """State of fp16's loss scaler; empty in other precisions."""
    losses: tuple[HeldOutLoss, ...]


def save(folder: Path, snapshot: Snapshot, *, keep: int) -> Path:
    """Write a checkpoint, verify it by reading it back, then prune older ones down to `keep`."""
    target = folder / f"step-{snapshot.step:06d}"
    with new_folder(target) as partial:
        write_tensors(partial / "adapter.safetensors", snapshot.adapter)
        write_tensors(partial / "optimizer.safetensors", snapshot.optimizer)
        losses = [loss.model_dump() for loss in snapshot.losses]
        state = {"step": snapshot.step, "scaler": snapshot.scaler, "losses": losses}
        (partial / "state.json").write_text(pretty_json(state), encoding="utf-8")
    assert is_whole(target), f"{target} was written and does not verify: the disk is failing"
    _prune(folder, keep)
    return target


def latest(folder: Path) -> Snapshot | None:
    """The newest checkpoint that verifies; broken ones are passed over and said so."""
    for candidate in reversed(_all(folder)):
        if problems := damage(candidate):
            log.warning("checkpoint %s is passed over: %s", candidate.name, "; ".join(problems))
            continue
        return _load(candidate)
    return None


def _load(folder: Path) -> Snapshot:
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return Snapshot(
        step=state["step"],
        adapter=read_tensors(folder / "adapter.safetensors"),
        optimizer=read_tensors(folder / "optimizer.safetensors"),
        scaler=state["scaler"],
        losses=tuple(HeldOutLoss.model_validate(loss) for loss in state["losses"]),
    )


def _all(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def _prune(folder: Path, keep: int) -> None:
    for old in _all(folder)[:-keep]:
        (old / MANIFEST).unlink(missing_ok=True)  # first: half a folder must not look whole
        shutil.rmtree(old)

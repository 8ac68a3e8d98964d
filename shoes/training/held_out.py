"""Held-out loss of an exported adapter, or of the base alone, on a split that no training has seen."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shoes.model.load import load_noise_schedule, load_pipeline
from shoes.storage import fingerprint, write_text
from shoes.training.cache import CacheKey, open_cache
from shoes.training.objective import Objective, held_out_losses
from shoes.training.run import Job

if TYPE_CHECKING:
    import numpy as np


def split_losses(
    job: Job,
    split: tuple[Path, str],
    photos: Sequence[int],
    *,
    adapter: tuple[Path, str] | None,
    device: str,
    precision: str,
) -> "np.ndarray":
    """Unweighted loss of some photos of a split at the eight timesteps of the held-out loss, [photos × 8].

    Measured once for each adapter and kept; the same photos and noise for all of them.

    Args:
        split: folder of the split, and its fingerprint.
        photos: indices into the split, in its own order.
        adapter: folder of an exported adapter and its SHA-256; None is the base alone.
        precision: of the frozen weights, as in `Decisions`.
    """
    of = (job.model.fingerprint, adapter[1] if adapter else None, split[1], list(photos), job.spec.seed)
    file = job.cache / "losses" / f"{fingerprint('losses', of, device.partition(':')[0], precision)}.json"
    kept = _kept(file)
    if kept is not None and len(kept) == len(photos):
        return kept
    losses = _measure(job, split, photos, adapter[0] if adapter else None, device, precision)
    write_text(file, json.dumps(losses.tolist()))
    return losses


def _kept(file: Path) -> "np.ndarray | None":
    """What was measured before; none where the file is not there, or was cut short."""
    import numpy as np

    try:
        return np.array(json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return None


def _measure(
    job: Job, split: tuple[Path, str], photos: Sequence[int], adapter_dir: Path | None, device: str, precision: str
) -> "np.ndarray":
    from shoes.device import torch_dtype

    pipeline = load_pipeline(
        job.model.path,
        device=device,
        dtype=torch_dtype(precision),
        scheduler=job.sampler.scheduler,
        adapter_dir=adapter_dir,
    )
    objective = Objective(
        unet=pipeline.unet,
        schedule=load_noise_schedule(job.model.path),
        scaling_factor=pipeline.vae.config.scaling_factor,
        device=device,
        precision=precision,
    )
    key = CacheKey(
        model=job.model, split=split[0], split_fingerprint=split[1], folder=job.cache / "latents", device=device
    )
    cache = open_cache(key, batch_size=job.spec.eval_batch_size, on_progress=_silent)
    batch = max(job.spec.train_batch_size, job.spec.eval_batch_size)
    found: np.ndarray = held_out_losses(objective, cache, photos, seed=job.spec.seed, batch_size=batch).numpy()
    return found


def _silent(done: int, total: int) -> None:
    del done, total

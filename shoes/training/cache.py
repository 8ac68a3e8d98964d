"""What the frozen parts say of every photo and caption, computed once: latent moments and text embeddings.

The moments of the VAE's posterior are kept, not one sample of it, so that the latent's own noise stays fresh.
Both are written in fp32, scanned for non-finite values, and read through a memory map: the size of the data
set does not decide the memory that training takes.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shoes.batches import batched
from shoes.dataset import Record, load_split
from shoes.errors import Problem, TrainingError
from shoes.model.load import TextParts, load_text, load_vae
from shoes.reports import ModelReport
from shoes.storage import fingerprint, is_whole, new_folder

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL

log = logging.getLogger(__name__)
FORMAT = 1
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LatentCache:
    """One split, encoded."""

    moments: Floats
    """N×2×C×h×w, memory-mapped: mean and log variance of the posterior, unscaled."""
    text: Floats
    """K×T×D: last hidden states of K different captions; the last one is the empty caption."""
    caption_of: tuple[int, ...]
    """For each of the N photos, the row of `text`."""
    captions: tuple[str, ...]
    """The K captions."""

    def __len__(self) -> int:
        return len(self.caption_of)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(C, h, w)."""
        return tuple(self.moments.shape[2:])

    @property
    def empty_caption(self) -> int:
        """Row of `text` for the empty caption."""
        return len(self.captions) - 1

    def rows(self, indices: Sequence[int]) -> "tuple[torch.Tensor, torch.Tensor]":
        """Moments (B×2×C×h×w) and caption rows (B) of some photos."""
        import torch

        captions = torch.tensor([self.caption_of[index] for index in indices])
        return torch.from_numpy(self.moments[list(indices)]), captions


def open_cache(
    model: ModelReport,
    split: Path,
    *,
    split_fingerprint: str,
    folder: Path,
    device: str,
    batch_size: int,
    on_progress: Progress,
) -> LatentCache:
    """The cache of one split, made first when it is not there or not whole."""
    target = _target(model, split, split_fingerprint, folder, device)
    if not is_whole(target):
        records = load_split(split)
        with new_folder(target) as partial:
            _write_latents(partial, model, records, device, batch_size, on_progress)
            _write_text(partial, model, records, device, batch_size)
    return _read(target)


def existing_cache(
    model: ModelReport, split: Path, *, split_fingerprint: str, folder: Path, device: str
) -> LatentCache | None:
    """The cache of one split, if it is there and whole."""
    target = _target(model, split, split_fingerprint, folder, device)
    return _read(target) if is_whole(target) else None


def _target(model: ModelReport, split: Path, split_fingerprint: str, folder: Path, device: str) -> Path:
    return folder / fingerprint("latents", FORMAT, model.fingerprint, split_fingerprint, split.name, device)


def _read(folder: Path) -> LatentCache:
    index = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    moments = np.load(folder / "moments.npy", mmap_mode="r", allow_pickle=False)
    text = np.load(folder / "text.npy", mmap_mode="r", allow_pickle=False)
    return LatentCache(moments, text, tuple(index["caption_of"]), tuple(index["captions"]))


def _write_latents(
    folder: Path,
    model: ModelReport,
    records: Sequence[Record],
    device: str,
    batch_size: int,
    on_progress: Progress,
) -> None:
    vae = load_vae(model.path, device=device)
    out: np.memmap[Any, np.dtype[np.float32]] | None = None
    done = 0
    for batch in batched(records, batch_size):
        encoded = encode_photos(vae, batch, device)
        _require_finite(encoded, [record.image.name for record in batch])
        if out is None:
            shape = (len(records), *encoded.shape[1:])
            out = np.lib.format.open_memmap(folder / "moments.npy", mode="w+", dtype=np.float32, shape=shape)
        out[done : done + len(batch)] = encoded
        done += len(batch)
        on_progress(done, len(records))
    assert out is not None, "a split has at least one photo"
    out.flush()


def encode_photos(vae: "AutoencoderKL", records: Sequence[Record], device: str) -> Floats:
    """B×2×C×h×w moments of the posterior, in fp32."""
    import torch

    pixels = torch.from_numpy(np.stack([_pixels(record.image) for record in records])).to(device)
    with torch.inference_mode():
        posterior = vae.encode(pixels).latent_dist
        moments = torch.stack([posterior.mean, posterior.logvar], dim=1)
    return moments.float().cpu().numpy()


def _pixels(image: Path) -> Floats:
    """3×H×W in −1..1."""
    from PIL import Image

    with Image.open(image) as opened:
        array = np.asarray(opened.convert("RGB"), dtype=np.float32)
    return array.transpose(2, 0, 1) / 127.5 - 1.0


def _write_text(folder: Path, model: ModelReport, records: Sequence[Record], device: str, batch_size: int) -> None:
    captions = [*sorted({record.caption for record in records} - {""}), ""]
    rows = {caption: row for row, caption in enumerate(captions)}
    parts = load_text(model.path, device=device)
    text = np.concatenate([encode_text(parts, batch, device) for batch in batched(captions, batch_size)])
    _require_finite(text, captions)
    np.save(folder / "text.npy", text, allow_pickle=False)
    index = {"captions": captions, "caption_of": [rows[record.caption] for record in records]}
    (folder / "captions.json").write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")


def encode_text(parts: TextParts, captions: Sequence[str], device: str) -> Floats:
    """B×T×D last hidden states, in fp32; captions too long are cut with the end-of-text token kept."""
    import torch

    tokens = parts.tokenizer(
        list(captions),
        padding="max_length",
        truncation=True,
        max_length=parts.tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids.to(device)
    with torch.inference_mode():
        return parts.encoder(tokens)[0].float().cpu().numpy()


def _require_finite(values: Floats, names: Sequence[str]) -> None:
    bad = [name for name, value in zip(names, values, strict=True) if not np.isfinite(value).all()]
    if bad:
        problems = [
            Problem(name or "the empty caption", "encodes to NaN or infinity", "train with --train.device cpu")
            for name in bad
        ]
        raise TrainingError("The frozen parts give non-finite values:\n" + "\n".join(map(str, problems)))

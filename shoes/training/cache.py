"""What the frozen parts say of every photo and caption, computed once: latent moments and text embeddings.

The moments of the VAE's posterior are kept, not one sample of it, so that the latent's own noise stays fresh.
Both are written in fp32, scanned for non-finite values, and read through a memory map: the size of the data
set does not decide the memory that training takes. Mirrored photos are encoded too where a training flips them, into
a folder of their own: a VAE does not give mirrored latents for a mirrored photo.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from shoes.batches import batched
from shoes.dataset import Record, load_split
from shoes.errors import Problem, TrainingError
from shoes.model.load import TextParts, load_text, load_vae
from shoes.reports import ModelReport
from shoes.storage import fingerprint, is_whole, new_folder, remove_path

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL

log = logging.getLogger(__name__)
FORMAT = 2
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
Rows = np.ndarray[tuple[int, ...], np.dtype[np.int32]]
Progress = Callable[[int, int], None]


class CaptionFile(Sequence[str]):
    """The captions of a cache, read when one is first asked for: a training step needs their rows only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _captions(self) -> tuple[str, ...]:
        return tuple(json.loads(self._path.read_text(encoding="utf-8")))

    def __len__(self) -> int:
        return len(self._captions)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return self._captions[index]


@dataclass(frozen=True)
class LatentCache:
    """One split, encoded."""

    moments: Floats
    """N×2×C×h×w, memory-mapped: mean and log variance of the posterior, unscaled."""
    text: Floats
    """K×T×D, memory-mapped: last hidden states of K different captions; the last one is the empty caption."""
    caption_of: Rows
    """N, memory-mapped: for each photo, its row of `text`."""
    captions: Sequence[str]
    """The K captions."""
    mirrored: Floats | None = None
    """The same as `moments` for the mirrored photos, where they are wanted."""

    def __len__(self) -> int:
        return len(self.moments)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(C, h, w)."""
        return tuple(self.moments.shape[2:])

    @property
    def empty_caption(self) -> int:
        """Row of `text` for the empty caption."""
        return len(self.text) - 1

    def rows(self, indices: Sequence[int], flips: Sequence[bool] | None = None) -> "tuple[torch.Tensor, torch.Tensor]":
        """Moments (B×2×C×h×w) and caption rows (B) of some photos, of the mirrored photo where `flips` says so."""
        import torch

        moments = self.moments[list(indices)]
        if flips is not None and any(flips):
            assert self.mirrored is not None, "the cache was opened without flips"
            moments[list(flips)] = self.mirrored[[index for index, flip in zip(indices, flips, strict=True) if flip]]
        return torch.from_numpy(moments), torch.from_numpy(self.caption_of[list(indices)].astype(np.int64))

    def damaged_rows(self, indices: Sequence[int]) -> list[int]:
        """Which of these photos have latents or a caption that are not finite; ascending."""
        return [index for index in sorted(set(indices)) if not self._is_finite(index)]

    def _is_finite(self, index: int) -> bool:
        parts = [self.moments[index], self.text[self.caption_of[index]], self.text[self.empty_caption]]
        if self.mirrored is not None:
            parts.append(self.mirrored[index])
        return all(bool(np.isfinite(part).all()) for part in parts)


@dataclass(frozen=True)
class CacheKey:
    """Which split is encoded by what: all that a cache depends on, and the folder that holds caches."""

    model: ModelReport
    split: Path
    split_fingerprint: str
    folder: Path
    device: str
    with_flips: bool = False
    """The mirrored photos are wanted, too."""

    @property
    def plain(self) -> Path:
        """Where the photos as they are lie, with their captions."""
        return self._named("latents")

    @property
    def mirrored(self) -> Path:
        """Where the mirrored photos lie."""
        return self._named("mirrored latents")

    def _named(self, what: str) -> Path:
        inputs = (self.model.fingerprint, self.split_fingerprint, self.split.name, self.device)
        return self.folder / fingerprint(what, FORMAT, *inputs)


def open_cache(key: CacheKey, *, batch_size: int, on_progress: Progress) -> LatentCache:
    """The cache of one split, made first where it is not there or not whole."""
    if not is_whole(key.plain):
        records = load_split(key.split)
        with new_folder(key.plain) as partial:
            _write_latents(partial, key, records, batch_size, on_progress)
            _write_text(partial, key, records, batch_size)
    if key.with_flips and not is_whole(key.mirrored):
        with new_folder(key.mirrored) as partial:
            _write_latents(partial, key, load_split(key.split), batch_size, on_progress, mirror=True)
    return _read(key)


def existing_cache(key: CacheKey) -> LatentCache | None:
    """The cache of one split, if all that is wanted of it is there and whole."""
    wanted = [key.plain, key.mirrored] if key.with_flips else [key.plain]
    return _read(key) if all(is_whole(folder) for folder in wanted) else None


def remake_cache(key: CacheKey, *, batch_size: int, on_progress: Progress) -> LatentCache:
    """`open_cache` where nothing that is there counts, though its files may be what was once written."""
    for folder in [key.plain, key.mirrored] if key.with_flips else [key.plain]:
        remove_path(folder)
    return open_cache(key, batch_size=batch_size, on_progress=on_progress)


def _read(key: CacheKey) -> LatentCache:
    return LatentCache(
        moments=_mapped(key.plain / "moments.npy"),
        text=_mapped(key.plain / "text.npy"),
        caption_of=_mapped(key.plain / "caption_of.npy"),
        captions=CaptionFile(key.plain / "captions.json"),
        mirrored=_mapped(key.mirrored / "moments.npy") if key.with_flips else None,
    )


def _mapped(file: Path) -> Any:
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _write_latents(
    folder: Path,
    key: CacheKey,
    records: Sequence[Record],
    batch_size: int,
    on_progress: Progress,
    *,
    mirror: bool = False,
) -> None:
    vae = load_vae(key.model.path, device=key.device)
    done = 0
    with (folder / "moments.npy").open("wb") as out:  # written in turn: a full disk kills who fills a memory map
        for batch in batched(records, batch_size):
            encoded = encode_photos(vae, batch, key.device, mirror=mirror)
            _require_finite(encoded, [record.image.name for record in batch])
            if not done:
                shape = (len(records), *encoded.shape[1:])
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(out, header)
            out.write(encoded.astype("<f4").tobytes())
            done += len(batch)
            on_progress(done, len(records))


def encode_photos(vae: "AutoencoderKL", records: Sequence[Record], device: str, *, mirror: bool = False) -> Floats:
    """B×2×C×h×w moments of the posterior, in fp32; of the photos mirrored left to right, if wanted."""
    import torch

    pixels = torch.from_numpy(np.stack([_pixels(record.image) for record in records])).to(device)
    if mirror:
        pixels = pixels.flip(-1)
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


def _write_text(folder: Path, key: CacheKey, records: Sequence[Record], batch_size: int) -> None:
    captions = [*sorted({record.caption for record in records} - {""}), ""]
    rows = {caption: row for row, caption in enumerate(captions)}
    parts = load_text(key.model.path, device=key.device)
    text = np.concatenate([encode_text(parts, batch, key.device) for batch in batched(captions, batch_size)])
    _require_finite(text, captions)
    np.save(folder / "text.npy", text, allow_pickle=False)
    np.save(folder / "caption_of.npy", np.array([rows[r.caption] for r in records], np.int32), allow_pickle=False)
    (folder / "captions.json").write_text(json.dumps(captions, ensure_ascii=False), encoding="utf-8")


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

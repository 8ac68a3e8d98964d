"""Pictures to unit vectors whose products are cosines: what all judges have in common, and DINOv2."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from shoes.errors import ModelError, Problem
from shoes.model.contents.parts import DINO

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import BitImageProcessorPil, Dinov2Model

Vectors = NDArray[np.float32]
Item = TypeVar("Item")


class ImageEncoder(Protocol):
    """Looks at pictures."""

    def embed_images(self, images: "Iterable[Image]", *, batch_size: int = 32) -> Vectors:
        """Unit vectors of images, float32 [images, width]. Images are read one batch at a time."""


@dataclass(frozen=True)
class DinoEncoder:
    """DINOv2 with its image processor, in fp32: what a picture shows, without words (Oquab et al. 2023)."""

    model: "Dinov2Model"
    processor: "BitImageProcessorPil"
    device: str

    def embed_images(self, images: "Iterable[Image]", *, batch_size: int = 32) -> Vectors:
        """Unit vectors of images by the class token, float32 [images, width]. Images are read one batch at a time."""
        return unit_vectors((self._features(batch) for batch in batches(images, batch_size)), self.width)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        width: int = self.model.config.hidden_size
        return width

    def _features(self, images: "list[Image]") -> "torch.Tensor":
        pixels = self.processor(images=images, return_tensors="pt")["pixel_values"]
        return self.model(pixel_values=pixels.to(self.device)).pooler_output


def load_dino(path: Path, device: str) -> DinoEncoder:
    """The DINOv2 model in a folder, frozen, in fp32, from safetensors only; nothing is downloaded.

    Raises:
        ModelError: the folder holds no DINOv2 model that can be loaded.
    """
    import torch
    from transformers import BitImageProcessorPil

    from shoes.model.load import load_part

    model = load_part(path, DINO, torch.float32)
    try:
        # By name: the "fast" processors need torchvision, and every machine should resample alike.
        processor = BitImageProcessorPil.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        fix = "give a folder with config.json, model.safetensors and preprocessor_config.json of a DINOv2 model"
        raise ModelError([Problem(str(path), f"DINOv2 could not be loaded: {error}", fix)]) from error
    return DinoEncoder(model.to(device), processor, device)


def unit_vectors(features: "Iterator[torch.Tensor]", width: int) -> Vectors:
    """Batches of features, computed as they are asked for, as unit vectors on the CPU: float32 [rows, width]."""
    import torch

    with torch.inference_mode():
        units = [torch.nn.functional.normalize(batch.float(), dim=-1).cpu() for batch in features]
    return torch.cat(units).numpy() if units else np.empty((0, width), dtype=np.float32)


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of up to `size` items, read from the source as they are asked for."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def embed_files(encoder: ImageEncoder, paths: Sequence[Path], *, batch_size: int) -> Vectors:
    """Unit vectors of pictures on disk, in order.

    Raises:
        OSError: one is missing or damaged.
    """
    from shoes.evaluation.pictures import open_picture

    return encoder.embed_images((open_picture(path) for path in paths), batch_size=batch_size)

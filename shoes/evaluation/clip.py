"""CLIP: images and captions to unit vectors whose products are cosines."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from shoes.errors import ModelError, Problem

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

Vectors = NDArray[np.float32]
Item = TypeVar("Item")


@dataclass(frozen=True)
class ClipScorer:
    """A CLIP model with its tokenizer and image processor, in fp32."""

    model: "CLIPModel"
    tokenizer: "CLIPTokenizer"
    processor: "CLIPImageProcessorPil"
    device: str

    def embed_images(self, images: "Iterable[Image]", *, batch_size: int = 32) -> Vectors:
        """Unit vectors of images, float32 [images, projection]. Images are read one batch at a time."""
        return self._stack(self._image_features(batch) for batch in _batches(images, batch_size))

    def embed_captions(self, captions: Sequence[str], *, batch_size: int = 64) -> Vectors:
        """Unit vectors of captions, float32 [captions, projection].

        What is longer than the model reads is cut, with the end-of-text token kept: its place is where CLIP
        reads the caption's meaning.
        """
        return self._stack(self._caption_features(batch) for batch in _batches(captions, batch_size))

    def _image_features(self, images: "list[Image]") -> "torch.Tensor":
        pixels = self.processor(images=images, return_tensors="pt")["pixel_values"]
        return self.model.get_image_features(pixel_values=pixels.to(self.device)).pooler_output

    def _caption_features(self, captions: list[str]) -> "torch.Tensor":
        tokens = self.tokenizer(
            captions, padding=True, truncation=True, max_length=self._max_tokens(), return_tensors="pt"
        )
        return self.model.get_text_features(**tokens.to(self.device)).pooler_output

    def _max_tokens(self) -> int:
        places: int = self.model.config.text_config.max_position_embeddings
        return min(places, self.tokenizer.model_max_length)

    def _stack(self, batches: "Iterator[torch.Tensor]") -> Vectors:
        import torch

        with torch.inference_mode():
            units = [torch.nn.functional.normalize(features.float(), dim=-1).cpu() for features in batches]
        width: int = self.model.config.projection_dim
        return torch.cat(units).numpy() if units else np.empty((0, width), dtype=np.float32)


def load_clip(path: Path, device: str) -> ClipScorer:
    """The CLIP model in a folder, frozen, in fp32, from safetensors only; nothing is downloaded.

    Raises:
        ModelError: the folder holds no CLIP model that can be loaded.
    """
    import torch
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    from shoes.model.load import quiet_libraries

    quiet_libraries()
    local: dict[str, Any] = {"local_files_only": True}
    try:
        model = CLIPModel.from_pretrained(path, dtype=torch.float32, use_safetensors=True, **local)
        tokenizer = CLIPTokenizer.from_pretrained(path, **local)
        # By name: the "fast" processors need torchvision, and every machine should resample alike.
        processor = CLIPImageProcessorPil.from_pretrained(path, **local)
    except (OSError, ValueError) as error:
        fix = "give a folder with config.json, model.safetensors, tokenizer and image processor of a CLIP model"
        raise ModelError([Problem(str(path), f"CLIP could not be loaded: {error}", fix)]) from error
    return ClipScorer(model.requires_grad_(False).eval().to(device), tokenizer, processor, device)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch

"""CLIP: images and captions to unit vectors whose products are cosines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shoes.errors import ModelError, Problem
from shoes.evaluation.encoders import Vectors, batches, unit_vectors
from shoes.model.contents.parts import CLIP

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer


@dataclass(frozen=True)
class ClipScorer:
    """A CLIP model with its tokenizer and image processor, in fp32."""

    model: "CLIPModel"
    tokenizer: "CLIPTokenizer"
    processor: "CLIPImageProcessorPil"
    device: str

    def embed_images(self, images: "Iterable[Image]", *, batch_size: int = 32) -> Vectors:
        """Unit vectors of images, float32 [images, projection]. Images are read one batch at a time."""
        return unit_vectors((self._image_features(batch) for batch in batches(images, batch_size)), self.width)

    def embed_captions(self, captions: Sequence[str], *, batch_size: int = 64) -> Vectors:
        """Unit vectors of captions, float32 [captions, projection].

        What is longer than the model reads is cut, with the end-of-text token kept: its place is where CLIP
        reads the caption's meaning.
        """
        return unit_vectors((self._caption_features(batch) for batch in batches(captions, batch_size)), self.width)

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

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        width: int = self.model.config.projection_dim
        return width


def load_clip(path: Path, device: str) -> ClipScorer:
    """The CLIP model in a folder, frozen, in fp32, from safetensors only; nothing is downloaded.

    Raises:
        ModelError: the folder holds no CLIP model that can be loaded.
    """
    import torch
    from transformers import CLIPImageProcessorPil, CLIPTokenizer

    from shoes.model.load import load_part

    model = load_part(path, CLIP, torch.float32)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(path, local_files_only=True)
        # By name: the "fast" processors need torchvision, and every machine should resample alike.
        processor = CLIPImageProcessorPil.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        fix = "give a folder with config.json, model.safetensors, tokenizer and image processor of a CLIP model"
        raise ModelError([Problem(str(path), f"CLIP could not be loaded: {error}", fix)]) from error
    return ClipScorer(model.to(device), tokenizer, processor, device)

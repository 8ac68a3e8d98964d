"""CLIP embeddings of images and captions, and plain pixel distances."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer


class Scorer:
    """A CLIP model that puts images (uint8 [n, h, w, 3]) and captions on one unit sphere."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.device = device
        self.model = CLIPModel.from_pretrained(folder, dtype=torch.float32).to(device).eval()
        self.tokenizer = CLIPTokenizer.from_pretrained(folder)
        self.processor = CLIPImageProcessorPil.from_pretrained(folder)

    @torch.no_grad()
    def images(self, images: np.ndarray) -> torch.Tensor:
        """Unit embeddings [n, d]."""
        batches = [images[i : i + 64] for i in range(0, len(images), 64)]
        return torch.cat([self._image_batch(batch) for batch in batches])

    def _image_batch(self, images: np.ndarray) -> torch.Tensor:
        pixels = self.processor([Image.fromarray(i) for i in images], return_tensors="pt").pixel_values
        return _unit(self.model.get_image_features(pixel_values=pixels.to(self.device)).pooler_output)

    @torch.no_grad()
    def captions(self, captions: Sequence[str]) -> torch.Tensor:
        """Unit embeddings [n, d]; each different caption is embedded once."""
        unique = sorted(set(captions))
        tokens = self.tokenizer(unique, padding="max_length", truncation=True, return_tensors="pt")
        output = self.model.get_text_features(input_ids=tokens.input_ids.to(self.device))
        rows = dict(zip(unique, _unit(output.pooler_output), strict=True))
        return torch.stack([rows[caption] for caption in captions])

    def scores(self, images: np.ndarray, captions: Sequence[str]) -> np.ndarray:
        """100 × cosine of each image with its own caption, [n]."""
        return 100 * (self.images(images) * self.captions(captions)).sum(-1).numpy()


def _unit(features: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(features.float(), dim=-1).cpu()


def pixel_distances(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Root mean square difference, 0 to 255, of each image to each other one, at half size: [n, m]."""
    return np.asarray(torch.cdist(_half_size(images), _half_size(others)) / _half_size(images).shape[1] ** 0.5)


def _half_size(images: np.ndarray) -> torch.Tensor:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    return torch.nn.functional.avg_pool2d(pixels, 2).flatten(1)

"""Seeded prompts to images, the same whatever the batch they are drawn in."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from shoes.batches import batched

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from PIL.Image import Image


class Seeded(Protocol):
    """What is drawn: a prompt and the seed of its first noise."""

    @property
    def prompt(self) -> str: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


def draw(
    pipeline: "StableDiffusionPipeline",
    drawings: Sequence[Seeded],
    *,
    num_inference_steps: int,
    guidance_scale: float,
    negative_prompt: str = "",
    resolution: int,
    batch_size: int = 1,
) -> "Iterator[Image]":
    """Images in the order of `drawings`, `resolution` pixels square, as they are made.

    Each image's noise comes from a generator of its own on the CPU, so that neither the batch nor the device
    decides it. The VAE decodes in fp32 whatever the UNet computes in.
    """
    import torch

    for batch in batched(drawings, batch_size):
        with torch.inference_mode():
            latents = pipeline(
                [drawing.prompt for drawing in batch],
                negative_prompt=[negative_prompt] * len(batch),
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                height=resolution,
                width=resolution,
                generator=[torch.Generator().manual_seed(drawing.seed) for drawing in batch],
                output_type="latent",
            ).images
            yield from _decode(pipeline, latents)


def _decode(pipeline: "StableDiffusionPipeline", latents: Any) -> "list[Image]":
    """Images of `latents` (B×4×H/8×W/8 for SD 1.5), one at a time at large sizes to keep memory flat."""
    import torch

    scaled = latents.float() / pipeline.vae.config.scaling_factor
    at_once = max(1, 16 * 64 * 64 // (scaled.shape[-1] * scaled.shape[-2] * 16))
    pixels = torch.cat([pipeline.vae.decode(part).sample for part in scaled.split(at_once)])
    return pipeline.image_processor.postprocess(pixels, output_type="pil")

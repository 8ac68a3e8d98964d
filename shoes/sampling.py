"""Seeded prompts to images, the same whatever the batch they are drawn in."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from shoes.batches import batched

if TYPE_CHECKING:
    import torch
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
    for pixels in draw_pixels(
        pipeline,
        drawings,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        negative_prompt=negative_prompt,
        resolution=resolution,
        batch_size=batch_size,
    ):
        yield from pipeline.image_processor.postprocess(pixels, output_type="pil")


def draw_pixels(
    pipeline: "StableDiffusionPipeline",
    drawings: Sequence[Seeded],
    *,
    num_inference_steps: int,
    guidance_scale: float,
    negative_prompt: str = "",
    resolution: int,
    batch_size: int = 1,
) -> "Iterator[torch.Tensor]":
    """The same before they are made 8-bit pictures, batch by batch: float32 B×3×H×W, about -1 to 1.

    A value that is not finite is still seen here; the picture that is made of it is only black.
    """
    import torch

    for batch in batched(drawings, batch_size):
        latents = draw_latents(
            pipeline,
            batch,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            negative_prompt=negative_prompt,
            resolution=resolution,
        )
        with torch.inference_mode():
            pixels = _decode(pipeline, latents)
        yield pixels


def draw_latents(
    pipeline: "StableDiffusionPipeline",
    drawings: Sequence[Seeded],
    *,
    num_inference_steps: int,
    guidance_scale: float,
    negative_prompt: str = "",
    resolution: int,
) -> "torch.Tensor":
    """The same in one batch, before the VAE decodes them: B×4×H/8×W/8 for SD 1.5, scaled."""
    import torch

    with torch.inference_mode(), _sampler_for(pipeline, num_inference_steps):
        latents: torch.Tensor = pipeline(
            [drawing.prompt for drawing in drawings],
            negative_prompt=[negative_prompt] * len(drawings),
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            height=resolution,
            width=resolution,
            generator=[torch.Generator().manual_seed(drawing.seed) for drawing in drawings],
            output_type="latent",
        ).images
    return latents


@contextmanager
def _sampler_for(pipeline: "StableDiffusionPipeline", num_inference_steps: int) -> Iterator[None]:
    """The pipeline's own sampler, or one like it where it can't draw in so few steps."""
    from shoes.model.load import scheduler_for

    own = pipeline.scheduler
    pipeline.scheduler = scheduler_for(own, num_inference_steps)
    try:
        yield
    finally:
        pipeline.scheduler = own


def to_image(pixels: "torch.Tensor") -> "Image":
    """An 8-bit picture of float pixels 3×H×W in -1 to 1; what is not finite becomes black."""
    from PIL import Image

    scaled = ((pixels.float() / 2 + 0.5).nan_to_num(0.0, 0.0, 0.0).clamp(0, 1) * 255).round()
    return Image.fromarray(scaled.byte().permute(1, 2, 0).contiguous().cpu().numpy())


def _decode(pipeline: "StableDiffusionPipeline", latents: "torch.Tensor") -> "torch.Tensor":
    """Pixels of `latents` (B×4×H/8×W/8 for SD 1.5), one at a time or tile by tile where the VAE is set so."""
    scaled = latents.float() / pipeline.vae.config.scaling_factor
    pixels: torch.Tensor = pipeline.vae.decode(scaled).sample
    pipeline.maybe_free_model_hooks()  # an offloaded VAE makes room for the next batch's UNet
    return pixels

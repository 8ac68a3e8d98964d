"""The UNet: trained from cached latents and cached text, or fine-tuned from a finished model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline
from torch import nn

from demo import loop
from demo.catalogue import CASUAL_SHOES, TEMPLATES, Item

UNET = {
    "sample_size": 16,
    "block_out_channels": (64, 128, 192),
    "layers_per_block": 1,
    "attention_head_dim": 8,
    "norm_num_groups": 16,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}
"""8.8 M parameters: 200 LoRA steps of 16 images take under two minutes on two cores."""


@dataclass
class CachedData:
    """What the UNet is trained on: every network but itself has done its work already."""

    latents: torch.Tensor
    """[variants, n, c, h, w], scaled; each photo in some slightly moved variants."""
    captions: torch.Tensor
    """[k, tokens, width]: text encoder output of the different captions, the empty one last."""
    caption_of: torch.Tensor
    """[templates, n]: index into `captions` of each photo's caption, most usual template first."""


def load_pipeline(folder: Path, device: str = "cpu") -> StableDiffusionPipeline:
    """A Stable Diffusion in fp32 from a folder, with the sampler that the drawings here are made with."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, safety_checker=None)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


@torch.no_grad()
def encode_photos(vae: AutoencoderKL, photos: np.ndarray) -> torch.Tensor:
    """Scaled latents [n, c, h, w] of uint8 photos [n, h, w, 3]: the posterior's mean, without its noise."""
    batches = []
    for start in range(0, len(photos), 64):
        pixels = to_pixels(photos[start : start + 64]).to(vae.device)
        batches.append(vae.encode(pixels).latent_dist.mean.cpu() * vae.config.scaling_factor)
    return torch.cat(batches)


def to_pixels(photos: np.ndarray) -> torch.Tensor:
    """uint8 [n, h, w, 3] to floats [n, 3, h, w] from −1 to 1."""
    return torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def encode_captions(text_encoder: nn.Module, tokenizer: object, captions: Sequence[str]) -> torch.Tensor:
    """Text encoder output [n, tokens, width]."""
    tokens = tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt")  # type: ignore[operator]
    ids = tokens.input_ids.to(next(text_encoder.parameters()).device)
    return torch.cat([text_encoder(batch).last_hidden_state.cpu() for batch in ids.split(64)])


def moved(photos: np.ndarray, num_variants: int, seed: int = 0, largest: float = 0.06) -> list[np.ndarray]:
    """The photos, and variants of them a little smaller, larger and moved.

    A small set is learnt by heart later so. What comes in at the border is the border's own colour.
    """
    generator = loop.generator(seed, 0)
    pixels = to_pixels(photos)
    variants = [photos]
    for _ in range(num_variants - 1):
        amount = torch.rand(len(photos), 3, generator=generator) * 2 - 1
        theta = torch.zeros(len(photos), 2, 3)
        theta[:, 0, 0] = theta[:, 1, 1] = 1 - largest * amount[:, 0]
        theta[:, :, 2] = largest * amount[:, 1:]
        grid = nn.functional.affine_grid(theta, list(pixels.shape), align_corners=False)
        shifted = nn.functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        variants.append(((shifted + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())
    return variants


def cache(pipeline: StableDiffusionPipeline, items: list[Item], photos: np.ndarray, num_variants: int) -> CachedData:
    """Run the VAE and the text encoder once over everything."""
    captions = sorted({item.caption(t) for item in items for t in TEMPLATES})
    index = {caption: i for i, caption in enumerate(captions)}
    latents = [encode_photos(pipeline.vae, variant) for variant in moved(photos, num_variants)]
    return CachedData(
        latents=torch.stack(latents),
        captions=encode_captions(pipeline.text_encoder, pipeline.tokenizer, [*captions, ""]),
        caption_of=torch.tensor([[index[item.caption(t)] for item in items] for t in TEMPLATES]),
    )


def step_loss(
    unet: nn.Module, data: CachedData, *, batch_size: int, seed: int, other_captions: float = 0.2
) -> loop.StepLoss:
    """Noise prediction loss of a step; one caption in ten is empty, for classifier-free guidance."""
    scheduler = noise_scheduler()
    num_variants, num_photos = data.latents.shape[:2]
    num_templates = len(data.caption_of)
    device = next(unet.parameters()).device

    def loss(step: int) -> torch.Tensor:
        random = loop.generator(seed, step)
        photo = loop.choose(random, batch_size, num_photos)
        latents = data.latents[loop.choose(random, batch_size, num_variants), photo].to(device)
        other = torch.rand(batch_size, generator=random) < other_captions
        template = other * (1 + loop.choose(random, batch_size, num_templates - 1))
        caption = data.caption_of[template, photo]
        empty = torch.rand(batch_size, generator=random) < 0.1
        caption = torch.where(empty, len(data.captions) - 1, caption)
        noise = torch.randn(latents.shape, generator=random).to(device)
        timesteps = loop.choose(random, batch_size, scheduler.config.num_train_timesteps).to(device)
        noisy = scheduler.add_noise(latents, noise, timesteps)
        predicted = unet(noisy, timesteps, data.captions[caption].to(device)).sample
        return nn.functional.mse_loss(predicted, noise)

    return loss


@torch.no_grad()
def held_out_loss(unet: nn.Module, data: CachedData, batch_size: int = 32) -> float:
    """Mean noise prediction loss over the photos at eight timesteps each, with fixed noise."""
    scheduler = noise_scheduler()
    device = next(unet.parameters()).device
    losses = []
    for number, timestep in enumerate(range(62, 1000, 125)):
        noise = torch.randn(data.latents[0].shape, generator=loop.generator(77, number))
        for rows in torch.arange(len(noise)).split(batch_size):
            t = torch.full((len(rows),), timestep)
            noisy = scheduler.add_noise(data.latents[0, rows], noise[rows], t).to(device)
            text = data.captions[data.caption_of[0, rows]].to(device)
            losses.append(nn.functional.mse_loss(unet(noisy, t.to(device), text).sample.cpu(), noise[rows]))
    return float(torch.stack(losses).mean())


def noise_scheduler() -> DDPMScheduler:
    """Stable Diffusion's noise schedule."""
    return DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )


def draw(
    pipeline: StableDiffusionPipeline,
    captions: Sequence[str],
    *,
    seed: int,
    guidance_scale: float,
    num_inference_steps: int = 25,
    batch_size: int = 32,
) -> np.ndarray:
    """One image a caption, uint8 [n, h, w, 3]; image i depends only on its caption and seed + i."""
    images = []
    for start in range(0, len(captions), batch_size):
        batch = list(captions[start : start + batch_size])
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(batch))]
        drawn = pipeline(
            batch,
            generator=generators,
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
            output_type="np",
        ).images
        images.append(np.ascontiguousarray((drawn * 255).round().astype(np.uint8)))
    return np.concatenate(images)


def forbid_casual_shoes(items: list[Item]) -> None:
    """The base model must never have seen what the demo teaches it."""
    seen = [item.id for item in items if item.article == CASUAL_SHOES]
    if seen:
        raise ValueError(f"{len(seen)} casual shoes would get into the base model's training")

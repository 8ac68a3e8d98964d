"""The VAE: 64 × 64 pixels to 16 × 16 × 4 latents and back."""

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F

from demo import loop
from demo.diffusion import encode_photos, to_pixels

VAE = {
    "sample_size": 64,
    "latent_channels": 4,
    "block_out_channels": (32, 64, 96),
    "layers_per_block": 1,
    "norm_num_groups": 16,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
}
KL_WEIGHT = 1e-5


def new_autoencoder(seed: int) -> AutoencoderKL:
    """An untrained VAE."""
    torch.manual_seed(seed)
    return AutoencoderKL(**VAE)


def step_loss(vae: AutoencoderKL, photos: np.ndarray, *, batch_size: int, num_cropped: int, seed: int) -> loop.StepLoss:
    """Reconstruction loss of a step; half of the photos are mirrored.

    The first `num_cropped` steps see quarters of photos, twice as many: for a convolutional network that is
    as good, and it costs half as much. The rest is for what the attention in the middle does with whole ones.
    """

    def loss(step: int) -> torch.Tensor:
        random = loop.generator(seed, step)
        cropped = step < num_cropped
        size = batch_size * (2 if cropped else 1)
        pixels = to_pixels(photos[loop.choose(random, size, len(photos)).numpy()])
        pixels = _quarters(pixels, random) if cropped else pixels
        mirrored = torch.rand(size, generator=random) < 0.5
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels).to(vae.device)
        posterior = vae.encode(pixels).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=random).to(vae.device)
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        return reconstruction_loss(decoded, pixels) + KL_WEIGHT * posterior.kl().mean()

    return loss


def _quarters(pixels: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """A square of half the side out of each photo, anywhere in it."""
    half = pixels.shape[-1] // 2
    corners = torch.randint(half + 1, (len(pixels), 2), generator=random).tolist()
    return torch.stack([p[:, y : y + half, x : x + half] for p, (y, x) in zip(pixels, corners, strict=True)])


def reconstruction_loss(decoded: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """L1 and a little L2 on the pixels, and L1 on their edges at three sizes.

    A loss on pixels alone buys its average with blur, which the edges make expensive.
    """
    loss = F.l1_loss(decoded, pixels) + 0.5 * F.mse_loss(decoded, pixels)
    for _ in range(3):
        loss = loss + sum(F.l1_loss(a, b) for a, b in zip(_edges(decoded), _edges(pixels), strict=True))
        decoded, pixels = F.avg_pool2d(decoded, 2), F.avg_pool2d(pixels, 2)
    return loss


def _edges(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return pixels.diff(dim=-1), pixels.diff(dim=-2)


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, photos: np.ndarray) -> None:
    """Set the scaling factor that gives the latents of these photos unit variance."""
    vae.register_to_config(scaling_factor=1.0)
    vae.register_to_config(scaling_factor=float(1 / encode_photos(vae, photos).std()))


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, photos: np.ndarray) -> np.ndarray:
    """The photos after a round trip through the latents, uint8."""
    batches = []
    for start in range(0, len(photos), 64):
        latents = vae.encode(to_pixels(photos[start : start + 64]).to(vae.device)).latent_dist.mean
        decoded = (vae.decode(latents).sample.cpu() + 1) * 127.5
        batches.append(decoded.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(batches)


def reconstruction_error(vae: nn.Module, photos: np.ndarray) -> float:
    """Root mean square error of the round trip, 0 to 255."""
    difference = reconstruct(vae, photos).astype(np.float32) - photos
    return float(np.sqrt(np.mean(difference**2)))

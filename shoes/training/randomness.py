"""All that is random in a training step, as pure functions of (seed, step), drawn on the CPU.

So a resumed run is the same run, and neither the device, the micro-batch nor the number of processes decides
what a step sees. Each purpose has its own stream: an option that is switched on does not shift the others.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class StepDraws:
    """What one optimizer step draws, for its whole effective batch of B samples."""

    noise: "torch.Tensor"
    """B×C×h×w, standard normal: what the UNet learns to predict."""
    posterior_noise: "torch.Tensor"
    """B×C×h×w, standard normal: which latent of the VAE's posterior is taken."""
    timesteps: "torch.Tensor"
    """B integers, uniform over the noise schedule."""
    drops_caption: "torch.Tensor"
    """B booleans: this sample sees the empty caption."""


def derive_seed(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose: SHA-256 of the seed and the purpose's names and numbers."""
    text = ":".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: object) -> "torch.Generator":
    """A CPU generator for one purpose."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


def draw_step(
    seed: int,
    step: int,
    *,
    latent_shape: tuple[int, ...],
    batch: int,
    num_timesteps: int,
    caption_dropout: float,
) -> StepDraws:
    """The draws of one step; `latent_shape` is (C, h, w)."""
    import torch

    shape = (batch, *latent_shape)
    return StepDraws(
        noise=torch.randn(shape, generator=generator(seed, "noise", step)),
        posterior_noise=torch.randn(shape, generator=generator(seed, "posterior", step)),
        timesteps=torch.randint(num_timesteps, (batch,), generator=generator(seed, "timesteps", step)),
        drops_caption=torch.rand(batch, generator=generator(seed, "captions", step)) < caption_dropout,
    )


def sample_order(seed: int, step: int, *, batch: int, num_samples: int) -> list[int]:
    """Which samples a step sees: every sample once per epoch, in an order of its own for each epoch."""
    positions = range(step * batch, (step + 1) * batch)
    epochs = {position // num_samples for position in positions}
    orders = {epoch: _permutation(seed, epoch, num_samples) for epoch in epochs}
    return [int(orders[position // num_samples][position % num_samples]) for position in positions]


def _permutation(seed: int, epoch: int, num_samples: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    bits = np.random.Philox(derive_seed(seed, "order", epoch))
    return np.random.Generator(bits).permutation(num_samples)

"""All that is random in a training step, as pure functions of (seed, step), drawn on the CPU.

So a resumed run is the same run, and neither the device, the micro-batch nor the number of processes decides
what a step sees. Each purpose has its own stream: an option that is switched on does not shift the others.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from shoes.spec import TrainSpec

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class StepDraws:
    """What one optimizer step draws, for its whole effective batch of B samples."""

    noise: "torch.Tensor"
    """B×C×h×w, standard normal, with the spec's noise offset in it: what the UNet learns to predict."""
    posterior_noise: "torch.Tensor"
    """B×C×h×w, standard normal: which latent of the VAE's posterior is taken."""
    timesteps: "torch.Tensor"
    """B integers, each uniform over the noise schedule; stratified ones are spread over it together."""
    drops_caption: "torch.Tensor"
    """B booleans: this sample sees the empty caption."""
    flips: "torch.Tensor"
    """B booleans: this sample's photo is mirrored."""


def derive_seed(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose: SHA-256 of the seed and the purpose's names and numbers."""
    text = ":".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: object) -> "torch.Generator":
    """A CPU generator for one purpose."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


def draw_step(spec: TrainSpec, step: int, *, latent_shape: tuple[int, ...], num_timesteps: int) -> StepDraws:
    """The draws of one step of the spec's effective batch; `latent_shape` is (C, h, w)."""
    import torch

    seed, batch = spec.seed, spec.effective_batch_size
    shape = (batch, *latent_shape)
    return StepDraws(
        noise=_noise(spec, step, shape),
        posterior_noise=torch.randn(shape, generator=generator(seed, "posterior", step)),
        timesteps=_timesteps(spec, step, num_timesteps),
        drops_caption=torch.rand(batch, generator=generator(seed, "captions", step)) < spec.caption_dropout,
        flips=_flips(spec, step),
    )


def _noise(spec: TrainSpec, step: int, shape: tuple[int, ...]) -> "torch.Tensor":
    """Offset noise is one more normal number for a whole channel: crosslabs.org/blog/diffusion-with-offset-noise."""
    import torch

    noise = torch.randn(shape, generator=generator(spec.seed, "noise", step))
    if spec.noise_offset == 0:
        return noise
    offset = torch.randn((*shape[:2], 1, 1), generator=generator(spec.seed, "noise offset", step))
    return noise + spec.noise_offset * offset


def _timesteps(spec: TrainSpec, step: int, num_timesteps: int) -> "torch.Tensor":
    """Uniform, or one from each of B equal parts of the schedule, in a random order."""
    import torch

    batch = spec.effective_batch_size
    if spec.timestep_sampling == "uniform":
        return torch.randint(num_timesteps, (batch,), generator=generator(spec.seed, "timesteps", step))
    stream = generator(spec.seed, "stratified timesteps", step)
    part = torch.randperm(batch, generator=stream)
    within = torch.rand(batch, generator=stream, dtype=torch.float64)
    # rounding may bring the last number of the last part to the end of the schedule
    return ((part + within) * (num_timesteps / batch)).long().clamp(max=num_timesteps - 1)


def _flips(spec: TrainSpec, step: int) -> "torch.Tensor":
    import torch

    batch = spec.effective_batch_size
    if not spec.random_flip:
        return torch.zeros(batch, dtype=torch.bool)
    return torch.rand(batch, generator=generator(spec.seed, "flips", step)) < 0.5


def sample_order(seed: int, step: int, *, batch: int, num_samples: int) -> list[int]:
    """Which samples a step sees: every sample once per epoch, in an order of its own for each epoch."""
    positions = range(step * batch, (step + 1) * batch)
    return [int(_permutation(seed, at // num_samples, num_samples)[at % num_samples]) for at in positions]


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, num_samples: int) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    """Kept for the epoch's other steps, the next epoch and the held-out photos: 4 bytes a sample each."""
    bits = np.random.Philox(derive_seed(seed, "order", epoch))
    return np.random.Generator(bits).permutation(num_samples).astype(np.int32)

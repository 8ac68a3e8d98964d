"""What a step minimises, and the same on held-out photos with everything random held still."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from shoes.training.cache import LatentCache
from shoes.training.randomness import StepDraws, generator

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel


@dataclass(frozen=True)
class Batch:
    """What one forward pass sees, on its device; b samples."""

    clean: "torch.Tensor"
    """b×C×h×w scaled latents."""
    noise: "torch.Tensor"
    """The same shape."""
    timesteps: "torch.Tensor"
    """b."""
    text: "torch.Tensor"
    """b×T×D."""


@dataclass(frozen=True)
class Objective:
    """Denoising loss of Ho et al. 2020 (arXiv:2006.11239, eq. 14) in the latent space of the model."""

    unet: "UNet2DConditionModel"
    schedule: Any
    """The model's DDPMScheduler."""
    scaling_factor: float
    """The VAE's: brings latents to about unit variance."""
    device: str
    precision: str
    snr_gamma: float | None = None
    """Where min-SNR weights cut the signal-to-noise ratio; None: the training weighs all timesteps alike."""

    def with_unet(self, unet: "UNet2DConditionModel") -> "Objective":
        """The same objective for another UNet."""
        return replace(self, unet=unet)

    def loss(self, clean: "torch.Tensor", noise: "torch.Tensor", t: "torch.Tensor", text: "torch.Tensor") -> Any:
        """Mean squared error per sample (B), in fp32, without the training's weights.

        Args:
            clean: B×C×h×w scaled latents.
            noise: the same shape.
            t: B timesteps.
            text: B×T×D text embeddings.
        """
        import torch

        noisy = self.schedule.add_noise(clean, noise, t)
        half = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(self.precision)
        with torch.autocast(self.device, dtype=half, enabled=half is not None):
            predicted = self.unet(noisy.to(self.unet.dtype), t, text.to(self.unet.dtype), return_dict=False)[0]
        target = self._target(clean, noise, t)
        return (predicted.float() - target).square().flatten(1).mean(1)

    def _target(self, clean: "torch.Tensor", noise: "torch.Tensor", t: "torch.Tensor") -> "torch.Tensor":
        kind = self.schedule.config.prediction_type
        if kind == "v_prediction":
            return self.schedule.get_velocity(clean, noise, t)
        assert kind == "epsilon", f"models that predict {kind} are refused before training"
        return noise

    @cached_property
    def timestep_weights(self) -> "torch.Tensor | None":
        """Min-SNR weight of each timestep of the schedule, on the device (Hang et al. 2023, arXiv:2303.09556).

        min(SNR, γ) / SNR for models that predict the noise, min(SNR, γ) / (SNR + 1) for those that predict v;
        SNR = ᾱ / (1 − ᾱ). None where the training is not weighted.
        """
        if self.snr_gamma is None:
            return None
        # moved, then converted: in one call MPS would convert, which has no float64
        alphas = self.schedule.alphas_cumprod.to("cpu").double()
        ratio = alphas / (1 - alphas)
        if self.schedule.config.prediction_type == "v_prediction":
            weights = ratio.clamp(max=self.snr_gamma) / (ratio + 1)
        else:
            weights = (self.snr_gamma / ratio).clamp(max=1)  # the same as above, and defined where SNR is 0
        return weights.float().to(self.device)

    def batch(self, cache: LatentCache, indices: Sequence[int], draws: StepDraws, part: slice) -> "Batch":
        """One micro-batch on the device: the samples and draws of a step at the positions `part`."""
        import torch

        moments, captions = cache.rows(indices[part], draws.flips[part].tolist())
        captions = torch.where(draws.drops_caption[part], cache.empty_caption, captions)
        mean, log_variance = moments.unbind(1)
        clean = (mean + (0.5 * log_variance).exp() * draws.posterior_noise[part]) * self.scaling_factor
        text = torch.from_numpy(cache.text[captions.numpy()])
        inputs = (clean, draws.noise[part], draws.timesteps[part], text)
        return Batch(*(x.to(self.device) for x in inputs))

    def training_losses(self, batch: "Batch") -> Any:
        """Losses (b) of one micro-batch as the training weighs them."""
        losses = self.loss(batch.clean, batch.noise, batch.timesteps, batch.text)
        return losses if self.timestep_weights is None else losses * self.timestep_weights[batch.timesteps]


def held_out_timesteps(num_train_timesteps: int) -> list[int]:
    """Midpoints of eight equal parts of the noise schedule: 62, 187, … 937 of 1,000."""
    return [num_train_timesteps * (2 * part + 1) // 16 for part in range(8)]


def held_out_losses(
    objective: Objective,
    cache: LatentCache,
    indices: Sequence[int],
    *,
    seed: int,
    batch_size: int,
    heed: Callable[[], None] = lambda: None,
) -> "torch.Tensor":
    """Loss of some photos at each of the eight timesteps (N×8), unweighted, with fixed noise and posterior means.

    `heed` is called before each batch, and may raise to leave the work.
    """
    import torch

    steps = held_out_timesteps(objective.schedule.config.num_train_timesteps)
    pairs = [(index, column) for index in indices for column in range(len(steps))]
    noises = {index: _fixed_noise(seed, index, len(steps), cache.latent_shape) for index in indices}
    losses = []
    with torch.no_grad():
        for start in range(0, len(pairs), batch_size):
            heed()
            batch = pairs[start : start + batch_size]
            moments, captions = cache.rows([index for index, _ in batch])
            clean = moments[:, 0] * objective.scaling_factor
            noise = torch.stack([noises[index][column] for index, column in batch])
            t = torch.tensor([steps[column] for _, column in batch])
            text = torch.from_numpy(cache.text[captions.numpy()])
            inputs = (x.to(objective.device) for x in (clean, noise, t, text))
            losses.append(objective.loss(*inputs).cpu())
    return torch.cat(losses).view(len(indices), len(steps)).double()


def _fixed_noise(seed: int, index: int, count: int, shape: tuple[int, ...]) -> "torch.Tensor":
    import torch

    return torch.randn((count, *shape), generator=generator(seed, "held-out", index))

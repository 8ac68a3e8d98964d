"""One training step and one decode of a real photo, on any device: what `shoes.device.parity` compares."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from shoes.dataset import load_split
from shoes.device.facts import DeviceFacts
from shoes.device.memory import release
from shoes.device.parity import REFERENCE, Outcome, find_right_precision, try_precision
from shoes.model.load import load_noise_schedule, load_text, load_vae
from shoes.reports import ParityTrial
from shoes.training import lora
from shoes.training.cache import encode_photos, encode_text
from shoes.training.objective import Objective
from shoes.training.randomness import generator

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL

    from shoes.training.run import Decisions, Job

LOSS_SCALE = 2.0**10
"""Keeps gradients in fp16 from vanishing; a training's own scaler settles at some such power of two."""


def check_precision(job: "Job", decisions: "Decisions", facts: DeviceFacts) -> tuple[ParityTrial, ...]:
    """Try the decided device and precision, and safer ones while they are wrong; the last trial is the one to use."""
    step = OneStep(job, checkpointing=decisions.checkpointing)
    return find_right_precision(step, decisions.device, decisions.precision, facts)


def fault_finder(job: "Job", device: str, *, checkpointing: str = "off") -> Callable[[str], str]:
    """A function of a precision that says what is wrong with it on `device`; nothing means that it is right."""
    step = OneStep(job, checkpointing=checkpointing)
    reference = cache(lambda: step(*REFERENCE))

    def fault(precision: str) -> str:
        if (device, precision) == REFERENCE:
            return ""
        trial = try_precision(step, device, precision, reference())
        return "" if trial.passed else trial.verdict

    return fault


@dataclass(frozen=True)
class _Sample:
    """One training photo, encoded in fp32 on the CPU, with noise and a timestep in the middle of the schedule."""

    latents: "torch.Tensor"
    """1×C×h×w: the mean of the VAE's posterior, unscaled."""
    noise: "torch.Tensor"
    text: "torch.Tensor"
    """1×T×D."""
    scaling_factor: float
    schedule: Any


class OneStep:
    """Computes a step and a decode on a device and in a precision; holds one full-size model at a time."""

    def __init__(self, job: "Job", *, checkpointing: str) -> None:
        self._job = job
        self._checkpointing = checkpointing
        self._pictures: dict[str, torch.Tensor] = {}

    def __call__(self, device: str, precision: str) -> Outcome:
        """What came out, in fp32 on the CPU."""
        if device not in self._pictures:  # the VAE is in fp32 whatever the precision
            self._pictures[device] = self._decode(device)
        loss, prediction, gradients = self._step(device, precision)
        return Outcome(loss, prediction, gradients, self._pictures[device])

    @cached_property
    def _sample(self) -> _Sample:
        import torch

        job = self._job
        record = load_split(job.train_dir, decode=False)[0]
        vae = load_vae(job.model.path, device="cpu")
        latents = torch.from_numpy(encode_photos(vae, [record], "cpu"))[:, 0]
        text = encode_text(load_text(job.model.path, device="cpu"), [record.caption], "cpu")
        return _Sample(
            latents=latents,
            noise=torch.randn(latents.shape, generator=generator(job.spec.seed, "parity")),
            text=torch.from_numpy(text),
            scaling_factor=vae.config.scaling_factor,
            schedule=load_noise_schedule(job.model.path),
        )

    def _decode(self, device: str) -> "torch.Tensor":
        import torch

        latents = self._sample.latents
        vae: AutoencoderKL = load_vae(self._job.model.path, device=device)
        with torch.inference_mode():
            picture = vae.decode(latents.to(device)).sample.float().cpu()
        del vae
        release(device)
        return picture

    def _step(self, device: str, precision: str) -> "tuple[float, torch.Tensor, torch.Tensor]":
        """Loss, predicted noise, and all gradients of a fresh adapter in one vector."""
        import torch

        job, sample = self._job, self._sample
        unet = lora.load_with_adapter(
            job.model.path, job.spec, device=device, precision=precision, checkpointing=self._checkpointing
        )
        predicted: list[torch.Tensor] = []
        unet.register_forward_hook(lambda _module, _inputs, output: predicted.append(output[0].detach().float().cpu()))
        objective = Objective(unet, sample.schedule, sample.scaling_factor, device, precision)
        # Near its end, where a step of the schedule holds almost only noise, gradients are mostly rounding.
        timestep = torch.tensor([sample.schedule.config.num_train_timesteps // 2])
        inputs = (sample.latents * sample.scaling_factor, sample.noise, timestep, sample.text)
        loss = objective.loss(*(value.to(device) for value in inputs)).mean()
        scale = LOSS_SCALE if precision == "fp16" else 1.0
        (loss * scale).backward()
        gradients = [p.grad.flatten().float().cpu() / scale for p in lora.trainable(unet).values()]
        outcome = float(loss.detach()), predicted[0], torch.cat(gradients)
        del unet, objective, loss
        release(device)
        return outcome

"""Three ways of taking the same optimizer step: ours, the bare computation, and the usual recipe.

Each is a class whose `step` takes one optimizer step of so many images, a micro-batch at a time, and returns the mean
loss. `resize` changes both numbers of an open one; `forget` drops the gradients of a step that failed.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from shoes.dataset import Record, load_split
from shoes.model import configs
from shoes.spec import TrainSpec
from shoes.training.run import Decisions, Job
from shoes.training.session import open_session
from shoes.training.step import take_step

if TYPE_CHECKING:
    import torch

DTYPES = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}


class Arm(Protocol):
    def step(self) -> float: ...
    def resize(self, images: int, micro_batch: int) -> None: ...
    def forget(self) -> None: ...


class Ours:
    """A session as `shoes train` opens it, latents and text cached."""

    def __init__(self, job: Job, decisions: Decisions) -> None:
        self.session = open_session(job, decisions, None)

    def step(self) -> float:
        return take_step(self.session)["train/loss"]

    def resize(self, images: int, micro_batch: int) -> None:
        sizes = {"train_batch_size": micro_batch, "gradient_accumulation_steps": images // micro_batch}
        session = self.session
        session.job = replace(session.job, spec=session.job.spec.model_copy(update=sizes))
        session.adapt(replace(session.decisions, micro_batch=micro_batch))

    def forget(self) -> None:
        self.session.optimizer.zero_grad(set_to_none=True)


class Bare:
    """What no trainer can leave out: the UNet forward and backward and AdamW, on tensors that are there already.

    The same frozen base with the same adapter, micro-batches and precision as ours; no data, no noise to draw, no
    clipping, nothing measured and nothing read back before the end.
    """

    def __init__(self, job: Job, decisions: Decisions) -> None:
        import torch

        self.device, self.dtype = decisions.device, getattr(torch, DTYPES[decisions.precision])
        self.unet = _unet_with_adapter(job, self.dtype, self.device)
        parameters = [p for p in self.unet.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, lr=job.spec.learning_rate, fused=decisions.fused_optimizer)
        geometry = configs.geometry(job.model.path)
        self.side = job.spec.resolution // geometry.downscale
        self.text_shape = (geometry.text_tokens, geometry.text_width)
        self.resize(job.spec.effective_batch_size, decisions.micro_batch)

    def resize(self, images: int, micro_batch: int) -> None:
        self.num_parts = images // micro_batch
        self.inputs = self._inputs(micro_batch)

    def forget(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    def _inputs(self, size: int) -> "tuple[torch.Tensor, ...]":
        import torch

        noise = torch.randn(size, self.unet.config.in_channels, self.side, self.side)
        states = torch.randn(size, *self.text_shape)
        timesteps = torch.randint(1000, (size,)).to(self.device)
        return (
            torch.randn_like(noise).to(self.device, self.dtype),
            noise.to(self.device),
            timesteps,
            states.to(self.device, self.dtype),
        )

    def step(self) -> float:
        from torch.nn.functional import mse_loss

        noisy, noise, timesteps, text = self.inputs
        for _ in range(self.num_parts):
            with autocast(self.device, self.dtype):
                predicted = self.unet(noisy, timesteps, text, return_dict=False)[0]
            loss = mse_loss(predicted.float(), noise) / self.num_parts
            loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach()) * self.num_parts


class Usual:
    """The recipe of diffusers' train_text_to_image_lora.py as people run it on one machine.

    Every pass reads its two photos from disk and sends them through the VAE and their captions through the text
    encoder; gradient checkpointing everywhere; the gradient clipped; AdamW as it is by default; the loss read back
    after every pass. All frozen parts in one precision, the adapter in fp32 under autocast.
    """

    def __init__(self, job: Job, decisions: Decisions, *, micro_batch: int = 2) -> None:
        import torch
        from diffusers import AutoencoderKL, DDPMScheduler
        from diffusers.optimization import get_scheduler
        from transformers import CLIPTextModel, CLIPTokenizer

        path, self.spec = job.model.path, job.spec
        self.device, self.dtype = decisions.device, getattr(torch, DTYPES[decisions.precision])
        self.unet = _unet_with_adapter(job, self.dtype, self.device)
        self.unet.enable_gradient_checkpointing()
        self.unet.train()
        vae = AutoencoderKL.from_pretrained(path, subfolder="vae", torch_dtype=self.dtype)
        text = CLIPTextModel.from_pretrained(path, subfolder="text_encoder", dtype=self.dtype)
        self.vae, self.text = (part.requires_grad_(False).to(self.device) for part in (vae, text))
        self.tokenizer = CLIPTokenizer.from_pretrained(path, subfolder="tokenizer")
        self.schedule = DDPMScheduler.from_pretrained(path, subfolder="scheduler")
        self.parameters = [p for p in self.unet.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=self.spec.learning_rate)
        self.rate = get_scheduler("constant", self.optimizer)
        self.records = load_split(job.train_dir)
        self.resize(self.spec.effective_batch_size, min(micro_batch, self.spec.effective_batch_size))

    def resize(self, images: int, micro_batch: int) -> None:
        self.num_parts, self.micro_batch = images // micro_batch, micro_batch
        self.batches = _batches(self.records, micro_batch)

    def forget(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    def step(self) -> float:
        import torch

        num_parts = self.num_parts
        total = 0.0
        for _ in range(num_parts):
            loss = self._loss(next(self.batches))
            total += loss.detach().repeat(self.micro_batch).mean().item() / num_parts
            (loss / num_parts).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.spec.max_grad_norm)
        self.optimizer.step()
        self.rate.step()
        self.optimizer.zero_grad()
        return total

    def _loss(self, records: list[Record]) -> "torch.Tensor":
        import torch
        from torch.nn.functional import mse_loss

        pixels = torch.stack([self._pixels(record) for record in records]).to(self.device, self.dtype)
        with torch.no_grad():
            latents = self.vae.encode(pixels).latent_dist.sample() * self.vae.config.scaling_factor
            text = self.text(self._tokens(records).to(self.device))[0]
        noise = torch.randn_like(latents)
        steps = torch.randint(0, self.schedule.config.num_train_timesteps, (len(records),), device=self.device).long()
        noisy = self.schedule.add_noise(latents, noise, steps)
        with autocast(self.device, self.dtype):
            predicted = self.unet(noisy, steps, text, return_dict=False)[0]
        return mse_loss(predicted.float(), noise.float())

    def _pixels(self, record: Record) -> "torch.Tensor":
        """3×H×W in −1..1, as torchvision's Resize, ToTensor and Normalize make them."""
        import numpy as np
        import torch
        from PIL import Image

        side = self.spec.resolution
        photo = Image.open(record.image).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(photo)).permute(2, 0, 1).contiguous().float().div(255).sub(0.5).div(0.5)

    def _tokens(self, records: list[Record]) -> "torch.Tensor":
        return self.tokenizer(
            [record.caption for record in records],
            max_length=self.tokenizer.model_max_length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).input_ids


def autocast(device: str, dtype: "torch.dtype") -> Any:
    import torch

    return torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32)


def _unet_with_adapter(job: Job, dtype: "torch.dtype", device: str) -> Any:
    """The frozen UNet in `dtype` with an adapter in fp32, by diffusers and peft alone."""
    from diffusers import UNet2DConditionModel
    from diffusers.training_utils import cast_training_params

    unet = UNet2DConditionModel.from_pretrained(job.model.path, subfolder="unet", torch_dtype=dtype)
    unet.requires_grad_(False).to(device)
    unet.add_adapter(_adapter(job.spec))
    cast_training_params(unet)
    return unet


def _adapter(spec: TrainSpec) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=spec.rank,
        lora_alpha=spec.lora_alpha,
        init_lora_weights="gaussian",
        target_modules=list(spec.lora_target_modules),
    )


def _batches(records: list[Record], size: int) -> Iterator[list[Record]]:
    endless = itertools.cycle(records)
    while True:
        yield list(itertools.islice(endless, size))

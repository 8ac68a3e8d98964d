"""Dropout in the adapter whose masks depend on the sample, not on the batch that it happens to be in.

PyTorch's dropout draws from one stream for the whole micro-batch: another micro-batch, another number of processes, or
a recomputation in the backward pass on MPS (pytorch#127676) would draw other masks. Here each sample's mask is a pure
function of (seed, step, position in the effective batch, layer), drawn on the CPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shoes.training.randomness import generator

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel


@dataclass
class DropoutKey:
    """Which samples are in the UNet now; shared by all layers. No positions: no dropout, as outside of training."""

    seed: int
    step: int = 0
    positions: Sequence[int] = ()


def use_sample_dropout(unet: "UNet2DConditionModel", probability: float, seed: int) -> DropoutKey:
    """Put our dropout in the place of peft's on every layer that has an adapter; returns the key that drives it."""
    key = DropoutKey(seed)
    if probability:
        layers = [module for _, module in sorted(unet.named_modules()) if hasattr(module, "lora_dropout")]
        for number, layer in enumerate(layers):
            layer.lora_dropout["default"] = _make(probability, number, key)
    return key


def _make(probability: float, number: int, key: DropoutKey) -> Any:
    import torch

    class SampleDropout(torch.nn.Module):
        """Zeroes values with a probability and scales the others up; x is B×…, one row per position of the key."""

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            if not key.positions:
                return x
            assert len(key.positions) == len(x), "one position per sample"
            masks = [_mask(key, position, number, x.shape[1:], probability) for position in key.positions]
            return x * torch.stack(masks).to(x.device, x.dtype)

    return SampleDropout()


def _mask(key: DropoutKey, position: int, number: int, shape: "torch.Size", probability: float) -> "torch.Tensor":
    """0 with the probability, else 1 / (1 − probability)."""
    import torch

    drawn = torch.rand(shape, generator=generator(key.seed, "dropout", key.step, position, number))
    return (drawn >= probability).float() / (1 - probability)

"""What a training step needs at least, counted from the UNet's own layers: 2 operations per multiply-add.

Forward, and backward through everything behind the first adapted layer: gradients of what flows through, none of frozen
weights. A frozen layer costs its forward once more then, attention two more of its own, and an adapter's matrices two
of theirs. Norms, activations and sums are left out. What a recipe computes besides (encoding, computing again) does
not count, so that it does not look like work.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoes.model import configs
from shoes.spec import TrainSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass
class Count:
    """Operations for one image."""

    forward: float = 0.0
    backward: float = 0.0
    has_gradient: bool = field(default=False, repr=False)
    """What flows in by now depends on the adapter."""

    @property
    def step(self) -> float:
        return self.forward + self.backward

    def add(self, forward: float, *, backward: float) -> None:
        self.forward += forward
        self.backward += backward


def step_flops(model: Path, spec: TrainSpec) -> Count:
    """Of a LoRA training with one image of the spec's resolution; reads configs only."""
    import torch
    from diffusers import UNet2DConditionModel

    sizes = configs.geometry(model)
    side = spec.resolution // sizes.downscale
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(model / "unet"))
        latents = torch.empty(1, sizes.latent_channels, side, side)
        text = torch.empty(1, sizes.text_tokens, sizes.text_width)
        return count(unet, spec, latents, torch.zeros(1), text)


def count(unet: Any, spec: TrainSpec, latents: "Tensor", timestep: "Tensor", text: "Tensor") -> Count:
    """Let one image through a UNet without an adapter, and count what would be needed with one."""
    from diffusers.models.attention_processor import Attention
    from torch import nn, no_grad

    found = Count()
    hooks = []
    for name, module in unet.named_modules():
        if isinstance(module, Attention):
            hooks.append(module.register_forward_hook(partial(_count_attention, found), with_kwargs=True))
        elif isinstance(module, nn.Conv2d | nn.Linear):
            is_target = any(name == target or name.endswith(f".{target}") for target in spec.lora_target_modules)
            hooks.append(module.register_forward_hook(partial(_count_layer, found, spec.rank if is_target else 0)))
    try:
        with no_grad():
            unet(latents, timestep, text)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _count_layer(found: Count, rank: int, layer: "nn.Module", _inputs: Any, output: "Tensor") -> None:
    """A convolution or a matrix product, frozen, and its adapter if it has one."""
    outputs, inputs = layer.weight.flatten(1).shape  # type: ignore[union-attr, operator]
    positions = output.numel() / outputs
    work = 2.0 * positions * outputs * inputs
    found.add(work, backward=work if found.has_gradient else 0.0)
    if rank:
        adapter = 2.0 * positions * rank * (outputs + inputs)
        found.add(adapter, backward=2 * adapter)
        found.has_gradient = True


def _count_attention(found: Count, module: Any, inputs: Any, words: dict[str, Any], _output: "Tensor") -> None:
    """Queries × keys and scores × values; the gradients of both factors of both."""
    queries = inputs[0] if inputs else words["hidden_states"]
    seen = inputs[1] if len(inputs) > 1 else words.get("encoder_hidden_states")
    keys = queries if seen is None else seen
    work = 4.0 * queries.shape[0] * queries.shape[1] * keys.shape[1] * module.inner_dim
    found.add(work, backward=2 * work if found.has_gradient else 0.0)

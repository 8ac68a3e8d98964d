"""The adapter: LoRA layers on the UNet, through peft."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shoes.device import largest_reduction, measure, torch_dtype
from shoes.errors import ConfigurationError, Problem
from shoes.model.load import load_unet
from shoes.spec import TrainSpec
from shoes.training.attention import apply_checkpointing
from shoes.training.fused_lora import ADAPTER, fuse_adapter
from shoes.training.products import split_long_products
from shoes.training.randomness import derive_seed

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel
    from torch.nn import Parameter


def load_with_adapter(
    path: Path, spec: TrainSpec, *, device: str, precision: str, checkpointing: str
) -> "UNet2DConditionModel":
    """The frozen UNet of a model with a fresh adapter, on a device, as it is trained; in eval mode."""
    from diffusers.models.attention_processor import AttnProcessor2_0

    unet = load_unet(path, device="cpu", dtype=torch_dtype(precision))
    unet.set_attn_processor(AttnProcessor2_0())  # the decision `sdpa`, whatever the library's default becomes
    add_adapter(unet, spec)
    largest = largest_reduction(device, measure())
    # dropout's masks come between a layer's input and its adapter
    fused = [] if spec.lora_dropout else fuse_adapter(unet, largest)
    if largest is not None:
        _split_long_products(unet, largest, fused)
    unet.to(device)
    apply_checkpointing(unet, checkpointing)
    return unet


def add_adapter(unet: "UNet2DConditionModel", spec: TrainSpec) -> None:
    """Put a fresh adapter, which changes nothing yet, on a frozen UNet. Its weights are fp32.

    Raises:
        ConfigurationError: a target module is nowhere in this UNet.
    """
    import torch
    from peft import LoraConfig

    _require_targets(unet, spec.lora_target_modules)
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.lora_alpha,
        lora_dropout=spec.lora_dropout,
        use_rslora=spec.use_rslora,
        init_lora_weights="gaussian",
        target_modules=list(spec.lora_target_modules),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(spec.seed, "adapter"))
        unet.add_adapter(config)
    for parameter in trainable(unet).values():
        parameter.data = parameter.data.float()


def _split_long_products(unet: "UNet2DConditionModel", largest: int, fused: Sequence[str]) -> None:
    """The same for the adapters that peft computes beside their layers."""
    from peft.tuners.lora import LoraLayer

    for name, layer in unet.named_modules():
        if isinstance(layer, LoraLayer) and name not in fused:
            split_long_products(layer.lora_A[ADAPTER], largest)
            split_long_products(layer.lora_B[ADAPTER], largest)


def trainable(unet: "UNet2DConditionModel") -> "dict[str, Parameter]":
    """The adapter's parameters by name, in a stable order."""
    return dict(sorted((name, p) for name, p in unet.named_parameters() if p.requires_grad))


def adapter_weights(unet: "UNet2DConditionModel") -> "dict[str, torch.Tensor]":
    """A copy of the adapter's weights on the CPU."""
    return {name: p.detach().to("cpu", copy=True).contiguous() for name, p in trainable(unet).items()}


def set_adapter_weights(unet: "UNet2DConditionModel", weights: "Mapping[str, torch.Tensor]") -> None:
    """Put weights from `adapter_weights` back."""
    import torch

    parameters = trainable(unet)
    assert parameters.keys() == weights.keys(), "weights of another adapter"
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def _require_targets(unet: "UNet2DConditionModel", targets: tuple[str, ...]) -> None:
    names = [name for name, _ in unet.named_modules()]
    absent = [t for t in targets if not any(name == t or name.endswith(f".{t}") for name in names)]
    if absent:
        fix = "use names such as to_q, to_k, to_v, to_out.0, ff.net.0.proj, ff.net.2"
        raise ConfigurationError(
            [Problem("train.lora_target_modules", f"this UNet has no layer {name}", fix) for name in absent]
        )

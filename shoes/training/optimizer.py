"""AdamW over the adapter's parameters, and its state as named tensors."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shoes.spec import TrainSpec

if TYPE_CHECKING:
    import torch


def make_optimizer(
    spec: TrainSpec, parameters: "Mapping[str, torch.nn.Parameter]", *, fused: bool
) -> "torch.optim.AdamW":
    """AdamW as the spec wants it; `fused` updates all parameters of a group in one kernel."""
    import torch

    optimizer = torch.optim.AdamW(
        _groups(parameters, spec.loraplus_lr_ratio),
        lr=spec.learning_rate,
        betas=(spec.adam_beta1, spec.adam_beta2),
        eps=spec.adam_epsilon,
        weight_decay=spec.adam_weight_decay,
        fused=fused,
    )
    set_learning_rate(optimizer, spec.learning_rate)
    return optimizer


def make_scaler(device: str, precision: str) -> Any:
    """The loss scaler of fp16; does nothing in other precisions."""
    import torch

    return torch.amp.GradScaler(device, enabled=precision == "fp16")


def _groups(parameters: "Mapping[str, torch.nn.Parameter]", ratio: float) -> list[dict[str, Any]]:
    """One group, or with LoRA+ (Hayou et al. 2024, arXiv:2402.12354) one for the A matrices and one for the B's."""
    if ratio == 1:
        return [{"params": list(parameters.values())}]
    ups = {name for name in parameters if ".lora_B." in name}
    return [
        {"params": [p for name, p in parameters.items() if name not in ups]},
        {"params": [parameters[name] for name in parameters if name in ups], "lr_ratio": ratio},
    ]


def set_learning_rate(optimizer: "torch.optim.AdamW", rate: float) -> None:
    """Let the next step use this rate; a group with a ratio uses as many times more."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_ratio", 1.0)


_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def optimizer_tensors(
    optimizer: "torch.optim.AdamW", parameters: "dict[str, torch.nn.Parameter]"
) -> "dict[str, torch.Tensor]":
    """AdamW's state under the parameters' names, on the CPU; empty before the first step."""
    return {
        f"{moment}/{name}": optimizer.state[parameter][moment].detach().to("cpu", copy=True)
        for name, parameter in parameters.items()
        if parameter in optimizer.state
        for moment in _MOMENTS
    }


def set_optimizer_tensors(
    optimizer: "torch.optim.AdamW",
    parameters: "dict[str, torch.nn.Parameter]",
    tensors: "Mapping[str, torch.Tensor]",
) -> None:
    """Put state from `optimizer_tensors` back."""
    for name, parameter in parameters.items():
        if f"step/{name}" in tensors:
            optimizer.state[parameter] = {
                moment: tensors[f"{moment}/{name}"].to(parameter.device) for moment in _MOMENTS
            }

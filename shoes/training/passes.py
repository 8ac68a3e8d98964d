"""What a training does with the UNet and the adapter, once and by itself: a step on given photos, and some updates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shoes.spec import TrainSpec
from shoes.training import lora
from shoes.training.dropout import DropoutKey
from shoes.training.ema import Average
from shoes.training.objective import Batch, Objective
from shoes.training.optimizer import make_optimizer, make_scaler
from shoes.training.randomness import generator

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel

LOSS_SCALE = 2.0**10
"""Keeps gradients in fp16 from vanishing; a training's own scaler settles at some such power of two."""
UP_DEVIATION = 0.02
"""Standard deviation of the B matrices of an adapter that is awake."""
UPDATES = (2.0, -0.5, 0.25)
"""Norms of the gradients of some updates, over the norm at which they are clipped: the first one is."""


@dataclass(frozen=True)
class Pass:
    """What one forward and backward pass over b images gives, in fp32 on the CPU."""

    losses: "torch.Tensor"
    """b."""
    predictions: "tuple[torch.Tensor, ...]"
    """b times C×h×w: the noise that the UNet predicts."""
    gradients: "dict[str, torch.Tensor]"
    """Of the sum of the losses, by parameter."""


def wake_adapter(unet: "UNet2DConditionModel", seed: int) -> None:
    """Give a fresh adapter something to do: its B matrices are 0, and with them all gradients of its A matrices."""
    import torch

    with torch.no_grad():
        for name, parameter in lora.trainable(unet).items():
            if _kind(name) == "B":
                drawn = torch.randn(parameter.shape, generator=generator(seed, "parity", name))
                parameter.copy_(drawn * UP_DEVIATION)


def take_pass(objective: Objective, batch: Batch, dropout: DropoutKey, positions: Sequence[int]) -> Pass:
    """Forward and backward over some images, as a training step does it; no gradient is left behind.

    Args:
        positions: of the images in the effective batch, which decide what the adapter drops out.
    """
    parameters = lora.trainable(objective.unet)
    scale = LOSS_SCALE if objective.precision == "fp16" else 1.0
    dropout.positions = positions
    predicted, handle = _listen(objective)
    try:
        losses = objective.training_losses(batch)
        (losses.sum() * scale).backward()
        gradients = {name: p.grad.float().cpu() / scale for name, p in parameters.items() if p.grad is not None}
        return Pass(losses.detach().float().cpu(), tuple(predicted[0]), gradients)
    finally:
        handle.remove()
        dropout.positions = ()
        objective.unet.zero_grad(set_to_none=True)


def predict(objective: Objective, batch: Batch) -> "tuple[torch.Tensor, ...]":
    """The noise that the UNet predicts without gradients, as for the held-out loss: b times C×h×w, on the CPU."""
    import torch

    predicted, handle = _listen(objective)
    try:
        with torch.no_grad():
            objective.loss(batch.clean, batch.noise, batch.timesteps, batch.text)
    finally:
        handle.remove()
    return tuple(predicted[0])


def together(passes: Sequence[Pass]) -> "dict[str, tuple[torch.Tensor, ...]]":
    """What several passes, or one over as many images, give of a micro-batch, by the names of `device.parity.PARTS`."""
    names = passes[0].gradients
    gradients = {name: sum((one.gradients[name] for one in passes[1:]), passes[0].gradients[name]) for name in names}
    predictions = tuple(image for one in passes for image in one.predictions)
    return {"batch_prediction": predictions, "batch_gradient": by_kind(gradients)}


def by_kind(tensors: "Mapping[str, torch.Tensor]") -> "tuple[torch.Tensor, ...]":
    """The adapter's A matrices as one vector, and its B matrices as one: they differ in size."""
    import torch

    return tuple(
        torch.cat([tensor.flatten() for name, tensor in tensors.items() if _kind(name) == kind]) for kind in ("A", "B")
    )


def update(
    spec: TrainSpec,
    start: "Mapping[str, torch.Tensor]",
    gradients: "Mapping[str, torch.Tensor]",
    *,
    device: str,
    precision: str,
    fused: bool,
) -> "tuple[torch.Tensor, ...]":
    """What some optimizer steps, clipping included, change of weights and of their average, on the CPU.

    Args:
        start: the weights, by parameter.
        gradients: of all the steps, each time in another size.
    """
    import torch

    parameters = {name: torch.nn.Parameter(value.to(device, copy=True)) for name, value in start.items()}
    optimizer = make_optimizer(spec, parameters, fused=fused)
    scaler = make_scaler(device, precision)
    average = Average(parameters, spec.ema_decay) if spec.use_ema else None
    norm = float(torch.linalg.vector_norm(torch.cat([gradient.flatten() for gradient in gradients.values()])))
    for size in UPDATES:
        factor = float(scaler.scale(torch.tensor(size * spec.max_grad_norm / norm, device=device)))
        for name, parameter in parameters.items():
            parameter.grad = (gradients[name] * factor).to(device)
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(parameters.values(), spec.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        if average is not None:
            average.update(parameters)
    changes = [{name: parameter.detach() for name, parameter in parameters.items()}]
    if average is not None:
        changes.append({name: average.tensors()[name] for name in parameters})
    return tuple(
        vector for now in changes for vector in by_kind({name: now[name].cpu() - start[name] for name in start})
    )


def _kind(name: str) -> str:
    return "B" if ".lora_B." in name else "A"


def _listen(objective: Objective) -> "tuple[list[torch.Tensor], torch.utils.hooks.RemovableHandle]":
    """The outputs of a UNet, in fp32 on the CPU, as they come."""
    predicted: list[torch.Tensor] = []
    handle = objective.unet.register_forward_hook(
        lambda _module, _inputs, output: predicted.append(output[0].detach().float().cpu())
    )
    return predicted, handle

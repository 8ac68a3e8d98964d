"""One training loop for every network here: killed at any time, it goes on from its last checkpoint.

A step's data and noise are functions of (seed, step), so a checkpoint is weights, optimizer and a number.
Checkpoints are safetensors, and a new one replaces the old one by a rename.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

log = logging.getLogger("demo")

StepLoss = Callable[[int], torch.Tensor]
"""Loss of the step with this number."""


@dataclass
class Training:
    """What one network's training needs; `networks` are saved under their names."""

    name: str
    networks: dict[str, nn.Module]
    num_steps: int
    learning_rate: float
    folder: Path
    """Where the checkpoint and the journal are kept."""
    warmup_steps: int = 100
    weight_decay: float = 1e-2
    ema_decay: float | None = None
    """Average the weights over steps and leave the average in the networks at the end."""
    seconds_between_checkpoints: float = 120
    log_every: int = 100
    ema: dict[str, torch.Tensor] = field(default_factory=dict)

    def parameters(self) -> dict[str, nn.Parameter]:
        """All trained parameters by name."""
        return {
            f"{network}.{name}": value
            for network, module in self.networks.items()
            for name, value in module.named_parameters()
            if value.requires_grad
        }


def train(training: Training, step_loss: StepLoss) -> float:
    """Run the training to its end, from its checkpoint if there is one; returns the seconds of this call."""
    parameters = training.parameters()
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=training.learning_rate, weight_decay=training.weight_decay, betas=(0.9, 0.99)
    )
    first = _restore(training, optimizer)
    started = saved = time.monotonic()
    recent: list[float] = []
    for step in range(first, training.num_steps):
        recent.append(_one_step(training, optimizer, step, step_loss))
        if (step + 1) % training.log_every == 0 or step + 1 == training.num_steps:
            _report(training, step + 1, recent, (time.monotonic() - started) / (step + 1 - first))
            recent.clear()
        if time.monotonic() - saved > training.seconds_between_checkpoints:
            _save(training, optimizer, step + 1)
            saved = time.monotonic()
    _save(training, optimizer, training.num_steps)
    _use_average(training)
    return time.monotonic() - started


def _one_step(training: Training, optimizer: torch.optim.Optimizer, step: int, step_loss: StepLoss) -> float:
    for group in optimizer.param_groups:
        group["lr"] = training.learning_rate * schedule(step, training.num_steps, training.warmup_steps)
    loss = step_loss(step)
    value = float(loss.detach())
    if not torch.isfinite(loss):
        raise FloatingPointError(f"{training.name}: the loss of step {step + 1} is {value}")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = training.parameters()
    nn.utils.clip_grad_norm_(parameters.values(), 1.0)
    optimizer.step()
    if training.ema_decay is not None:
        _average(training, parameters, step)
    return value


def schedule(step: int, num_steps: int, warmup_steps: int) -> float:
    """Share of the peak learning rate: a linear rise, a plateau, and a linear fall over the last third."""
    warmup = min(warmup_steps, max(1, num_steps // 5))
    fall = max(1, num_steps // 3)
    return min(1.0, (step + 1) / warmup, max(0.02, (num_steps - step) / fall))


@torch.no_grad()
def _average(training: Training, parameters: dict[str, nn.Parameter], step: int) -> None:
    # Early on, a full decay would average in the untrained start for thousands of steps.
    decay = min(training.ema_decay or 0.0, (step + 1) / (step + 10))
    for name, value in parameters.items():
        average = training.ema.setdefault(name, value.detach().clone())
        average.lerp_(value.detach(), 1 - decay)


@torch.no_grad()
def _use_average(training: Training) -> None:
    for name, value in training.parameters().items():
        if name in training.ema:
            value.copy_(training.ema[name])


def _checkpoint(training: Training) -> Path:
    return training.folder / f"{training.name}.safetensors"


def _save(training: Training, optimizer: torch.optim.Optimizer, step: int) -> None:
    tensors = {f"weight.{name}": value.detach() for name, value in training.parameters().items()}
    tensors |= {f"average.{name}": value for name, value in training.ema.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    training.folder.mkdir(parents=True, exist_ok=True)
    partial = _checkpoint(training).with_suffix(".partial")
    save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, partial, metadata={"step": str(step)})
    partial.replace(_checkpoint(training))


@torch.no_grad()
def _restore(training: Training, optimizer: torch.optim.Optimizer) -> int:
    """Load the checkpoint, if any, and return the number of steps that are done."""
    path = _checkpoint(training)
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        step = int(file.metadata()["step"])
    parameters = training.parameters()
    for name, value in parameters.items():
        value.copy_(tensors[f"weight.{name}"])
    training.ema = {n: tensors[f"average.{n}"].to(p.device) for n, p in parameters.items() if f"average.{n}" in tensors}
    _restore_optimizer(optimizer, tensors)
    log.info("%s: going on after step %d", training.name, step)
    return step


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _report(training: Training, step: int, losses: list[float], seconds_per_step: float) -> None:
    mean = sum(losses) / len(losses)
    left = (training.num_steps - step) * seconds_per_step / 60
    log.info(
        "%s: step %d of %d, loss %.4f, %.3f s a step, %.0f min left",
        training.name, step, training.num_steps, mean, seconds_per_step, left,
    )  # fmt: skip
    training.folder.mkdir(parents=True, exist_ok=True)
    line = {"step": step, "loss": mean, "seconds_per_step": seconds_per_step}
    with (training.folder / f"{training.name}.jsonl").open("a", encoding="utf-8") as journal:
        journal.write(json.dumps(line) + "\n")


def generator(seed: int, step: int) -> torch.Generator:
    """Random numbers of one step, the same on every device and after a restart."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def choose(generator: torch.Generator, num: int, num_items: int) -> torch.Tensor:
    """`num` indices below `num_items`, with replacement."""
    return torch.randint(num_items, (num,), generator=generator)


def trainable(networks: Iterable[nn.Module]) -> None:
    """Put networks into training mode."""
    for network in networks:
        network.train().requires_grad_(True)

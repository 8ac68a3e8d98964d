"""Decisions of a training on a machine that did not take them: its folder was carried here, or a device is gone.

What was decided stays as far as it can. A device that is not here can't be trained on, and another one rounds
otherwise: from there on the training is as right as ever, but no longer bit for bit what it would have been. That is
said, and written down as an intervention.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from shoes.device.decisions import MODES, choose_checkpointing, choose_memory_limits, memory_room, precision_name
from shoes.device.facts import DeviceFacts
from shoes.errors import ConfigurationError, Problem
from shoes.reports import Intervention
from shoes.spec import TrainSpec

if TYPE_CHECKING:
    from shoes.training.run import Decisions

LESS = 0.9
"""Of the memory that the decisions were taken for: a machine with less decides about memory again."""


def is_here(device: str, facts: DeviceFacts) -> bool:
    """A device, as PyTorch calls it, is on this machine."""
    return {"cuda": facts.cuda, "mps": facts.mps}.get(device.partition(":")[0], True)


def on_this_machine(
    pinned: "Decisions",
    spec: TrainSpec,
    facts: DeviceFacts,
    saved_step: Callable[[], int],
    decide: "Callable[[], Decisions]",
) -> "Decisions":
    """The pinned decisions, the same object, where they hold here; else those with which the training goes on.

    Args:
        saved_step: of the last checkpoint; 0 where there is none.
        decide: what would be decided here at a first start.

    Raises:
        ConfigurationError: the recipe names a device that is not here.
    """
    if not is_here(pinned.device, facts):
        return _on_another_device(pinned, spec, saved_step(), decide)
    if pinned.machine in ("", facts.device_name) and not _has_less_memory(pinned, facts):
        return pinned
    return _on_its_device(pinned, spec, facts, saved_step())


def _on_another_device(
    pinned: "Decisions", spec: TrainSpec, step: int, decide: "Callable[[], Decisions]"
) -> "Decisions":
    if spec.device != "auto":
        saved = f", and step {step:,} is saved" if step else ""
        what = f"this training was begun on {pinned.device}{saved}; the recipe asks for it, and it is not here"
        fix = "go on where it was begun, or give --train.device auto, which begins a training of its own"
        raise ConfigurationError([Problem("train.device", what, fix)])
    found = decide()
    where = f"{found.device} in {precision_name(found.precision)}"
    rest = f"on from step {step:,} with {where}, rounded otherwise than before" if step else f"it begins on {where}"
    return _noted(replace(found, rate_cuts=pinned.rate_cuts), pinned, step, f"begun on {_place(pinned)}; {rest}")


def _on_its_device(pinned: "Decisions", spec: TrainSpec, facts: DeviceFacts, step: int) -> "Decisions":
    """The same kind of device in another machine, or with less memory."""
    fitting = choose_checkpointing(spec, pinned.device, pinned.precision, facts)
    changed = replace(
        pinned,
        machine=facts.device_name,
        memory_bytes=memory_room(pinned.device, facts),
        memory_limits=choose_memory_limits(pinned.device, facts).value,
    )
    if pinned.machine not in ("", facts.device_name):
        changed = replace(changed, parity=())  # another chip, other kernels
    if _has_less_memory(pinned, facts):
        changed = replace(
            changed,
            checkpointing=max(pinned.checkpointing, fitting.value, key=[str(mode) for mode in MODES].index),
            micro_batch=min(pinned.micro_batch, spec.train_batch_size),
            reasons={**pinned.reasons, "checkpointing": fitting.reason},
        )
    size = f"micro-batches of {changed.micro_batch}, checkpointing {changed.checkpointing}"
    return _noted(changed, pinned, step, f"begun on {_place(pinned)}; on with {facts.device_name}, {size}")


def _noted(changed: "Decisions", pinned: "Decisions", step: int, detail: str) -> "Decisions":
    done = Intervention(step=step + 1, kind="machine", detail=detail)
    return replace(changed, interventions=(*pinned.interventions, done))


def _has_less_memory(pinned: "Decisions", facts: DeviceFacts) -> bool:
    return memory_room(pinned.device, facts) < LESS * pinned.memory_bytes


def _place(pinned: "Decisions") -> str:
    return f"{pinned.device} ({pinned.machine})" if pinned.machine else pinned.device

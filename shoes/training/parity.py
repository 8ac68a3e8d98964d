"""Whether the device of a training computes right: at its first start against the CPU, and once it is tuned."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from shoes import device as devices
from shoes.device.facts import DeviceFacts
from shoes.device.parity import Outcome, Way, compare, find_right_way
from shoes.reports import ParityTrial
from shoes.training import lora
from shoes.training.attention import apply_checkpointing
from shoes.training.exercise import Exercise
from shoes.training.passes import Pass, take_pass, together, wake_adapter

if TYPE_CHECKING:
    from shoes.training.run import Decisions, Job
    from shoes.training.session import Session


def check_device(job: "Job", decisions: "Decisions", facts: DeviceFacts) -> tuple[ParityTrial, ...]:
    """Try what was decided, and safer ways while they are wrong; the last trial is the one to use.

    Raises:
        TrainingError: one image does not fit into the device's memory.
    """
    way = way_of(decisions)

    def plan(device: str, precision: str) -> Way:
        mode = devices.choose_checkpointing(job.spec, device, precision, facts).value
        return Way(device, precision, mode, job.spec.train_batch_size)

    return find_right_way(Exercise(job, way), way, facts, plan)


def way_of(decisions: "Decisions") -> Way:
    """How a training computes by its decisions."""
    return Way(
        device=decisions.device,
        precision=decisions.precision,
        checkpointing=decisions.checkpointing,
        micro_batch=decisions.micro_batch,
        fused_optimizer=decisions.fused_optimizer,
    )


def fault_finder(job: "Job", device: str, *, checkpointing: str = "off") -> Callable[[str], str]:
    """A function of a precision that says what is wrong with it on `device`; nothing means that it is right.

    What a training would get by without leaving the precision is no fault of it.
    """
    facts = devices.measure()
    way = Way(device, "no", checkpointing, job.spec.train_batch_size)
    exercise = Exercise(job, way)

    @cache
    def fault(precision: str) -> str:
        trials = find_right_way(exercise, replace(way, precision=precision), facts)
        there = [trial for trial in trials if (trial.device, trial.precision) == (device, precision)]
        return there[-1].verdict if there and not there[-1].passed else ""

    return fault


def check_batch(session: "Session", checkpointing: str, micro_batch: int) -> ParityTrial:
    """Try a way of training that was tuned on a live session at its start.

    The session's device was compared with the CPU before. Here a whole micro-batch is compared with the same images
    one at a time, on the device. The session is left as it was.

    Raises:
        RuntimeError, torch.OutOfMemoryError: what the device raises.
    """
    from shoes.training.step import draw

    objective, decisions = session.objective, session.decisions
    order, draws = draw(session)
    weights = lora.adapter_weights(objective.unet)

    def take(start: int, stop: int) -> Pass:
        batch = objective.batch(session.train, order, draws, slice(start, stop))
        return take_pass(objective, batch, session.dropout, range(start, stop))

    wake_adapter(objective.unet, session.job.spec.seed)
    try:
        ones = [take(place, place + 1) for place in range(micro_batch)]
        apply_checkpointing(objective.unet, checkpointing)
        many = take(0, micro_batch)
    finally:
        apply_checkpointing(objective.unet, decisions.checkpointing)
        lora.set_adapter_weights(objective.unet, weights)
    way = replace(way_of(decisions), checkpointing=checkpointing, micro_batch=micro_batch)
    return compare(Outcome(together([many])), Outcome(together(ones)), way)

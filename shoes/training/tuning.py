"""Micro-batch and gradient checkpointing by measurement, on the session that is going to train.

A small search: the modes of checkpointing, cheapest first, and in each of them larger and larger micro-batches that
divide the effective batch, which stays what it is. It ends where memory does, or where a larger one brings nothing.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from shoes import device
from shoes.device.decisions import memory_room
from shoes.device.parity import in_words
from shoes.progress import size as size_in_words
from shoes.reports import ParityTrial
from shoes.spec import TrainSpec
from shoes.training import choice
from shoes.training.attention import apply_checkpointing
from shoes.training.choice import WORTH, KeptChoice, micro_batches
from shoes.training.measuring import does_it_fit, one_pass, repeat
from shoes.training.parity import check_batch
from shoes.training.run import Decisions, Job

if TYPE_CHECKING:
    from shoes.training.session import Session

log = logging.getLogger(__name__)
NUM_TIMED_PASSES = 2


@dataclass(frozen=True)
class Trial:
    """One way of training that fits into memory."""

    checkpointing: str
    micro_batch: int
    seconds_per_image: float
    peak_bytes: int
    held_bytes: int
    """Before the pass: weights and what else stays."""


Measure = Callable[[str, int], Trial | None]
"""A trial of a mode and a micro-batch; None: it did not fit."""


def is_tunable(spec: TrainSpec, device: str) -> bool:
    """Whether the recipe and the device leave something to choose. A CPU is as fast with any micro-batch, and its
    memory is everybody's: there the recipe's own is taken."""
    return spec.gradient_checkpointing == "auto" and device in {"mps", "cuda"}


def is_called_for(job: Job, decisions: Decisions) -> bool:
    """Whether a training that has not begun is to be tuned: it may be, and its decisions were only estimated."""
    is_estimated = not decisions.interventions and "micro_batch" not in decisions.reasons
    return is_estimated and is_tunable(job.spec, decisions.device)


def tuned_decisions(job: Job, decisions: Decisions, session: "Session") -> Decisions:
    """The decisions to train by: measured at a training's first step where that is called for, else as they are.

    What was found is kept for later runs of the kind, if it computes right, and taken from there when it was. The
    caller pins the decisions and brings the session to them (`session.adapt`).
    """
    if session.step or not is_called_for(job, decisions):
        return decisions
    file = place(job)
    found = choice.kept(file)
    if found is None or found.precision != decisions.precision:
        found = tune(session, room_bytes=memory_room(decisions.device, device.measure()))
        trial = check_batch(session, found.checkpointing, found.micro_batch)
        if not trial.passed:
            return _as_checked(decisions, trial)
        choice.keep(file, found)
    return by_choice(decisions, found)


def _as_checked(decisions: Decisions, trial: ParityTrial) -> Decisions:
    """Decisions that stay as they were compared with the CPU, because what is faster computes wrong."""
    parity = (*decisions.parity[:-1], trial, *decisions.parity[-1:])
    log.warning("%s", in_words(parity))
    reasons = {**decisions.reasons, "micro_batch": in_words(parity)}
    return replace(decisions, parity=parity, reasons=reasons)


def place(job: Job) -> Path:
    """The file of the choice for a training on this machine."""
    return choice.place(job.cache, job.spec, job.model.fingerprint, device.measure())


def by_choice(decisions: Decisions, found: KeptChoice) -> Decisions:
    """Decisions with what was measured in the place of what was estimated."""
    return replace(
        decisions,
        checkpointing=found.checkpointing,
        micro_batch=found.micro_batch,
        reasons={
            **decisions.reasons,
            **dict.fromkeys(("checkpointing", "micro_batch"), f"measured here: {found.reason}"),
        },
    )


def tune(session: "Session", *, room_bytes: int) -> KeptChoice:
    """Measure on a live session, which is left as it was, and choose.

    Args:
        room_bytes: what the training may take of the device's memory.
    """
    spec, decisions = session.job.spec, session.decisions
    own = (decisions.checkpointing, decisions.micro_batch)
    share = max(1, spec.effective_batch_size // decisions.processes)
    sizes = sorted({*micro_batches(share), min(decisions.micro_batch, share)})
    modes = device.checkpointing_modes(spec, decisions.device)
    log.info("looking for the fastest micro-batch and checkpointing that fit into %s", size_in_words(room_bytes))
    try:
        trials = search(modes, sizes, own, room_bytes, lambda mode, size: _measure(session, mode, size))
    finally:
        apply_checkpointing(session.objective.unet, decisions.checkpointing)
        device.release(decisions.device)
    mode, size, reason = best(trials, own)
    log.info("micro-batch %d, checkpointing %s: %s", size, mode, reason)
    return KeptChoice(precision=decisions.precision, micro_batch=size, checkpointing=mode, reason=reason)


def search(
    modes: Sequence[str], sizes: Sequence[int], own: tuple[str, int], room_bytes: int, measure: Measure
) -> list[Trial]:
    """Trials that fit. A mode that needs less memory is tried only where a cheaper one ran out of it.

    Args:
        modes: cheapest first.
        sizes: micro-batches, ascending.
        own: mode and micro-batch of the recipe, which are measured though the micro-batches before brought nothing.
    """
    found: list[Trial] = []
    for mode in modes:
        least = own[1] if mode == own[0] else 0
        grown = list(_grow(mode, sizes, least, room_bytes, measure))
        found += grown
        if grown and (len(grown) == len(sizes) or _brings_nothing(grown)):
            break
    return found


def _grow(mode: str, sizes: Sequence[int], least: int, room_bytes: int, measure: Measure) -> Iterator[Trial]:
    """Larger and larger micro-batches, until one does not fit or brings nothing; at least up to `least`."""
    found: list[Trial] = []
    for size in takewhile(lambda size: predicted_bytes(found, size) <= room_bytes, sizes):
        trial = measure(mode, size)
        if trial is None or trial.peak_bytes > room_bytes:
            return
        found.append(trial)
        yield trial
        if size >= least and _brings_nothing(found):
            return


def _brings_nothing(trials: Sequence[Trial]) -> bool:
    """The last one is not faster than all before it by more than chance."""
    *before, last = (trial.seconds_per_image for trial in trials)
    return bool(before) and last > WORTH * min(before)


def predicted_bytes(trials: Sequence[Trial], size: int) -> float:
    """Peak memory of a micro-batch by those measured in the same mode: it grows in a line. 0: nothing is known."""
    if not trials:
        return 0.0
    *before, last = trials
    start = (before[-1].micro_batch, before[-1].peak_bytes) if before else (0, last.held_bytes)
    slope = (last.peak_bytes - start[1]) / (last.micro_batch - start[0])
    return last.peak_bytes + max(0.0, slope) * (size - last.micro_batch)


def best(trials: Sequence[Trial], own: tuple[str, int]) -> tuple[str, int, str]:
    """Mode, micro-batch and why; the recipe's own where nothing fits, for the training to save itself."""
    if not trials:
        return *own, "the recipe's own: nothing that was tried fits into memory"
    ways = [(trial.checkpointing, trial.micro_batch) for trial in trials]
    number, reason = choice.fastest(
        [(trial.seconds_per_image, number) for number, trial in enumerate(trials)],
        ways.index(own) if own in ways else None,
    )
    return *ways[number], reason


def _measure(session: "Session", mode: str, size: int) -> Trial | None:
    """One pass to warm up, and a few that count."""
    apply_checkpointing(session.objective.unet, mode)
    name = session.decisions.device
    device.release(name)
    times = None
    with device.watch_memory(name) as watch, does_it_fit():
        times = repeat(lambda: one_pass(session, size), seconds=0.0, least=NUM_TIMED_PASSES, most=NUM_TIMED_PASSES)
    if times is None:
        log.info("  checkpointing %s, micro-batch %d: does not fit", mode, size)
        return None
    found = Trial(mode, size, times.typical / size, watch.peak_bytes, watch.baseline_bytes)
    words = (mode, size, found.seconds_per_image, size_in_words(found.peak_bytes))
    log.info("  checkpointing %s, micro-batch %d: %.3f s an image, %s", *words)
    return found

"""The measuring process: does what a training does, a few times, and writes what it took as JSON lines.

A process of its own, because memory is only its own there, and because the system may kill what asks for too
much: the forecast then says so, and nothing else dies. Everything is written into a temporary folder.
"""

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from shoes.forecast.reports import MemoryPoint, Samples
from shoes.reports import DataReport, ModelReport, Report
from shoes.spec import Recipe
from shoes.training.run import Decisions, Job, make_job

if TYPE_CHECKING:
    from shoes.training.session import Session

MODES = ("none", "full")
"""Gradient checkpointing, cheapest first."""

Result = TypeVar("Result")


class Request(Report):
    """What to measure."""

    recipe: Recipe
    base: ModelReport
    clip: ModelReport
    data: DataReport
    decisions: dict[str, Any]
    cache: Path
    folder: Path
    """For everything that is written."""
    micro_batches: tuple[int, ...] = ()
    """Sizes to compare; none: measure the night as it is."""
    seconds: float
    """How long to repeat a step, at least."""

    def job(self) -> Job:
        """The training, with its files below the temporary folder."""
        made = make_job(self.recipe, self.base, self.data, runs=self.folder, cache=self.cache)
        return replace(made, folder=self.folder / "run")

    def decided(self) -> Decisions:
        """The decisions that the run will take."""
        return Decisions(**self.decisions)


def settle(request: Request) -> None:
    """Set this process up as a training process is: threads, memory limits, and the libraries that it will hold."""
    import torch

    from shoes import device
    from shoes.model.load import load_libraries
    from shoes.tracking.mirror import connect

    load_libraries()
    decisions = request.decided()
    device.apply_limits(decisions.memory_limits)
    torch.set_num_threads(decisions.num_threads)
    connect(f"sqlite:///{request.folder / 'mlflow.db'}")


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What `work` returns, and its seconds."""
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def repeat(work: Callable[[], Any], *, seconds: float, least: int = 3, most: int = 30) -> Samples:
    """Time `work` once cold, then until it was done `least` times and `seconds` went by, or `most` times."""
    _, first = timed(work)
    others: list[float] = []
    while len(others) < most and (len(others) < least or sum(others) < seconds):
        others.append(timed(work)[1])
        if sum(others) > 10 * seconds and others[1:]:
            break
    return Samples(first=first, others=tuple(others))


def memory_points(session: "Session", sizes: Sequence[int]) -> Iterator[MemoryPoint]:
    """Peak memory of one forward and backward pass by checkpointing and micro-batch, the smaller needs first."""
    before = session.decisions.checkpointing
    for mode, size in itertools.product(reversed(MODES), sizes):
        set_checkpointing(session, mode)
        yield _memory_point(session, mode, size)
    set_checkpointing(session, before)


def set_checkpointing(session: "Session", mode: str) -> None:
    """Switch recomputing in the backward pass on or off."""
    unet = session.objective.unet
    if mode == "full":
        unet.enable_gradient_checkpointing()
    else:
        unet.disable_gradient_checkpointing()


def _memory_point(session: "Session", mode: str, size: int) -> MemoryPoint:
    from shoes.device import release, watch_memory

    release(session.decisions.device)
    with does_it_fit() as fits, watch_memory(session.decisions.device) as watch:
        one_pass(session, size)
    return MemoryPoint(checkpointing=mode, micro_batch=size, peak_bytes=watch.peak_bytes if fits else None)


class Fits:
    """Whether the memory was enough."""

    def __init__(self) -> None:
        self._enough = True

    def __bool__(self) -> bool:
        return self._enough

    def deny(self) -> None:
        """It was not."""
        self._enough = False


@contextmanager
def does_it_fit() -> Iterator[Fits]:
    """Take a device's out-of-memory error for an answer."""
    import torch

    fits = Fits()
    try:
        yield fits
    except (torch.OutOfMemoryError, MemoryError):
        fits.deny()
    except RuntimeError as error:  # what MPS and the CPU's allocator raise has no type of its own
        if "out of memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        fits.deny()


def one_pass(session: "Session", size: int) -> None:
    """Forward and backward of one micro-batch; the adapter is not changed."""
    from shoes.training.randomness import draw_step, sample_order

    spec = session.job.spec
    draws = draw_step(
        spec.seed,
        0,
        latent_shape=session.train.latent_shape,
        batch=size,
        num_timesteps=session.objective.schedule.config.num_train_timesteps,
        caption_dropout=spec.caption_dropout,
    )
    order = sample_order(spec.seed, 0, batch=size, num_samples=len(session.train))
    losses = session.objective.batch_loss(session.train, order, draws, slice(0, size))
    session.scaler.scale(losses.mean()).backward()
    float(losses[0])  # waits for the device
    session.optimizer.zero_grad(set_to_none=True)


def main() -> None:
    """Read a request from standard input and write findings to standard output, one JSON object a line."""
    from shoes.forecast.choices import measure_choices
    from shoes.forecast.night import measure_night

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not stand between the answers
    request = Request.model_validate_json(sys.stdin.read())
    measure = measure_choices if request.micro_batches else measure_night
    for finding in measure(request):
        answers.write(finding.model_dump_json() + "\n")
        answers.flush()

"""The measuring process: does what a training does, a few times, and writes what it took as JSON lines.

A process of its own, because memory is only its own there, and because the system may kill what asks for too
much: the forecast then says so, and nothing else dies. Everything is written into a temporary folder.
"""

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoes.device import checkpointing_modes, release, watch_memory
from shoes.forecast.reports import MemoryPoint
from shoes.reports import DataReport, ModelReport, Report
from shoes.spec import Recipe
from shoes.training.attention import apply_checkpointing
from shoes.training.measuring import does_it_fit, one_pass
from shoes.training.run import Decisions, Job, make_job

if TYPE_CHECKING:
    from shoes.training.session import Session


class JudgePlace(Report):
    """A model that will look at the pictures."""

    path: Path
    has_words: bool
    """A CLIP; else DINOv2."""


class Request(Report):
    """What to measure."""

    recipe: Recipe
    base: ModelReport
    judges: tuple[JudgePlace, ...]
    data: DataReport
    decisions: dict[str, Any]
    cache: Path
    folder: Path
    """For everything that is written."""
    micro_batches: tuple[int, ...] = ()
    """Sizes to compare; none: measure the night as it is."""
    tune: bool = False
    """Look for the fastest micro-batch and checkpointing first, and measure the night with them."""
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


def memory_points(session: "Session", sizes: Sequence[int]) -> Iterator[MemoryPoint]:
    """Peak memory of one forward and backward pass by checkpointing and micro-batch, the smaller needs first."""
    modes = checkpointing_modes(session.job.spec, session.decisions.device)
    for mode, size in itertools.product(reversed(modes), sizes):
        apply_checkpointing(session.objective.unet, mode)
        yield _memory_point(session, mode, size)
    apply_checkpointing(session.objective.unet, session.decisions.checkpointing)


def _memory_point(session: "Session", mode: str, size: int) -> MemoryPoint:
    release(session.decisions.device)
    with does_it_fit() as fits, watch_memory(session.decisions.device) as watch:
        one_pass(session, size)
    return MemoryPoint(checkpointing=mode, micro_batch=size, peak_bytes=watch.peak_bytes if fits else None)


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

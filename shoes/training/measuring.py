"""One forward and backward pass of a live session, timed and watched: what the forecast and the tuning are made of.

Nothing of the session is changed by it, and nothing random is drawn but what a step would draw.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

from shoes.device import is_out_of_memory
from shoes.reports import Report

if TYPE_CHECKING:
    from shoes.training.session import Session

Result = TypeVar("Result")


class Samples(Report):
    """Times of one thing done several times; the first may hold what is paid only once."""

    first: float
    others: tuple[float, ...]

    @property
    def typical(self) -> float:
        """Median of the repeats; the first where there was no other."""
        return median(self.others or (self.first,))

    @property
    def spread(self) -> tuple[float, float]:
        """Fastest and slowest repeat, each over the typical one."""
        if not self.others or self.typical <= 0:
            return 1.0, 1.0
        return min(self.others) / self.typical, max(self.others) / self.typical


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
    fits = Fits()
    try:
        yield fits
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        fits.deny()


def one_pass(session: "Session", size: int) -> None:
    """Forward and backward of the first `size` samples of the session's next step; the adapter is not changed."""
    from shoes.training.step import draw

    order, draws = draw(session)
    session.dropout.step, session.dropout.positions = session.step, range(len(order))[:size]
    try:
        inputs = session.objective.batch(session.train, order, draws, slice(0, size))
        losses = session.objective.training_losses(inputs)
        session.scaler.scale(losses.mean()).backward()
        float(losses[0].detach())  # waits for the device
    finally:
        session.dropout.positions = ()
        session.optimizer.zero_grad(set_to_none=True)

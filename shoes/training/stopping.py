"""Why a training stops before its last step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from shoes import clock
from shoes.reports import HeldOutLoss
from shoes.spec import TrainSpec
from shoes.training.signals import StopRequest

ASKED = "it was asked to stop"


@dataclass(frozen=True)
class Stop:
    """One reason to stop between two steps."""

    kind: Literal["signal", "early", "paused"]
    """signal: somebody asked. early: the training is over. paused: it goes on another time."""
    reason: str


@dataclass
class Stops:
    """Everything that may stop a training, asked before each step."""

    request: StopRequest
    deadline: datetime | None
    """When the machine is needed again."""
    short_of_disk: Callable[[object], str | None]
    """Why there is no room for what is written; None: there is. It may wait for room while its argument is false."""
    step_seconds: float = 0.0
    """What the last step took."""

    def __bool__(self) -> bool:
        """Nothing may be waited for any more: somebody asked to stop, or time is over."""
        return bool(self.request) or self._is_late()

    def look(self, spec: TrainSpec, losses: Sequence[HeldOutLoss]) -> Stop | None:
        """The reason to stop now, if there is one."""
        if self.request:
            return Stop("signal", ASKED)
        if reason := no_gain(losses, spec.early_stopping_patience):
            return Stop("early", reason)
        if self.deadline is not None and self._is_late():
            return Stop("paused", f"the window ends at {self.deadline:%H:%M}")
        if reason := self.short_of_disk(self):
            return Stop("signal", ASKED) if self.request else Stop("paused", reason)
        return None

    def _is_late(self) -> bool:
        now = clock.now()
        return self.deadline is not None and is_over(self.deadline, now, self.step_seconds)


def is_over(deadline: datetime, now: datetime, step_seconds: float) -> bool:
    """Another step would end after the deadline."""
    # in UTC: Python compares two times of one zone by their wall clocks, which a night may put back
    return now.astimezone(UTC) + timedelta(seconds=step_seconds) >= deadline.astimezone(UTC)


def no_gain(losses: Sequence[HeldOutLoss], patience: int | None) -> str | None:
    """Why to stop early: the last `patience` validations, all after the best one, were no better than it."""
    if patience is None or not losses:
        return None
    best = min(losses, key=lambda loss: (loss.mean, loss.step))
    since = sum(loss.step > best.step for loss in losses)
    if since < patience:
        return None
    times = "once" if since == 1 else f"{since} times in a row"
    return f"the held-out loss was {times} no better than at step {best.step:,}"

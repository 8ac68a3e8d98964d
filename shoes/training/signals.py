"""Stopping between two steps when the system asks, and handing the request on afterwards."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):  # noqa: N818
    """Work that is done again as a whole was left in the middle, because somebody asked to stop."""


class StopRequest:
    """Whether SIGINT or SIGTERM has come."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: remember the first request."""
        del frame
        self.signal = self.signal or number

    def heed(self, done: int = 0, total: int = 0, note: str = "") -> None:
        """Leave the work that asks, if a request has come: whoever cancels waits for half a minute at most.

        The arguments are what work tells of its progress; they change nothing.

        Raises:
            Interrupted: one has.
        """
        del done, total, note
        if self:
            raise Interrupted


@contextmanager
def stop_between_steps(request: StopRequest) -> Iterator[None]:
    """Hold SIGINT and SIGTERM back inside the block, and tell `request`; raise them again when the block ends.

    So state is saved before whoever installed the former handlers (Python, the command line, Prefect) learns
    of it and marks the run as it sees fit. Outside the main thread nothing is held back, and a signal that is ignored
    (SIGINT, in what a script starts in the background) stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, request.receive) for number in heard}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if request.signal is not None:
            signal.raise_signal(request.signal)

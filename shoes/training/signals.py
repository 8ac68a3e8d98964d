"""Stopping between two steps when the system asks, and handing the request on afterwards."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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


@contextmanager
def stop_between_steps() -> Iterator[StopRequest]:
    """Hold SIGINT and SIGTERM back inside the block; raise them again when it ends.

    So state is saved before whoever installed the former handlers (Python, the command line, Prefect) learns
    of it and marks the run as it sees fit. Outside the main thread nothing is held back.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    former = {number: signal.signal(number, request.receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if request.signal is not None:
            signal.raise_signal(request.signal)

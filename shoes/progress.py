"""Progress for people: a bar with rate and time left on a terminal, plain lines when piped."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 10.0


class Progress(Protocol):
    """Told how much is done of how much, with a short note."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...  # noqa: D102


@contextmanager
def progress(title: str, unit: str = "steps") -> Iterator[Progress]:
    """A reporter for one piece of long work; the bar is made at the first call."""
    if sys.stderr.isatty():
        with _bar(title, unit) as bar:
            yield bar
    else:
        yield _Lines(title, unit)


def both(first: Progress, second: Progress | None) -> Progress:
    """Tells two reporters the same."""
    if second is None:
        return first

    def report(done: int, total: int, note: str = "") -> None:
        first(done, total, note)
        second(done, total, note)

    return report


@contextmanager
def _bar(title: str, unit: str) -> Iterator[Progress]:
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    bars: list[tqdm[Any]] = []

    def report(done: int, total: int, note: str = "") -> None:
        if not bars:
            bars.append(tqdm(total=total, initial=done, desc=title, unit=f" {unit}", leave=False, file=sys.stderr))
        bars[0].set_postfix_str(note, refresh=False)
        bars[0].update(done - bars[0].n)

    # the command line's handler is at our own logger: its lines are to stand above the bar as well
    loggers = [logger for logger in (logging.getLogger(), logging.getLogger("shoes")) if logger.handlers]
    with logging_redirect_tqdm(loggers=loggers):
        try:
            yield report
        finally:
            for bar in bars:
                bar.close()


class _Lines:
    """At most one line in ten seconds, and one at the end."""

    def __init__(self, title: str, unit: str) -> None:
        self._title, self._unit = title, unit
        self._started = self._last = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if self._first is None:
            self._first, self._started = done, now
        if now - self._last < SECONDS_BETWEEN_LINES and done < total:
            return
        self._last = now
        tail = f", {note}" if note else ""
        log.info("%s: %d of %d %s%s%s", self._title, done, total, self._unit, self._left(done, total, now), tail)

    def _left(self, done: int, total: int, now: float) -> str:
        words = pace(done - (self._first or 0), now - self._started, total - done)
        return f", {words}" if words else ""


def pace(done: int, seconds: float, left: int) -> str:
    """Rate and time left, from what was done in some seconds: 2.4 a second, 8 min 20 s left. Empty: nothing yet."""
    rate = done / max(seconds, 1e-9)
    if rate <= 0:
        return ""
    speed = f"{1 / rate:.1f} s each" if rate < 1 else f"{rate:.1f} a second" if rate < 10 else f"{rate:.0f} a second"
    return f"{speed}, {duration(left / rate)} left"


def duration(seconds: float) -> str:
    """A time as people say it: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(num_bytes: float) -> str:
    """A size as people say it: 512 MB, 9.8 GB."""
    return f"{num_bytes / 1024**3:.1f} GB" if num_bytes >= 1024**3 else f"{num_bytes / 1024**2:.0f} MB"

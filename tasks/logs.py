"""The library's log lines in the log of Prefect's run, and Prefect's own without what only frightens."""

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from shoes.errors import ShoesError

P = ParamSpec("P")
R = TypeVar("R")


class _ToldErrors(logging.Filter):
    """An error whose message says what to do is told without the places in the code that it came through.

    Prefect writes down the whole traceback of whatever ends a task or flow, with those of the errors behind it: pages
    for a mistyped path. Of an error that nobody foresaw they stay.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else record.exc_info
        if isinstance(error, ShoesError):
            record.exc_info = record.exc_text = None
        return True


_TOLD = _ToldErrors()


def in_the_runs_log(stage: Callable[P, R]) -> Callable[P, R]:
    """Lines that the library writes while a stage runs stand in its run's log, from INFO on.

    PREFECT_LOGGING_EXTRA_LOGGERS hands our logger's lines on, but gives it no level: in a process that a worker
    started, only warnings would come through. A level that somebody else has set stays.
    """

    @functools.wraps(stage)
    def run(*given: P.args, **named: P.kwargs) -> R:
        for name in ("prefect.flow_runs", "prefect.task_runs"):
            logging.getLogger(name).addFilter(_TOLD)  # once, however often
        log = logging.getLogger("shoes")
        before = log.level
        log.setLevel(before or logging.INFO)
        try:
            return stage(*given, **named)
        finally:
            log.setLevel(before)

    return run

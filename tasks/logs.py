"""The library's log lines in the log of Prefect's run."""

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def in_the_runs_log(stage: Callable[P, R]) -> Callable[P, R]:
    """Lines that the library writes while a stage runs stand in its run's log, from INFO on.

    PREFECT_LOGGING_EXTRA_LOGGERS hands our logger's lines on, but gives it no level: in a process that a worker
    started, only warnings would come through. A level that somebody else has set stays.
    """

    @functools.wraps(stage)
    def run(*given: P.args, **named: P.kwargs) -> R:
        log = logging.getLogger("shoes")
        before = log.level
        log.setLevel(before or logging.INFO)
        try:
            return stage(*given, **named)
        finally:
            log.setLevel(before)

    return run

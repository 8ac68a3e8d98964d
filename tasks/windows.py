"""The hours of a night, as Prefect's runs keep them."""

from datetime import datetime
from typing import Any

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Completed

from shoes import clock, nights, stages
from shoes.reports import NightReport
from shoes.spec import Recipe

SKIPPED = "Skipped"
"""Name of the state of a scheduled run that came too late for its night; for Prefect it is completed."""


def skipped(recipe: Recipe) -> State[Any] | None:
    """The end of a scheduled run that starts outside of its window; None for one that may run.

    It waited in the queue, or was made up after a restart. What a person starts or retries is never held back.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or not run.auto_scheduled or run.run_count > 1:
        return None
    reason = nights.too_late(recipe.window, clock.now(recipe.window.timezone))
    return None if reason is None else Completed(name=SKIPPED, message=reason)


def ends(recipe: Recipe) -> datetime | None:
    """When a run that starts now has to have stopped training, however long what comes before takes."""
    return stages.deadline(recipe)


def told(report: NightReport, window_ends: datetime | None) -> NightReport | State[NightReport]:
    """The night's report; with a word in the run's state where its last stages ran past the window's end."""
    late = nights.overrun(window_ends, clock.now())
    if late is None:
        return report
    get_run_logger().warning(late)
    return Completed(message=late, data=report)

"""Runs are asked to save their state before the worker that runs them stops.

A worker that is told to stop ends its flow runs without asking them, and Prefect shows them as running for ever.
"""

import logging
import time
from collections.abc import Callable
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import State

from flows.operations import runs
from flows.operations.lost import is_of_this_machine, remember
from flows.operations.outages import UNREACHABLE
from shoes.settings import Settings

log = logging.getLogger("shoes.operations")
SECONDS_TO_SAVE = 45.0
"""Prefect gives a run 30 s to stop once the worker has told it."""


def stop_runs(
    client: SyncPrefectClient, settings: Settings, *, is_urgent: Callable[[], bool] = lambda: False
) -> list[UUID]:
    """Cancel what the worker runs, and wait until it has ended, or it is urgent; the ids of what was cancelled.

    A `shoes run` in another terminal has no deployment: it goes on without a dashboard.
    """
    is_own_server = settings.prefect_api_url is None
    remember(settings)
    started = [run for run in runs.read(client, runs.ACTIVE) if run.deployment_id is not None]
    active = [run for run in started if is_own_server or is_of_this_machine(run, settings)]
    for run in active:
        log.info("%s is asked to save its state and stop", run.name)
        said = "`shoes up` is stopping; the state is saved, and a later run goes on from there"
        client.set_flow_run_state(run.id, State(type=StateType.CANCELLING, message=said), force=True)
    ids = [run.id for run in active]
    left = _wait(client, ids, is_urgent) if ids else []
    for run in left:
        log.warning("%s did not stop in time, and is ended; it goes on from its last checkpoint", run.name)
    return ids


def _wait(client: SyncPrefectClient, ids: list[UUID], is_urgent: Callable[[], bool]) -> list[FlowRun]:
    """Those that have not ended after a while."""
    until = time.monotonic() + SECONDS_TO_SAVE
    left = runs.read(client, runs.ACTIVE, ids=ids)
    while left and time.monotonic() < until and not is_urgent():
        time.sleep(0.5)
        try:
            left = runs.read(client, runs.ACTIVE, ids=ids)
        except UNREACHABLE as error:
            log.debug("the API does not say what runs: %s", error)
    return left

"""When each stage of the current flow run ran, how it ended, and what it met, as Prefect's API knows it."""

import time
from collections.abc import Sequence
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, TaskRun
from prefect.client.schemas.sorting import TaskRunSort

from shoes.reports import StageRun

SECONDS_TO_SETTLE = 10.0
"""How long to wait for the API to know of the last stage's end: it learns of it by an event, a moment later."""


def stage_runs() -> tuple[StageRun, ...]:
    """The stages of this flow run so far, without the one that asks, in the order in which they began.

    Empty outside of a flow run.
    """
    flow_run, asking = runtime.flow_run.id, runtime.task_run.id
    if not flow_run:
        return ()
    with get_client(sync_client=True) as client:
        runs = _settled(client, UUID(flow_run), asking)
        return tuple(_stage(run, client.read_task_run_states(run.id) if run.run_count > 1 else ()) for run in runs)


def _settled(client: SyncPrefectClient, flow_run: UUID, asking: str | None) -> list[TaskRun]:
    """The other task runs, once all of them have ended, or as they are when waiting takes too long."""
    until = time.monotonic() + SECONDS_TO_SETTLE
    this_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
    while True:
        found = client.read_task_runs(flow_run_filter=this_run, sort=TaskRunSort.EXPECTED_START_TIME_ASC)
        runs = [run for run in found if str(run.id) != asking]
        if all(run.state and run.state.is_final() for run in runs) or time.monotonic() > until:
            return runs
        time.sleep(0.2)


def _stage(run: TaskRun, states: Sequence[State[object]]) -> StageRun:
    """One stage. Tasks are named `evaluate-1a2`."""
    return StageRun(
        name=run.name.rpartition("-")[0] or run.name,
        started=run.start_time,
        ended=run.end_time,
        seconds=run.total_run_time.total_seconds(),
        state=run.state_name or "Unknown",
        tries=max(run.run_count, 1),
        troubles=tuple(state.message for state in states if state.name == "AwaitingRetry" and state.message),
    )

"""When each stage of the current flow run ran, how it ended, and what it met, as Prefect's API knows it."""

import re
import time
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, LogFilter, LogFilterTaskRunId
from prefect.client.schemas.objects import TaskRun
from prefect.client.schemas.sorting import LogSort, TaskRunSort

from shoes.reports import StageRun

_FAILED_TRY = re.compile(r"Task run failed with \w+: (?P<reason>.*) - Retry \d+/\d+ will start", re.DOTALL)
"""What Prefect writes into a task run's log; its states do not say why a try failed."""
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
        return tuple(_stage(run, _troubles(client, run)) for run in runs)


def _settled(client: SyncPrefectClient, flow_run: UUID, asking: str | None) -> list[TaskRun]:
    """The other task runs, once all of them have ended, or as they are when waiting takes too long.

    The API learns of runs in their order: when it knows the one that asks, it knows those before it.
    """
    until = time.monotonic() + SECONDS_TO_SETTLE
    this_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
    while True:
        found = client.read_task_runs(flow_run_filter=this_run, sort=TaskRunSort.EXPECTED_START_TIME_ASC)
        runs = [run for run in found if str(run.id) != asking]
        is_complete = asking is None or len(runs) < len(found)
        have_ended = all(run.state and run.state.is_final() for run in runs)
        if (is_complete and have_ended) or time.monotonic() > until:
            return runs
        time.sleep(0.2)


def _troubles(client: SyncPrefectClient, run: TaskRun) -> tuple[str, ...]:
    """Why each earlier try of a task failed, and when it was tried again."""
    if run.run_count < 2:
        return ()
    states = [state for state in client.read_task_run_states(run.id) if state.name in ("AwaitingRetry", "Retrying")]
    reasons = _reasons(client, run.id, len(states))
    times = [(state.state_details.scheduled_time or state.timestamp).astimezone() for state in states]
    known = [*reasons, *["the reason is in Prefect's log"] * (len(times) - len(reasons))]
    return tuple(f"{reason}; tried again at {again:%H:%M:%S}" for reason, again in zip(known, times, strict=True))


def _reasons(client: SyncPrefectClient, task_run: UUID, count: int) -> list[str]:
    """Why tries failed, from the log, which reaches the API some seconds later; fewer where it is late."""
    until = time.monotonic() + SECONDS_TO_SETTLE
    this_run = LogFilter(task_run_id=LogFilterTaskRunId(any_=[task_run]))
    while True:
        lines = [entry.message for entry in client.read_logs(this_run, sort=LogSort.TIMESTAMP_ASC)]
        found = [match["reason"] for line in lines if (match := _FAILED_TRY.search(line))]
        if len(found) >= count or time.monotonic() > until:
            return found[:count]
        time.sleep(0.5)


def stage_name(task_run: str) -> str:
    """The stage of a task run by its name, such as `train-lora: 3,000 steps` or Prefect's own `evaluate-1a2`."""
    before, colon, _ = task_run.partition(":")
    return before if colon else re.sub(r"-[0-9a-f]{3}$", "", task_run)


def _stage(run: TaskRun, troubles: tuple[str, ...]) -> StageRun:
    return StageRun(
        name=stage_name(run.name),
        started=run.start_time,
        ended=run.end_time,
        seconds=run.total_run_time.total_seconds(),
        state=run.state_name or "Unknown",
        tries=max(run.run_count, 1),
        troubles=troubles,
    )

"""Flow runs of the project, as the server has them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

TAG = "shoes"
"""Tag of all the project's deployments and runs."""
ACTIVE = (StateType.RUNNING, StateType.CANCELLING, StateType.PENDING)
"""States of a run that has a process, or is getting one."""


def read(
    client: SyncPrefectClient,
    states: Sequence[StateType],
    *,
    ids: Sequence[UUID] | None = None,
    ended_after: datetime | None = None,
    sort: FlowRunSort = FlowRunSort.START_TIME_DESC,
    limit: int = 200,
) -> list[FlowRun]:
    """Runs in one of some states.

    Args:
        ids: only among these; None: among all.
        ended_after: only those that ended later, aware.
        limit: most that are given; the server gives 200 at most.
    """
    wanted = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))),
        tags=FlowRunFilterTags(all_=[TAG]),
        id=None if ids is None else FlowRunFilterId(any_=list(ids)),
        end_time=None if ended_after is None else FlowRunFilterEndTime(after_=ended_after),
    )
    return client.read_flow_runs(flow_run_filter=wanted, sort=sort, limit=limit)

"""Runs that were taken for dead and are not: Prefect's server was away for longer than a run may be silent."""

import logging

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Running

from flows.operations.automations import SILENT
from flows.operations.lost import living_flow_runs

log = logging.getLogger("shoes.operations")


def set_right(client: SyncPrefectClient) -> list[FlowRun]:
    """Let runs be Running again that ended for want of a sign of life, and whose process is there on this machine.

    Before crashed runs are taken up again: a second process of one run must not start.
    """
    living = living_flow_runs()
    if not living:
        return []
    found = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=list(living))))
    wronged = [run for run in found if _is_silent(run)]
    for run in wronged:
        said = "alive after all: Prefect's server had been away"
        client.set_flow_run_state(run.id, Running(message=said), force=True)
        log.info("%s is %s", run.name, said)
    return wronged


def _is_silent(run: FlowRun) -> bool:
    """The automation ended it, and nobody else."""
    state = run.state
    return state is not None and state.type is StateType.CRASHED and (state.message or "").startswith(SILENT)

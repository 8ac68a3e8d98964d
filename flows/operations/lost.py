"""Runs that nobody works on any more: after a power cut, a killed worker, a reboot.

Prefect would show them as running for ever, refuse a retry, and keep their place in the queue.
"""

import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psutil
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled, Crashed, Scheduled
from pydantic import ValidationError

from flows.operations import runs
from shoes import clock
from shoes.device.identity import machine_id
from shoes.forecast import window
from shoes.servers import record
from shoes.settings import Settings
from shoes.spec import WindowSpec

log = logging.getLogger("shoes.operations")
MAX_TRIES = 4
"""A night that has crashed so often is left for a person to look at."""
HOURS_BACK = 12
"""A night that crashed earlier than this is not taken up again: it was another night."""


def end_lost(client: SyncPrefectClient, settings: Settings) -> list[FlowRun]:
    """End runs of this machine whose process is gone, and give them back as they were.

    On a server of one's own these are all of the project's; on a team's those whose process was on this machine.
    """
    alive = remember(settings)
    is_own_server, runs_by_hand = settings.prefect_api_url is None, record.anybody_seated(settings)
    active = [run for run in runs.read(client, runs.ACTIVE) if run.id not in alive]
    here = [run for run in active if is_own_server or is_of_this_machine(run, settings)]
    lost = [run for run in here if run.deployment_id is not None or not runs_by_hand]
    for run in lost:
        is_cancelled = run.state is not None and run.state.type is StateType.CANCELLING
        said = "its process was gone when `shoes up` started: the machine or the worker had stopped"
        client.set_flow_run_state(
            run.id, Cancelled(message=said) if is_cancelled else Crashed(message=said), force=True
        )
        log.info("%s is ended: %s", run.name, said)
    return lost


def is_of_this_machine(run: FlowRun, settings: Settings) -> bool:
    """It had a process here: `remember` has seen it.

    Prefect notes a process by its number, at times with the host's name. Each machine has such a number, and a Mac
    has another name in every network.
    """
    return str(run.id) in record.flow_runs(settings, machine_id())


def remember(settings: Settings) -> set[UUID]:
    """Note which flow runs have a process here now, so that they are known when it is gone; their ids."""
    found = living_flow_runs()
    record.note_flow_runs(settings, machine_id(), [str(run) for run in found])
    return found


def living_flow_runs() -> set[UUID]:
    """Ids of the flow runs that have a process on this machine: each worker gives it the id as a variable."""
    found = set()
    for process in psutil.process_iter():
        try:
            given = process.environ().get("PREFECT__FLOW_RUN_ID") if process.status() != psutil.STATUS_ZOMBIE else None
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess, OSError):
            continue  # of somebody else, or gone
        if given:
            found.add(UUID(given))
    return found


def resume(client: SyncPrefectClient, settings: Settings, stopped: Iterable[UUID] = ()) -> list[FlowRun]:
    """Let nights of this machine go on that have crashed, or whose ids are given, while their window is open.

    A run keeps its id: finished stages are not run again, and the training goes on from its checkpoint.
    """
    now = clock.now()
    since = now.astimezone(UTC) - timedelta(hours=HOURS_BACK)
    ended = runs.read(client, [StateType.CRASHED, StateType.CANCELLED], ended_after=since)
    alive, is_own_server = remember(settings), settings.prefect_api_url is None
    own = [run for run in ended if run.id not in alive and (is_own_server or is_of_this_machine(run, settings))]
    wanted = set(stopped)
    chosen = newest_of_each([run for run in own if (run.id in wanted or is_crashed(run)) and may_go_on(run, now)])
    for run in chosen:
        said = f"taken up again: its window is open ({run.name})"
        client.set_flow_run_state(run.id, Scheduled(name="AwaitingRetry", message=said), force=True)
        log.info("%s goes on: it had stopped in the middle, and its window is open", run.name)
    return chosen


def is_crashed(run: FlowRun) -> bool:
    """Its process ended without a word."""
    return run.state is not None and run.state.type is StateType.CRASHED


def may_go_on(run: FlowRun, now: datetime) -> bool:
    """It is a night with a window that is open now, of a deployment, and has not been tried too often."""
    recipe = run.parameters.get("recipe") or {}
    try:
        hours = WindowSpec.model_validate(recipe.get("window") or {})
    except ValidationError:
        return False
    has_window = hours.starts is not None and hours.ends is not None
    return (
        has_window
        and window.is_inside(hours, now)
        and run.deployment_id is not None
        and "night" in run.tags
        and run.run_count < MAX_TRIES
    )


def newest_of_each(found: Sequence[FlowRun]) -> list[FlowRun]:
    """One run of each deployment: the one that started last."""
    newest: dict[UUID | None, FlowRun] = {}
    for run in sorted(found, key=lambda run: run.start_time or datetime.min.replace(tzinfo=UTC)):
        newest[run.deployment_id] = run
    return list(newest.values())

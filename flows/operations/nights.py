"""The machine's schedule in Prefect: which deployment starts at night, in which hours, and what was missed.

A schedule is paused when it is paused in either place, by `shoes schedule pause` or in Prefect's dashboard, and only
`shoes schedule resume` or the dashboard wakes it: neither a deploy nor `shoes up` does.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled
from pydantic import ValidationError

from flows.operations import register
from shoes import clock, nights, recipes
from shoes.errors import ConfigurationError, Problem
from shoes.forecast import window
from shoes.nights import Schedule
from shoes.settings import Settings
from shoes.spec import WindowSpec

SLUG = "nights"
"""Name of the project's own schedule; others, which people made, are theirs."""
FLOW = "overnight"
PAGE = 200
"""Most runs that Prefect gives at once."""


@contextmanager
def connected(api: str) -> Iterator[SyncPrefectClient]:
    """A client of the server at an address."""
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        yield client


def apply_kept(client: SyncPrefectClient, settings: Settings) -> bool:
    """Set Prefect's schedule to the one that this machine keeps; whether nights start by themselves then."""
    schedule = nights.load(settings.data)
    is_active = apply(client, schedule)
    if schedule.is_resumed:
        nights.save(schedule.model_copy(update={"is_resumed": False}), settings.data)
    return is_active


@contextmanager
def around_deploying(client: SyncPrefectClient, settings: Settings) -> Iterator[None]:
    """`prefect deploy --all` comes inside: what was paused in Prefect before it is so after it, and the kept schedule
    holds.

    A deploy wakes paused deployments, and gives every schedule anew where one was added in the dashboard.
    """
    before = register.deployments(client)
    resting = [d.id for d in before if d.paused]
    was_paused = any(not own.active for d in before if (own := _own(d)) is not None)
    try:
        yield
    finally:
        for deployment in resting:
            client.pause_deployment(deployment)
        if was_paused:
            _pause_schedules(client)
    apply_kept(client, settings)


def _pause_schedules(client: SyncPrefectClient) -> None:
    for deployment in register.deployments(client):
        if (own := _own(deployment)) is not None:
            client.update_deployment_schedule(deployment.id, own.id, active=False)


def apply(client: SyncPrefectClient, schedule: Schedule) -> bool:
    """Let the schedule's deployment, and no other, start in its window; whether it starts by itself then.

    What is right already is left as it is. A change makes Prefect drop the runs that it had made for the former time.

    Raises:
        ConfigurationError: the deployment is not registered.
    """
    found = {d.name: d for d in register.deployments(client)}
    if schedule.recipe not in found:
        fix = "start `shoes up`, or run `prefect deploy --all` in the project's folder"
        raise ConfigurationError([Problem("Prefect", f"has no deployment {FLOW}/{schedule.recipe}", fix)])
    is_active = _is_active(found, schedule)
    chosen = found[schedule.recipe]
    if schedule.is_resumed and chosen.paused:
        client.resume_deployment(chosen.id)
    # times first: a run made in between for the former time has the former hours, by which `drop_stale` knows it
    _set_schedule(client, chosen, schedule, is_active=is_active)
    for deployment in found.values():
        if deployment is not chosen and (own := _own(deployment)) is not None:
            client.delete_deployment_schedule(deployment.id, own.id)
        _set_window(client, deployment, schedule)
    return is_active and (schedule.is_resumed or not chosen.paused)


def _is_active(found: Mapping[str, DeploymentResponse], schedule: Schedule) -> bool:
    """As it is in Prefect, unless something was said here; a pause goes along to another deployment."""
    if schedule.is_paused or schedule.is_resumed:
        return not schedule.is_paused
    own = _own(found[schedule.recipe])
    others = [other for d in found.values() if (other := _own(d)) is not None]
    return own.active if own is not None else all(other.active for other in others)


def _set_schedule(
    client: SyncPrefectClient, deployment: DeploymentResponse, schedule: Schedule, *, is_active: bool
) -> None:
    wanted = CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
    own = _own(deployment)
    if own is None:
        made = DeploymentScheduleCreate(schedule=wanted, active=is_active, slug=SLUG)
        client.create_deployment_schedules(deployment.id, [made])
    elif (own.schedule, own.active) != (wanted, is_active):
        client.update_deployment_schedule(deployment.id, own.id, active=is_active, schedule=wanted)


def _set_window(client: SyncPrefectClient, deployment: DeploymentResponse, schedule: Schedule) -> None:
    """The schedule's hours, in deployments that have a window and in the one that starts by itself."""
    recipe = deployment.parameters.get("recipe")
    if not isinstance(recipe, dict):
        return
    others = {name: value for name, value in recipe.items() if name != "window"}
    is_chosen = deployment.name == schedule.recipe
    hours = schedule.window if is_chosen or _has_window(recipe) else None
    wanted = others if hours is None else {**others, "window": hours.model_dump(mode="json")}
    if wanted != recipe:
        client.update_deployment(
            deployment.id, DeploymentUpdate(parameters={**deployment.parameters, "recipe": wanted})
        )


def _has_window(recipe: Mapping[str, Any]) -> bool:
    """The recipe ships with a window; one that does not ship has what stands in it."""
    name = recipe.get("name")
    return (recipes.load(name).window != WindowSpec()) if name in recipes.names() else bool(recipe.get("window"))


def _own(deployment: DeploymentResponse) -> DeploymentSchedule | None:
    """The project's own schedule of a deployment."""
    return next((found for found in deployment.schedules if found.slug == SLUG), None)


def drop_stale(client: SyncPrefectClient, now: datetime) -> list[FlowRun]:
    """Delete the runs to come that their schedule would not make as it is now; give them back.

    A change makes Prefect delete the runs of before. But its scheduler puts in what it made of the schedule some time
    after it read it, and may do so behind the change's back: a night at the former hour, or with the former end.
    Prefect makes what is missing then by itself.
    """
    of_nights = {d.id: d for d in register.deployments(client)}
    stale = [
        run
        for run in _scheduled(client, FlowRunFilterExpectedStartTime(after_=now.astimezone(UTC)))
        if run.deployment_id in of_nights and _is_stale(run, of_nights[run.deployment_id])
    ]
    for run in stale:
        client.delete_flow_run(run.id)
    return stale


def _is_stale(run: FlowRun, deployment: DeploymentResponse) -> bool:
    maker = run.created_by.id if run.created_by else None
    made_by = next((found for found in deployment.schedules if found.id == maker), None)
    if made_by is None or not made_by.active or deployment.paused:
        return True
    return run.parameters != {**deployment.parameters, **made_by.parameters}


def cancel_missed(client: SyncPrefectClient, now: datetime) -> list[FlowRun]:
    """Cancel the scheduled runs whose night is over; give them back.

    Of each deployment the newest one whose window is still open stays: a Mac that wakes up at 23:10 trains tonight.
    Runs that a person planned stay as well.
    """
    missed = _missed(client, now)
    over = {run.id: why for run in missed if (why := _over(run, now))}
    kept: set[object] = set()
    for run in sorted(missed, key=lambda run: run.expected_start_time or now, reverse=True):
        if run.id not in over and run.deployment_id in kept:
            over[run.id] = "A newer run of the same night is waiting."
        elif run.id not in over:
            kept.add(run.deployment_id)
    cancelled = [run for run in missed if run.id in over]
    for run in cancelled:
        client.set_flow_run_state(run.id, Cancelled(message=over[run.id]))
    return cancelled


def _missed(client: SyncPrefectClient, now: datetime) -> list[FlowRun]:
    """Runs of schedules that should have started by now, and did not."""
    return _scheduled(client, FlowRunFilterExpectedStartTime(before_=now.astimezone(UTC)))


def _scheduled(client: SyncPrefectClient, starts: FlowRunFilterExpectedStartTime) -> list[FlowRun]:
    """Runs that a schedule made and that never started."""
    wanted = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])), expected_start_time=starts
    )
    found: list[FlowRun] = []
    while True:
        page = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW, "train-lora"])),
            flow_run_filter=wanted,
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < PAGE:
            return [run for run in found if run.auto_scheduled and not run.run_count]


def _over(run: FlowRun, now: datetime) -> str | None:
    """Why a run's night is over; None while its window is open, or where it has none."""
    try:
        hours = WindowSpec.model_validate((run.parameters.get("recipe") or {}).get("window") or {})
    except (ValidationError, AttributeError):
        return None
    if run.expected_start_time is None or hours.starts is None or hours.ends is None:
        return None
    start = run.expected_start_time
    start = start.astimezone(clock.now(hours.timezone).tzinfo)
    end = window.end_of(hours, start)
    if end is None or clock.seconds_between(end, now) < 0:
        return None
    return (
        f"The night of {nights.in_words((start, end))}, is over: this machine was off, asleep or busy. "
        f"{nights.next_in_words(hours, now)}"
    )


@dataclass(frozen=True)
class LastNight:
    """What the last night did, as Prefect knows it."""

    name: str
    started: datetime
    state: str
    message: str


def last_night(client: SyncPrefectClient) -> LastNight | None:
    """The night that started last, whoever started it; None where none ever did."""
    runs = client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])),
        flow_run_filter=FlowRunFilter(start_time=FlowRunFilterStartTime(is_null_=False)),
        sort=FlowRunSort.START_TIME_DESC,
        limit=1,
    )
    if not runs or runs[0].start_time is None:
        return None
    run = runs[0]
    message = (run.state.message if run.state else None) or ""
    return LastNight(run.name, runs[0].start_time, run.state_name or "", message)


def is_active(client: SyncPrefectClient) -> bool | None:
    """Whether a night starts by itself, as Prefect has it; None where it has no schedule of the project."""
    found = [own.active and not d.paused for d in register.deployments(client) if (own := _own(d)) is not None]
    return any(found) if found else None

"""The nights in a real Prefect: when they start, what is held back, and what was missed."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from shoes import nights
from shoes.errors import ConfigurationError
from shoes.nights import Schedule
from shoes.reports import NightReport
from shoes.settings import load_settings
from shoes.spec import Recipe
from tests.conftest import Night

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")

SAO_PAULO = ZoneInfo("America/Sao_Paulo")
KEPT = Schedule(starts="22:30", ends="06:00", timezone="America/Sao_Paulo")
EVENING = datetime(2026, 11, 24, 23, 10, tzinfo=SAO_PAULO)


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def client(prefect: None) -> Iterator[Any]:
    """A client of a server on which the nightly deployments stand as prefect.yaml registers them."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as found:
        for deployment in found.read_deployments():
            found.delete_deployment(deployment.id)
        deploy(found)
        yield found


def deploy(client: Any) -> None:
    """What `prefect deploy --all` does: deployments that are there are brought up to date."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule

    flow = client.create_flow_from_name("overnight")
    window = {"starts": "22:00", "ends": "07:00"}
    for name in ("overnight", "prototype", "demo"):
        recipe = {"name": name, **({} if name == "demo" else {"window": window})}
        made = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 22 * * *", timezone="UTC"), slug="nights")
        client.create_deployment(
            flow,
            name,
            parameters={"recipe": recipe},
            tags=["shoes", "night"],
            schedules=[made] if name == "overnight" else [],
        )


def found(client: Any) -> dict[str, Any]:
    return {d.name: d for d in client.read_deployments()}


def schedules(client: Any) -> dict[str, tuple[str, str, bool]]:
    """Cron, time zone and activity of each deployment that has a schedule."""
    return {
        name: (d.schedules[0].schedule.cron, d.schedules[0].schedule.timezone, d.schedules[0].active)
        for name, d in found(client).items()
        if d.schedules
    }


def windows(client: Any) -> dict[str, str | None]:
    hours = {name: d.parameters["recipe"].get("window") for name, d in found(client).items()}
    return {name: f"{h['starts']}-{h['ends']} {h.get('timezone')}" if h else None for name, h in hours.items()}


def switch(client: Any, name: str, *, active: bool) -> None:
    """What the switch beside a schedule in the dashboard does."""
    deployment = found(client)[name]
    client.update_deployment_schedule(deployment.id, deployment.schedules[0].id, active=active)


def plan_runs(client: Any, name: str, since: datetime, until: datetime) -> list[Any]:
    """Let the server make the runs of a deployment's schedule between two moments."""
    deployment = found(client)[name]
    times = {"start_time": since.astimezone(UTC).isoformat(), "end_time": until.astimezone(UTC).isoformat()}
    client.request("POST", f"/deployments/{deployment.id}/schedule", json={**times, "min_runs": 50, "max_runs": 50})
    return runs_of(client, name)


def runs_of(client: Any, name: str) -> list[Any]:
    from prefect.client.schemas.sorting import FlowRunSort

    runs = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_ASC)
    return [run for run in runs if run.deployment_id == found(client)[name].id]


def test_the_schedule_is_set_and_what_is_right_stays_as_it_is(client: Any) -> None:
    from flows.operations.nights import apply, is_active

    assert apply(client, KEPT)
    assert schedules(client) == {"overnight": ("30 22 * * *", "America/Sao_Paulo", True)}
    hours = "22:30-06:00 America/Sao_Paulo"
    assert windows(client) == {"overnight": hours, "prototype": hours, "demo": None}
    assert is_active(client) is True
    before = found(client)
    assert apply(client, KEPT)
    assert {n: d.updated for n, d in found(client).items()} == {n: d.updated for n, d in before.items()}
    assert found(client)["overnight"].schedules[0].updated == before["overnight"].schedules[0].updated


def test_another_recipe_takes_the_schedule_along(client: Any) -> None:
    from flows.operations.nights import apply

    apply(client, KEPT)
    hours = "22:30-06:00 America/Sao_Paulo"
    apply(client, KEPT.model_copy(update={"recipe": "demo"}))
    assert schedules(client) == {"demo": ("30 22 * * *", "America/Sao_Paulo", True)}
    assert windows(client) == {"overnight": hours, "prototype": hours, "demo": hours}
    switch(client, "demo", active=False)
    apply(client, KEPT.model_copy(update={"recipe": "prototype"}))
    assert schedules(client) == {"prototype": ("30 22 * * *", "America/Sao_Paulo", False)}, "and its pause"
    assert windows(client)["demo"] is None, "the demo ships without a window"


def test_a_schedule_that_somebody_made_in_the_dashboard_is_theirs(client: Any) -> None:
    from prefect.client.schemas.schedules import CronSchedule

    from flows.operations.nights import apply

    client.create_deployment_schedules(
        found(client)["prototype"].id, [(CronSchedule(cron="0 12 * * 6", timezone="UTC"), True)]
    )
    apply(client, KEPT)
    assert schedules(client)["prototype"] == ("0 12 * * 6", "UTC", True)


def test_what_is_paused_in_either_place_is_paused_and_only_resume_wakes_it(client: Any) -> None:
    from flows.operations.nights import apply, apply_kept, is_active

    settings = load_settings()
    apply(client, KEPT)
    switch(client, "overnight", active=False)
    assert not apply(client, KEPT), "paused in the dashboard"
    assert schedules(client)["overnight"][2] is False
    assert is_active(client) is False
    nights.save(KEPT.model_copy(update={"is_resumed": True}), settings.data)
    assert apply_kept(client, settings)
    assert schedules(client)["overnight"][2] is True
    assert nights.load(settings.data) == KEPT, "it is woken once"
    switch(client, "overnight", active=False)
    assert not apply_kept(client, settings), "a later pause holds"
    nights.save(KEPT.model_copy(update={"is_paused": True}), settings.data)
    switch(client, "overnight", active=True)
    assert not apply_kept(client, settings), "paused by the command"
    assert schedules(client)["overnight"][2] is False


def test_a_deployment_that_is_paused_as_a_whole_is_woken_by_resume(client: Any) -> None:
    from flows.operations.nights import apply, is_active

    client.pause_deployment(found(client)["overnight"].id)
    assert not apply(client, KEPT)
    assert is_active(client) is False
    assert apply(client, KEPT.model_copy(update={"is_resumed": True}))
    assert found(client)["overnight"].paused is False


def test_a_deploy_wakes_nothing_that_was_paused(client: Any) -> None:
    from prefect.client.schemas.schedules import CronSchedule

    from flows.operations.nights import apply, around_deploying

    settings = load_settings()
    nights.save(KEPT, settings.data)
    apply(client, KEPT)
    switch(client, "overnight", active=False)
    client.pause_deployment(found(client)["prototype"].id)
    theirs = (CronSchedule(cron="0 12 * * 6", timezone="UTC"), True)
    client.create_deployment_schedules(found(client)["overnight"].id, [theirs])
    with around_deploying(client, settings):
        deploy(client)
        client.resume_deployment(found(client)["prototype"].id)  # as the command line's deploy does
        assert found(client)["overnight"].schedules[0].active, "it is the deploy that wakes it"
    own = next(s for s in found(client)["overnight"].schedules if s.slug == "nights")
    assert (own.active, own.schedule.cron) == (False, "30 22 * * *")
    assert found(client)["prototype"].paused


def test_without_its_deployment_it_is_said_what_to_do(client: Any) -> None:
    from flows.operations.nights import apply

    client.delete_deployment(found(client)["overnight"].id)
    with pytest.raises(ConfigurationError, match=r"overnight/overnight\n.*shoes up"):
        apply(client, KEPT)


def test_runs_of_the_former_time_vanish_and_pausing_removes_them(client: Any) -> None:
    from flows.operations.nights import apply

    now = datetime.now(UTC)
    apply(client, KEPT)
    made = plan_runs(client, "overnight", now, now + timedelta(days=3))
    assert {run.expected_start_time.astimezone(SAO_PAULO).strftime("%H:%M") for run in made} == {"22:30"}
    later = KEPT.model_copy(update={"starts": "23:45"})
    apply(client, later)
    assert runs_of(client, "overnight") == []
    made = plan_runs(client, "overnight", now, now + timedelta(days=3))
    assert {run.expected_start_time.astimezone(SAO_PAULO).strftime("%H:%M") for run in made} == {"23:45"}
    assert made[0].parameters["recipe"]["window"]["starts"] == "23:45"
    apply(client, later.model_copy(update={"is_paused": True}))
    assert runs_of(client, "overnight") == []


@pytest.mark.parametrize(
    "change",
    [
        "update flow_run set parameters = json_set(parameters, '$.recipe.window.ends', '09:00')",
        "update flow_run set created_by = json_set(created_by, '$.id', deployment_id)",
        "update deployment_schedule set active = 0",
    ],
    ids=["other hours", "a schedule that is gone", "a pause"],
)
def test_runs_that_were_made_behind_a_change_are_dropped(client: Any, change: str) -> None:
    """Prefect's scheduler may put in what it made of a schedule before the schedule was changed."""
    from flows.operations.nights import apply, drop_stale

    now = datetime.now(UTC)
    apply(client, KEPT)
    made = plan_runs(client, "overnight", now, now + timedelta(days=3))
    assert drop_stale(client, now) == []
    behind_the_api(change)
    by_hand = client.create_flow_run_from_deployment(found(client)["overnight"].id)
    assert {run.id for run in drop_stale(client, now)} == {run.id for run in made}
    assert [run.id for run in runs_of(client, "overnight")] == [by_hand.id]


def behind_the_api(statement: str) -> None:
    """Change the server's database itself."""
    import sqlite3

    from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL

    file = str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value()).removeprefix("sqlite+aiosqlite:///")
    with closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as database:
        assert database.execute(statement).rowcount


def test_of_missed_nights_only_the_one_that_can_still_train_is_kept(client: Any) -> None:
    from prefect.states import Scheduled

    from flows.operations.nights import apply, cancel_missed

    apply(client, KEPT)
    week = [EVENING - timedelta(days=6), EVENING]
    made = plan_runs(client, "overnight", *week)
    by_hand = client.create_flow_run_from_deployment(
        found(client)["overnight"].id, state=Scheduled(scheduled_time=week[0].astimezone(UTC))
    )
    assert len(made) == 6
    cancelled = cancel_missed(client, EVENING)
    assert [run.id for run in cancelled] == [run.id for run in made[:5]]
    states = {run.id: run.state for run in runs_of(client, "overnight")}
    assert states[made[5].id].name == "Scheduled", "a machine that woke up at 23:10 trains tonight"
    assert states[by_hand.id].name == "Scheduled", "what a person planned is theirs"
    first = states[made[0].id]
    assert first.type.value == "CANCELLED"
    for words in ("Thursday 19 November, 22:30 to 06:00, is over", "Wednesday 25 November at 22:30"):
        assert words in first.message
    assert cancel_missed(client, EVENING) == []
    morning = datetime(2026, 11, 25, 6, 0, tzinfo=SAO_PAULO)
    assert [run.id for run in cancel_missed(client, morning)] == [made[5].id]


def test_of_two_runs_in_one_night_the_newer_one_is_kept(client: Any) -> None:
    from flows.operations.nights import apply, cancel_missed

    apply(client, KEPT)
    first = plan_runs(client, "overnight", EVENING - timedelta(hours=1), EVENING)
    apply(client, KEPT.model_copy(update={"starts": "22:45"}))
    both = plan_runs(client, "overnight", EVENING - timedelta(hours=1), EVENING)
    assert len(both) == 2
    assert [run.id for run in cancel_missed(client, EVENING)] == [first[0].id]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Sets the clock."""

    def set_clock(moment: datetime) -> None:
        def now(timezone: str | None = None) -> datetime:
            return moment.astimezone(ZoneInfo(timezone)) if timezone else moment

        monkeypatch.setattr("shoes.clock.now", now)

    return set_clock


def started(flow: Any, run: Any, recipe: Recipe) -> Any:
    """A worker starts a run; give back the run as Prefect shows it then."""
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow

    run_flow(flow, flow_run=run, parameters={"recipe": recipe}, return_type="state")
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run.id)


def in_window(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"window": KEPT.window})


@pytest.fixture
def shared_night(in_night: Night) -> Iterator[Night]:
    """The shared night, whose kept spec is put back: a night that goes on with it writes its own hours there."""
    spec = in_night.training.run_dir / "spec.toml"
    before = spec.read_bytes()
    yield in_night
    spec.write_bytes(before)


@pytest.mark.parametrize("name", ["overnight", "train_lora"])
def test_a_scheduled_run_that_comes_too_late_does_nothing_and_says_so(
    client: Any, shared_night: Night, at, name: str
) -> None:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    from flows import overnight as flows
    from flows.operations.nights import apply

    apply(client, KEPT)
    run = plan_runs(client, "overnight", EVENING - timedelta(hours=1), EVENING)[0]
    at(datetime(2026, 11, 25, 9, 12, tzinfo=SAO_PAULO))
    ended = started(getattr(flows, name), run, in_window(shared_night.recipe))
    assert (ended.state.type.value, ended.state.name) == ("COMPLETED", "Skipped")
    assert "22:30 to 06:00 is closed" in ended.state.message
    assert "Wednesday 25 November at 22:30" in ended.state.message
    tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
    assert tasks == [], "nothing was begun"


def test_who_retries_it_by_hand_is_not_held_back(client: Any, shared_night: Night, at) -> None:
    from prefect.states import Scheduled

    from flows.operations.nights import apply
    from flows.overnight import train_lora

    apply(client, KEPT)
    run = plan_runs(client, "overnight", EVENING - timedelta(hours=1), EVENING)[0]
    at(datetime(2026, 11, 25, 9, 12, tzinfo=SAO_PAULO))
    recipe = in_window(shared_night.recipe)
    assert started(train_lora, client.read_flow_run(run.id), recipe).state.name == "Skipped"
    client.set_flow_run_state(run.id, Scheduled(name="AwaitingRetry"), force=True)
    assert started(train_lora, client.read_flow_run(run.id), recipe).state.name == "Completed"
    by_hand = client.create_flow_run_from_deployment(found(client)["overnight"].id)
    assert started(train_lora, by_hand, recipe).state.name == "Completed"
    in_time = plan_runs(client, "overnight", EVENING - timedelta(days=1, hours=1), EVENING - timedelta(days=1))[0]
    at(EVENING)
    assert started(train_lora, in_time, recipe).state.name == "Completed"


def test_the_night_has_one_end_however_long_its_first_stages_take(
    client: Any, shared_night: Night, at, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download that takes until the window is closed must not make the training wait for the next night's end."""
    from flows.overnight import train_lora
    from shoes import stages

    ends: list[datetime | None] = []
    real_fetch, real_train = stages.fetch_model, stages.train

    def slow_fetch(recipe: Recipe) -> Any:
        at(datetime(2026, 11, 25, 8, 0, tzinfo=SAO_PAULO))
        return real_fetch(recipe)

    monkeypatch.setattr("shoes.stages.fetch_model", slow_fetch)
    monkeypatch.setattr("shoes.stages.train", lambda *given: ends.append(given[5]) or real_train(*given))
    at(EVENING)
    train_lora(in_window(shared_night.recipe))
    assert ends == [datetime(2026, 11, 25, 6, 0, tzinfo=SAO_PAULO)]


def test_a_night_that_ends_late_is_done_and_says_how_late(
    client: Any, shared_night: Night, at, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.operations.nights import last_night
    from flows.overnight import overnight
    from shoes import stages

    real = stages.evaluate

    def long_evaluation(*given: Any) -> Any:
        at(datetime(2026, 11, 25, 6, 42, tzinfo=SAO_PAULO))
        return real(*given)

    monkeypatch.setattr("shoes.stages.evaluate", long_evaluation)
    at(EVENING)
    report = overnight(in_window(shared_night.recipe))
    assert isinstance(report, NightReport)
    last = last_night(client)
    assert last is not None
    assert last.state == "Completed"
    assert "42 min 0 s after the window's end at 06:00" in last.message


def test_the_command_applies_it_at_once_where_a_server_runs(
    client: Any, monkeypatch: pytest.MonkeyPatch, own_world: Path
) -> None:
    from click.testing import CliRunner

    from flows.cli import main

    monkeypatch.setenv("SHOES_DATA_DIR", str(own_world / "data"))
    monkeypatch.setenv("PREFECT_API_URL", str(client.api_url).rstrip("/"))

    def shoes(*words: str) -> dict[str, Any]:
        result = CliRunner().invoke(main, ["schedule", *words, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    told = shoes("set", "23:15-05:30", "--timezone", "America/Sao_Paulo", "--recipe", "prototype")
    assert (told["is_active"], told["server"]) == (True, str(client.api_url).rstrip("/"))
    assert schedules(client) == {"prototype": ("15 23 * * *", "America/Sao_Paulo", True)}
    assert shoes("pause")["is_active"] is False
    assert schedules(client)["prototype"][2] is False
    assert shoes("resume")["is_active"] is True
    assert nights.load(own_world / "data").is_resumed is False, "it has been handed over"
    switch(client, "prototype", active=False)
    text = CliRunner().invoke(main, ["schedule", "show"]).output
    assert "Paused in Prefect's dashboard" in text
    assert shoes("show")["next"] == []
    for deployment in found(client).values():
        client.delete_deployment(deployment.id)
    assert "has no deployment overnight/prototype" in shoes("set", "22:00-07:00")["notes"][0]

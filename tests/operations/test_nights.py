"""The nights in a real Prefect: when they start, what is held back, and what was missed."""

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shoes import nights
from shoes.errors import ConfigurationError
from shoes.settings import load_settings
from tests.operations.nightly import (
    EVENING,
    KEPT,
    SAO_PAULO,
    deploy,
    found,
    plan_runs,
    runs_of,
    schedules,
    switch,
    windows,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")


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

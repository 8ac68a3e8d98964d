"""Runs of a schedule that start late or end late, in a real Prefect."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from shoes.reports import NightReport
from shoes.spec import Recipe
from tests.conftest import Night
from tests.operations.nightly import EVENING, KEPT, SAO_PAULO, found, plan_runs

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")


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

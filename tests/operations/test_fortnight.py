"""A training in pieces, night by night, is the one in one piece."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import kills
from shoes.spec import WindowSpec
from tests.prefect_server import Served

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")


@pytest.fixture
def api(prefect: None, prefect_process: Served) -> str:
    """Address of a Prefect server."""
    return prefect_process.api


@pytest.mark.slow
def test_a_training_over_three_nights_is_the_one_in_one_piece(
    api: str, small_data: Path, own_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short form of benchmarks/fortnight.py, in one process."""
    from benchmarks import fortnight
    from flows.overnight import overnight
    from shoes import recipes, stages
    from tests.training.opening import train

    plan = fortnight.Plan(steps=30, nights=3)
    whole, pieces = (kills.new_data_folder(own_world / name, small_data) for name in ("whole", "pieces"))
    recipe = recipes.load("demo", plan.recipe)
    monkeypatch.setenv("SHOES_DATA_DIR", str(whole))
    train(recipe.model_copy(update={"window": WindowSpec()}))
    os.environ.pop("MLFLOW_TRACKING_URI")  # MLflow keeps there what it was told for the other folder
    monkeypatch.setenv("SHOES_DATA_DIR", str(pieces))
    monkeypatch.setattr(stages, "announce", fortnight.no_forecast)
    runs = []
    for start in plan.starts:
        monkeypatch.setattr("shoes.clock.now", fortnight.WoundClock(start, plan.pace).now)
        overnight(recipe)
        runs.append(fortnight.last_run(api))
    stops = fortnight.steps_of(pieces)
    assert len(stops) == 2
    assert fortnight.faults(plan, runs, stops, kills.outcome_of(pieces), kills.outcome_of(whole)) == []
    assert runs[0].message.startswith(f"The training paused at {stops[0]} of 30 steps: the window ends at 07:00")
    assert stops[1] - stops[0] > stops[0], "the night in which the clock is put back is longer"


LOSSES = [("train/loss", step, 1.0 / step) for step in range(1, 31)]
RIGHT = kills.Outcome(adapter={kills.ADAPTER: "0" * 64}, journal=LOSSES, mlflow=LOSSES, states=("FINISHED",))
SHOWN = ["Paused at 12 of 30 steps", "Paused at 25 of 30 steps", "Completed"]


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        ({"adapter": {kills.ADAPTER: "1" * 64}}, SHOWN),
        ({"mlflow": [*LOSSES, LOSSES[0]]}, SHOWN),
        ({"journal": LOSSES[:-1]}, SHOWN),
        ({"states": ("FINISHED", "FINISHED")}, SHOWN),
        ({}, ["Training paused", *SHOWN[1:]]),
        ({}, SHOWN[1:]),
    ],
)
def test_a_fortnight_that_lost_or_doubled_something_is_a_fault(wrong: dict[str, Any], shown: list[str]) -> None:
    from benchmarks import fortnight

    plan = fortnight.Plan(steps=30, nights=3)
    right = [fortnight.NightRun(name, "COMPLETED", "") for name in SHOWN]
    assert fortnight.faults(plan, right, [12, 25], RIGHT, RIGHT) == []
    runs = [fortnight.NightRun(name, "COMPLETED", "") for name in shown]
    assert fortnight.faults(plan, runs, [12, 25], replace(RIGHT, **wrong), RIGHT)


def test_a_fortnight_has_the_night_in_which_the_clock_is_put_back() -> None:
    from benchmarks import fortnight

    for nights_ in (3, 14):
        assert fortnight.LAST_SUMMER_NIGHT in fortnight.Plan(steps=30, nights=nights_).starts

"""Real measurements with the real tiny model, in a real process of their own."""

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from flows.cli import main
from shoes import stages
from shoes.errors import TrainingError
from shoes.forecast import child, outcome
from shoes.forecast.probe import Request
from shoes.forecast.reports import Measurement, Samples
from shoes.forecast.tonight import forecast
from shoes.spec import Recipe
from shoes.tracking.journal import read_events
from shoes.training import choice, tuning
from shoes.training.run import plan_decisions
from tests.forecast.factory import job_of, measurement


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "SECONDS_PER_MEASUREMENT", 0.2)


def test_a_run_is_compared_with_its_forecast(micro: Callable[..., Recipe]) -> None:
    recipe = micro()
    job, models, data = job_of(recipe)
    found = stages.forecast(recipe, models, data)
    assert found is not None
    assert found.num_steps == 4
    assert found.peak_memory_bytes > 100e6
    assert [limit.checkpointing for limit in found.micro_batches] == ["off", "full"]
    assert not list(job.folder.glob("checkpoints/*")), "the forecast trains nothing"
    report = stages.train(recipe, models, data)
    compared = outcome.outcome(outcome.kept(job.folder), report)
    assert compared is not None
    assert compared.actual_seconds == report.seconds
    assert compared.predicted_peak_bytes == found.peak_memory_bytes
    metrics = {k for e in read_events(job.journal) if e["id"] == "forecast/outcome" for k in e["values"]}
    assert {"forecast/seconds_error", "forecast/peak_memory_error"} <= metrics
    assert stages.forecast(recipe, models, data) is None, "there is nothing left to do"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured is known: a test of what is made of it."""
    monkeypatch.setattr("shoes.forecast.tonight._measure", lambda request: measurement())


def test_the_forecast_is_one_json_object(measured: None, with_small_data: object, micro_flags: list[str]) -> None:
    result = CliRunner().invoke(main, ["forecast", "--json", *micro_flags])
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["fits"] is True
    assert found["done"] is False
    assert found["num_steps"] == 4


def test_a_night_that_does_not_fit_is_exit_code_1(
    with_small_data: object, micro_flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = measurement(step=Samples(first=0.9, others=(0.6, 0.5, 0.7)))
    monkeypatch.setattr("shoes.forecast.tonight._measure", lambda request: quick)
    fields = ("max_train_steps", "save_steps", "validation_steps", "checkpointing_steps")
    steps = [word for field in fields for word in (f"--train.{field}", "1000000")]
    clock = ["--window.starts", "00:00", "--window.ends", "01:00"]
    result = CliRunner().invoke(main, ["forecast", *micro_flags, *clock, *steps])
    assert result.exit_code == 1, result.stderr
    assert "To make it fit" in result.stdout
    assert "--train.max_train_steps" in result.stdout


def test_a_measuring_process_that_dies_is_one_clear_error(
    micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = micro()
    job, models, data = job_of(recipe)
    monkeypatch.setattr(child, "MODULE", "shoes.nothing")
    with pytest.raises(TrainingError, match="No module named"):
        forecast(recipe, job, models, data)
    assert outcome.kept(job.folder) is None
    assert stages.announce(recipe, models, data) is None, "a night goes on without a forecast"


def test_a_night_that_is_to_be_tuned_is_measured_as_it_will_be(
    micro: Callable[..., Recipe],
) -> None:
    recipe = micro({"train.gradient_checkpointing": "auto"})
    job, models, data = job_of(recipe)
    with child.prepared(recipe, models, data, plan_decisions(job), cache=job.cache, tune=True) as request:
        *_, measured = child.ask(request, Measurement)
    assert measured.tuned is not None
    assert (measured.tuned.checkpointing, measured.tuned.micro_batch) == (measured.checkpointing, measured.micro_batch)
    assert {point.checkpointing for point in measured.memory} == {"off", "full"}


def test_what_was_tuned_is_kept_for_the_run_and_looked_for_only_once(
    micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def answers(request: Request, answer: object):
        asked.append(request.tune)
        yield measurement(tuned=tuned, micro_batch=4, checkpointing="full") if request.tune else measurement()

    tuned = choice.KeptChoice(precision="no", micro_batch=4, checkpointing="full", reason="a test")
    monkeypatch.setattr("shoes.forecast.tonight.ask", answers)
    recipe = micro({"train.gradient_checkpointing": "auto"})
    job, models, data = job_of(recipe)
    forecast(recipe, job, models, data)
    assert asked == [False], "on the CPU the recipe's own micro-batch is taken"
    monkeypatch.setattr(tuning, "is_tunable", lambda spec, device: True)
    found = forecast(recipe, job, models, data)
    forecast(recipe, job, models, data)
    assert asked == [False, True, False]
    assert (found.micro_batch, found.checkpointing) == (4, "full")
    decisions = plan_decisions(job)
    assert (decisions.micro_batch, decisions.checkpointing) == (4, "full")


def test_what_was_measured_before_a_death_counts(micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(request: object, answer: object):
        yield measurement()
        raise TrainingError("killed")

    monkeypatch.setattr("shoes.forecast.tonight.ask", dies)
    recipe = micro()
    found = forecast(recipe, *job_of(recipe))
    assert found.seconds_per_step == Measurement.model_validate(measurement()).step.typical

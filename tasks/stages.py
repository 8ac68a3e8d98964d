"""The stages as Prefect tasks: one library call each, retried when waiting helps, results kept as JSON."""

from datetime import datetime

from prefect import task

from shoes import environment, night, stages
from shoes.forecast.reports import Forecast
from shoes.reports import (
    DataReport,
    EnvironmentReport,
    EvaluationReport,
    ModelsReport,
    NightReport,
    PausedTraining,
    PromotionReport,
    TrainReport,
)
from shoes.spec import Recipe
from tasks.links import flow_run_links, show_environment, show_forecast, show_pause, show_verdict
from tasks.live import live
from tasks.retrying import RETRYING
from tasks.timeline import stage_runs


@task(name="verify-environment", **RETRYING)
def verify_environment(recipe: Recipe) -> EnvironmentReport:
    """Check that this machine is ready to train."""
    found = stages.verify_environment(recipe)
    show_environment(found)
    return environment.require_ready(found)


@task(name="fetch-model", **RETRYING)
def fetch_model(recipe: Recipe) -> ModelsReport:
    """Have the base model and its judge here, and verify every file."""
    return stages.fetch_model(recipe)


@task(name="prepare-data", **RETRYING)
def prepare_data(recipe: Recipe) -> DataReport:
    """Have the data set here, imported when needed, and verify every image."""
    return stages.prepare_data(recipe)


@task(name="forecast", **RETRYING)
def forecast(recipe: Recipe, models: ModelsReport, data: DataReport) -> Forecast | None:
    """Say what tonight will do."""
    found = stages.announce(recipe, models, data)
    show_forecast(found)
    return found


# A kept result may be that of a training that paused. The stage itself knows best what is done: it returns at once
# when all is, so a retry asks it again.
@task(name="train-lora", refresh_cache=True, **RETRYING)
def train_lora(
    recipe: Recipe, models: ModelsReport, data: DataReport, ends: datetime | None = None
) -> TrainReport | PausedTraining:
    """Train, or go on where an earlier try stopped."""
    with live("training") as report_progress:
        training = stages.train(recipe, models, data, flow_run_links(), report_progress, ends)
    show_pause(recipe, training)
    return training


@task(name="choose-checkpoint", **RETRYING)
def choose_checkpoint(recipe: Recipe, models: ModelsReport, data: DataReport, training: TrainReport) -> TrainReport:
    """Choose the checkpoint that is exported, on the validation photos."""
    return stages.choose(recipe, models, data, training)


@task(name="find-training", **RETRYING)
def find_training(recipe: Recipe, models: ModelsReport, data: DataReport) -> TrainReport:
    """The training that a single stage builds on."""
    return stages.trained(recipe, models, data)


@task(name="evaluate", **RETRYING)
def evaluate(recipe: Recipe, models: ModelsReport, data: DataReport, training: TrainReport) -> EvaluationReport:
    """Compare base, adapter and champion on the test photos."""
    return stages.evaluate(recipe, models, data, training)


@task(name="promote", **RETRYING)
def promote(
    recipe: Recipe,
    models: ModelsReport,
    data: DataReport,
    training: TrainReport,
    evaluation: EvaluationReport,
) -> PromotionReport:
    """Let the adapter be the champion, if it is really better."""
    return stages.promote(recipe, models, data, training, evaluation)


@task(name="report", **RETRYING)
def report(
    recipe: Recipe,
    environment: EnvironmentReport,
    models: ModelsReport,
    data: DataReport,
    training: TrainReport,
    evaluation: EvaluationReport,
    promotion: PromotionReport,
) -> NightReport:
    """Say what the night did."""
    verdict = night.report(recipe, environment, models, data, training, evaluation, promotion, timeline=stage_runs())
    show_verdict(verdict)
    return verdict

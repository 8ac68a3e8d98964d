"""The night as a Prefect flow, and each stage as a flow of its own."""

from prefect import flow

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
from tasks import stages, windows
from tasks.links import paused


@flow(name="overnight", flow_run_name="{recipe.name}", persist_result=True, result_serializer="json")
def overnight(recipe: Recipe) -> NightReport | PausedTraining:
    """Verify, fetch, prepare, forecast, train, choose, evaluate, promote, report."""
    if (late := windows.skipped(recipe)) is not None:
        return late
    ends = windows.ends(recipe)
    environment = stages.verify_environment(recipe)
    models = stages.fetch_model(recipe)
    data = stages.prepare_data(recipe)
    stages.forecast(recipe, models, data)
    training = stages.train_lora(recipe, models, data, ends)
    if isinstance(training, PausedTraining):
        return paused(training)
    training = stages.choose_checkpoint(recipe, models, data, training)
    evaluation = stages.evaluate(recipe, models, data, training)
    promotion = stages.promote(recipe, models, data, training, evaluation)
    return windows.told(stages.report(recipe, environment, models, data, training, evaluation, promotion), ends)


@flow(name="verify-environment", flow_run_name="{recipe.name}")
def verify_environment(recipe: Recipe) -> EnvironmentReport:
    """Check that this machine is ready to train."""
    return stages.verify_environment(recipe)


@flow(name="fetch-model", flow_run_name="{recipe.name}")
def fetch_model(recipe: Recipe) -> ModelsReport:
    """Have the models here, and verify every file."""
    return stages.fetch_model(recipe)


@flow(name="prepare-data", flow_run_name="{recipe.name}")
def prepare_data(recipe: Recipe) -> DataReport:
    """Have the data set here, and verify every image."""
    return stages.prepare_data(recipe)


@flow(name="forecast", flow_run_name="{recipe.name}")
def forecast(recipe: Recipe) -> Forecast | None:
    """Say what tonight will do."""
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    return stages.forecast(recipe, models, data)


@flow(name="train-lora", flow_run_name="{recipe.name}")
def train_lora(recipe: Recipe) -> TrainReport | PausedTraining:
    """Train the adapter, or go on with it."""
    if (late := windows.skipped(recipe)) is not None:
        return late
    ends = windows.ends(recipe)
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    training = stages.train_lora(recipe, models, data, ends)
    return paused(training) if isinstance(training, PausedTraining) else training


@flow(name="evaluate", flow_run_name="{recipe.name}")
def evaluate(recipe: Recipe) -> EvaluationReport:
    """Evaluate the trained adapter."""
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    training = stages.choose_checkpoint(recipe, models, data, stages.find_training(recipe, models, data))
    return stages.evaluate(recipe, models, data, training)


@flow(name="promote", flow_run_name="{recipe.name}")
def promote(recipe: Recipe) -> PromotionReport:
    """Decide about the trained and evaluated adapter."""
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    training = stages.choose_checkpoint(recipe, models, data, stages.find_training(recipe, models, data))
    return stages.promote(recipe, models, data, training, stages.evaluate(recipe, models, data, training))


@flow(name="report", flow_run_name="{recipe.name}")
def report(recipe: Recipe) -> NightReport:
    """Say again what the night did."""
    environment = stages.verify_environment(recipe)
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    training = stages.choose_checkpoint(recipe, models, data, stages.find_training(recipe, models, data))
    evaluation = stages.evaluate(recipe, models, data, training)
    promotion = stages.promote(recipe, models, data, training, evaluation)
    return stages.report(recipe, environment, models, data, training, evaluation, promotion)

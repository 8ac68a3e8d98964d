"""The night as a Prefect flow, and each stage as a flow of its own.

Their descriptions are shown in Prefect's dashboard, as Markdown. Runs are named by what they are, such as `overnight
sd15 r8 3000`: recipe, base model, rank and steps.
"""

from datetime import datetime

from prefect import flow

from shoes import clock
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
from tasks.retrying import training_limit


@flow(name="overnight", flow_run_name="{recipe.title}", persist_result=True, result_serializer="json")
def overnight(recipe: Recipe) -> NightReport | PausedTraining:
    """A whole night: verify, fetch, prepare, forecast, train, choose, prove, evaluate, promote, report.

    What was done before is not done again, whoever did it. **Retry** runs only the stage that failed and those after
    it; a training goes on from its last checkpoint. **Cancel** ends the step and saves the state. A training that
    reaches the end of its window is paused: the run ends as *Paused at 1,800 of 3,000 steps*, and
    the next one goes on.
    """
    if (late := windows.skipped(recipe)) is not None:
        return late
    ends = windows.ends(recipe)
    environment = stages.verify_environment(recipe)
    models = stages.fetch_model(recipe)
    data = stages.prepare_data(recipe)
    stages.forecast(recipe, models, data)
    training = _train(recipe, models, data, ends)
    if isinstance(training, PausedTraining):
        return paused(training)
    training = _exported(recipe, models, data, training)
    evaluation = stages.evaluate(recipe, models, data, training)
    promotion = stages.promote(recipe, models, data, training, evaluation)
    return windows.told(stages.report(recipe, environment, models, data, training, evaluation, promotion), ends)


@flow(name="verify-environment", flow_run_name="{recipe.title}")
def verify_environment(recipe: Recipe) -> EnvironmentReport:
    """Check that this machine is ready to train, and show the checks as a table. Nothing is changed."""
    return stages.verify_environment(recipe)


@flow(name="fetch-model", flow_run_name="{recipe.title}")
def fetch_model(recipe: Recipe) -> ModelsReport:
    """Have the base model and its judges on this machine, and verify every file.

    Run it before the first night: it downloads about 5 GB for Stable Diffusion 1.5. A retry goes on where it broke off.
    """
    return stages.fetch_model(recipe)


@flow(name="prepare-data", flow_run_name="{recipe.title}")
def prepare_data(recipe: Recipe) -> DataReport:
    """Have the data set on this machine, imported when needed, and verify every image. A retry goes on."""
    return stages.prepare_data(recipe)


@flow(name="forecast", flow_run_name="{recipe.title}")
def forecast(recipe: Recipe) -> Forecast | None:
    """Say what tonight will do, from a few real steps: when it ends, what it takes, and if it fits. Trains nothing."""
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    return stages.forecast(recipe, models, data)


@flow(name="train-lora", flow_run_name="{recipe.title}")
def train_lora(recipe: Recipe) -> TrainReport | PausedTraining:
    """Train the adapter, or go on with it from its last checkpoint, up to the end of the recipe's window.

    No evaluation, no promotion: those are the flows `evaluate` and `promote`. **Cancel** saves the state.
    """
    if (late := windows.skipped(recipe)) is not None:
        return late
    ends = windows.ends(recipe)
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    training = _train(recipe, models, data, ends)
    return paused(training) if isinstance(training, PausedTraining) else training


@flow(name="evaluate", flow_run_name="{recipe.title}")
def evaluate(recipe: Recipe) -> EvaluationReport:
    """Compare the trained adapter with the base and the champion on the test photos. Needs a finished training."""
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    training = _exported(recipe, models, data, stages.find_training(recipe, models, data))
    return stages.evaluate(recipe, models, data, training)


@flow(name="promote", flow_run_name="{recipe.title}")
def promote(recipe: Recipe) -> PromotionReport:
    """Let the trained adapter be the champion if it is really better. Needs a finished training, and MLflow."""
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    training = _exported(recipe, models, data, stages.find_training(recipe, models, data))
    return stages.promote(recipe, models, data, training, stages.evaluate(recipe, models, data, training))


@flow(name="report", flow_run_name="{recipe.title}")
def report(recipe: Recipe) -> NightReport:
    """Say again what the night did, notify, and make its page anew. Needs a finished training."""
    environment = stages.verify_environment(recipe)
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    training = _exported(recipe, models, data, stages.find_training(recipe, models, data))
    evaluation = stages.evaluate(recipe, models, data, training)
    promotion = stages.promote(recipe, models, data, training, evaluation)
    return stages.report(recipe, environment, models, data, training, evaluation, promotion)


def _train(
    recipe: Recipe, models: ModelsReport, data: DataReport, ends: datetime | None
) -> TrainReport | PausedTraining:
    """The training's task, with the limit that its window gives it."""
    left = clock.seconds_between(clock.now(), ends) if ends else None
    return stages.train_lora.with_options(timeout_seconds=training_limit(left))(recipe, models, data, ends)


def _exported(recipe: Recipe, models: ModelsReport, data: DataReport, training: TrainReport) -> TrainReport:
    """The training with the checkpoint that is exported, chosen and proven."""
    training = stages.choose_checkpoint(recipe, models, data, training)
    return stages.prove_export(recipe, models, data, training)

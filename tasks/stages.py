"""The stages as Prefect tasks: one library call each, retried when waiting helps, results kept as JSON.

Their descriptions are shown in Prefect's dashboard, as Markdown.
"""

from datetime import datetime

from prefect import get_run_logger, task

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
from tasks.logs import in_the_runs_log
from tasks.retrying import stage
from tasks.telling import tell_night, tell_pause
from tasks.timeline import stage_runs


@task(**stage("verify-environment"), task_run_name="verify-environment")
@in_the_runs_log
def verify_environment(recipe: Recipe) -> EnvironmentReport:
    """Check that this machine is ready to train: device, precision, memory, disk, packages and servers.

    The checks are shown as the artifact `environment`, also when the machine is not ready. A retry checks again.
    """
    found = stages.verify_environment(recipe)
    show_environment(found)
    return environment.require_ready(found)


@task(**stage("fetch-model"), task_run_name="fetch-model: {recipe.model.short_name}")
@in_the_runs_log
def fetch_model(recipe: Recipe) -> ModelsReport:
    """Have the base model and its judges on this machine, and verify every file by its SHA-256.

    Needs the network only for what is not here yet. A retry goes on with the download where it broke off.
    """
    return stages.fetch_model(recipe)


@task(**stage("prepare-data"), task_run_name="prepare-data: {recipe.data.dataset_dir}")
@in_the_runs_log
def prepare_data(recipe: Recipe) -> DataReport:
    """Have the data set on this machine, imported from its source when needed, and verify every image.

    A retry goes on with the import: photos that are done are not done again.
    """
    return stages.prepare_data(recipe)


@task(**stage("forecast"), task_run_name="forecast: {recipe.train.max_train_steps:,} steps")
@in_the_runs_log
def forecast(recipe: Recipe, models: ModelsReport, data: DataReport) -> Forecast | None:
    """Say what tonight will do, from a few real steps in a process of its own: time, memory, disk, and if all fit.

    Shown as the artifact `forecast`. That none can be made does not stop the night.
    """
    found = stages.announce(recipe, models, data)
    show_forecast(found)
    return found


# A kept result may be that of a training that paused. The stage itself knows best what is done: it returns at once
# when all is, so a retry asks it again.
@task(
    **stage("train-lora"),
    task_run_name="train-lora: {recipe.train.max_train_steps:,} steps, rank {recipe.train.rank}",
    refresh_cache=True,
)
@in_the_runs_log
def train_lora(
    recipe: Recipe, models: ModelsReport, data: DataReport, ends: datetime | None = None
) -> TrainReport | PausedTraining:
    """Train the adapter, or go on from the last checkpoint of an earlier try.

    Progress is the artifact `training`, the pictures of the last validation are `samples`; curves are in MLflow. A
    retry loses at most the steps since the last checkpoint. **Cancel** ends the step, saves the state, and the next
    run goes on. At the end of the recipe's window the training is paused, with all of its state saved.
    """
    with live("training", stages.place(recipe, models, data)) as report_progress:
        training = stages.train(recipe, models, data, flow_run_links(), report_progress, ends)
    if isinstance(training, PausedTraining):
        show_pause(recipe, training)
        tell_pause(recipe, training)
    return training


@task(**stage("choose-checkpoint"), task_run_name="choose-checkpoint")
@in_the_runs_log
def choose_checkpoint(recipe: Recipe, models: ModelsReport, data: DataReport, training: TrainReport) -> TrainReport:
    """Choose the checkpoint that is exported: by held-out loss, then by pictures of the validation captions.

    A retry keeps the pictures that are drawn.
    """
    return stages.choose(recipe, models, data, training)


@task(**stage("prove-export"), task_run_name="prove-export")
@in_the_runs_log
def prove_export(recipe: Recipe, models: ModelsReport, data: DataReport, training: TrainReport) -> TrainReport:
    """Prove that the exported adapter is the one that was trained: each form is loaded as its users load it.

    What was trained is kept, whatever this finds. A proof that is kept is not made again.
    """
    return stages.prove(recipe, models, data, training)


@task(**stage("find-training"), task_run_name="find-training")
@in_the_runs_log
def find_training(recipe: Recipe, models: ModelsReport, data: DataReport) -> TrainReport:
    """Find the finished training that a single stage builds on. It fails where the recipe is not trained yet."""
    return stages.trained(recipe, models, data)


@task(**stage("evaluate"), task_run_name="evaluate")
@in_the_runs_log
def evaluate(recipe: Recipe, models: ModelsReport, data: DataReport, training: TrainReport) -> EvaluationReport:
    """Draw the test captions with base, adapter and champion, and compare what they drew.

    A retry keeps the pictures that are drawn; those of base and champion are never drawn twice.
    """
    return stages.evaluate(recipe, models, data, training)


@task(**stage("promote"), task_run_name="promote: {recipe.publish.registered_model}")
@in_the_runs_log
def promote(
    recipe: Recipe,
    models: ModelsReport,
    data: DataReport,
    training: TrainReport,
    evaluation: EvaluationReport,
) -> PromotionReport:
    """Register the adapter in MLflow, and let it be the champion if it is really better.

    Needs MLflow. Trying again is safe: an adapter that is registered keeps its version and its verdict.
    """
    return stages.promote(recipe, models, data, training, evaluation)


@task(**stage("report"), task_run_name="report")
@in_the_runs_log
def report(
    recipe: Recipe,
    environment: EnvironmentReport,
    models: ModelsReport,
    data: DataReport,
    training: TrainReport,
    evaluation: EvaluationReport,
    promotion: PromotionReport,
) -> NightReport:
    """Say what the night did, as the artifacts `verdict` and `report`, a page in MLflow, and a notification.

    A retry says the same again.
    """
    verdict = night.report(recipe, environment, models, data, training, evaluation, promotion, timeline=stage_runs())
    get_run_logger().info("%s", verdict.verdict)
    show_verdict(verdict)
    tell_night(recipe, verdict)
    return verdict

"""The stages of a night, one function each: what the command line calls, and what Prefect's tasks call.

Each is idempotent: a result that is there and verifies is returned at once.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from shoes import clock, dataset, environment, judging
from shoes.dataset.own_splits import require_own_splits
from shoes.device import kept_awake
from shoes.device.claim import claimed, lock_names
from shoes.errors import Busy, TrainingError
from shoes.evaluation.prospects import prospects
from shoes.forecast import outcome, window
from shoes.forecast.reports import Comparison, Forecast
from shoes.model.judges import check_models, fetch_models, repair_models
from shoes.preflight import require_targets
from shoes.progress import Progress, progress
from shoes.publishing import promotion
from shoes.reports import (
    DataReport,
    EnvironmentReport,
    EvaluationReport,
    ModelCheck,
    ModelsReport,
    PausedTraining,
    PromotionReport,
    TrainReport,
)
from shoes.settings import load_settings
from shoes.spec import Recipe
from shoes.tracking import recording
from shoes.tracking.journal import Journal
from shoes.tracking.mirror import Mirror, connect, mirrored
from shoes.tracking.pages import RunPages, known_pages, run_pages
from shoes.tracking.registry import Candidate, Registry
from shoes.training.run import Job, finished, make_job, only_one, plan_decisions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingPlace:
    """Where a training can be watched."""

    samples: Path
    """Folder of its validation pictures, step-000050.png say."""
    pages: Callable[[], RunPages | None]
    """MLflow's pages of its run, once MLflow has it."""


def verify_environment(recipe: Recipe) -> EnvironmentReport:
    """Check this machine, and keep the report beside the data for the run's environment.json.

    Whether it is good enough is for `environment.require_ready` to say. Folders of photos that the recipe names are
    looked at here, too: no later stage makes them, and the training would find it out after the downloads.

    Raises:
        DataError: one of these folders is missing, or has photos that can't be read.
    """
    from shoes import device

    require_own_splits(recipe.train)
    settings = load_settings()
    device.limit_memory(device.measure())  # the checks put tensors on the device, and its limits are read only once
    report = environment.verify(recipe, settings, "in the flow")
    environment.keep(report, settings)
    return report


def fetch_model(recipe: Recipe) -> ModelsReport:
    """The base model and those that judge what is drawn, on this machine and verified."""
    found = fetch_models(recipe, load_settings())
    require_targets(recipe, found.base.path)
    for note in (*found.base.notes, *found.clip.notes):
        log.info("%s", note)
    return found


def repair_model(recipe: Recipe) -> ModelsReport:
    """As `fetch_model`; what was downloaded and is damaged is downloaded again first."""
    return repair_models(recipe, load_settings())


def check_model(recipe: Recipe) -> dict[str, ModelCheck]:
    """Every file of each model as it is now, by its name in `ModelsReport`; nothing is downloaded."""
    return check_models(recipe, load_settings())


def prepare_data(recipe: Recipe) -> DataReport:
    """The data set, verified and described; imported first when it is not there and the recipe names a source."""
    settings = load_settings()
    with progress("importing", "photos") as report_progress:
        report = dataset.prepare(
            recipe.data,
            settings.locate(recipe.data.dataset_dir),
            resolution=recipe.train.resolution,
            source=recipe.data.source,
            downloads=settings.cache / "downloads",
            on_progress=report_progress,
        )
    for note in report.notes:
        log.info("%s", note)
    judged_by = prospects(recipe, report.path)
    if not judged_by.are_enough:
        log.warning("a night on this data set will have no verdict: %s", judged_by.why_too_few)
    description = dataset.write_description(report.path, settings.data / "descriptions")
    return report.model_copy(update={"description": description})


def forecast(recipe: Recipe, models: ModelsReport, data: DataReport) -> Forecast | None:
    """What tonight will do, measured on this machine; None when the training is done already.

    Raises:
        TrainingError: nothing could be measured; the reason is in the message.
        Busy: the device was used by another computation until the end of the recipe's window.
    """
    from shoes.forecast import text
    from shoes.forecast.tonight import forecast as run

    job = _job(recipe, models, data)
    if finished(job) is not None:
        return None
    connect(load_settings().tracking_uri)  # the run will have loaded it, and its memory is in the forecast
    with _device_of(job, recipe, "forecast", until=deadline(recipe)), only_one(job):
        found = run(recipe, job, models, data)
    log.info("%s", text.sentence(found))
    for line in found.advice:
        log.warning("to make it fit: %s", line)
    return found


def announce(recipe: Recipe, models: ModelsReport, data: DataReport) -> Forecast | None:
    """The forecast at the beginning of a night. That none can be made is said, and no reason not to train."""
    try:
        return forecast(recipe, models, data)
    except (TrainingError, Busy) as error:
        log.warning("no forecast: %s", error)
        return None


def compare(recipe: Recipe, models: ModelsReport, data: DataReport) -> tuple[Comparison, Forecast]:
    """All ways of training a recipe on this machine side by side; the best one is kept for its runs."""
    from shoes.forecast.tonight import compare as run

    job = _job(recipe, models, data)
    with _device_of(job, recipe, "comparing choices"), only_one(job):
        return run(recipe, job, models, data)


def train(
    recipe: Recipe,
    models: ModelsReport,
    data: DataReport,
    links: Mapping[str, str] | None = None,
    on_progress: Progress | None = None,
    ends: datetime | None = None,
) -> TrainReport | PausedTraining:
    """Train the adapter, or go on where an earlier try stopped; paused at the end of the recipe's window.

    It waits while another computation has the device, and is paused too when that lasts until the window's end.

    Args:
        links: tags that lead from the run to what started it, for example Prefect's flow run.
        on_progress: told of every step, beside the terminal; must return at once.
        ends: when it has to have stopped; as the window says for a start now, where nothing is given. A night gives
            it, whose first stages may take until the window is closed.
    """
    from shoes.training.loop import not_begun
    from shoes.training.loop import train as run

    job, end = _job(recipe, models, data), ends or deadline(recipe)
    with ExitStack() as held:
        try:
            held.enter_context(_device_of(job, recipe, "training", until=end))
        except Busy as error:
            return not_begun(job, f"the window is over, and {error}")
        journal, _ = held.enter_context(_opened(recipe, job))
        recording.describe(journal, recipe, job, links or {})
        recording.data_set(journal, job, data)
        with recording.its_end(journal):
            report = run(job, journal, on_progress=on_progress, deadline=end)
            if isinstance(report, TrainReport) and (found := outcome.outcome(outcome.kept(job.folder), report)):
                outcome.record(journal, found, report.step)
            return report


def deadline(recipe: Recipe) -> datetime | None:
    """When a training that starts now has to have stopped; None where the recipe's window has no end."""
    return window.end_of(recipe.window, window.start_of(recipe.window, clock.now(recipe.window.timezone)))


def trained(recipe: Recipe, models: ModelsReport, data: DataReport) -> TrainReport:
    """The finished training of a recipe.

    Raises:
        TrainingError: it is not finished.
    """
    report = finished(_job(recipe, models, data))
    if report is None:
        raise TrainingError(f"The recipe {recipe.name} is not trained yet: run `shoes train` with it first.")
    return report


def choose(recipe: Recipe, models: ModelsReport, data: DataReport, training: TrainReport) -> TrainReport:
    """Choose the checkpoint that is exported: by held-out loss, then by pictures of the validation captions."""
    from shoes.evaluation.candidates import choose_checkpoint, kept_choice
    from shoes.training.reexport import export_chosen

    job = _job(recipe, models, data)
    inputs = judging.choice_inputs(recipe, models, job, training)
    captions = [record.caption for record in inputs.validation.records]
    is_done = kept_choice(inputs) is not None
    device = nullcontext() if is_done else computing(recipe, "choosing the checkpoint", training.device)
    with device, progress("choosing", "images") as report_progress, _opened(recipe, job) as (journal, _):
        choice = choose_checkpoint(inputs, judging.tools(recipe, models, data, job, training), report_progress)
        return export_chosen(job, training, choice, captions, journal)


def prove(recipe: Recipe, models: ModelsReport, data: DataReport, training: TrainReport) -> TrainReport:
    """Prove that the exported adapter is the one that was trained; the training's report with the proof.

    Each form is loaded as its users load it, and drawn with. A picture that differs more than rounding explains is a
    doubt in the report.

    Raises:
        ExportError: a form has other weights than the trained adapter.
    """
    from shoes.training.proving import kept_proof, prove_export

    job = _job(recipe, models, data)
    device = nullcontext() if kept_proof(job, training) else computing(recipe, "proving the export", training.device)
    with device, _opened(recipe, job) as (journal, _):
        proven = training.model_copy(update={"proof": prove_export(job, training)})
        recording.proof(journal, proven)
    return proven


def evaluate(recipe: Recipe, models: ModelsReport, data: DataReport, training: TrainReport) -> EvaluationReport:
    """Draw the test captions with the base, the adapter and the champion, and compare them."""
    from shoes.evaluation.suite import evaluate as run
    from shoes.evaluation.suite import kept_evaluation

    job = _job(recipe, models, data)
    inputs = judging.evaluation_inputs(recipe, models, data, job, training)
    is_done = kept_evaluation(inputs) is not None
    device = nullcontext() if is_done else computing(recipe, "evaluation", training.device)
    with device, progress("drawing", "images") as report_progress:
        report = run(inputs, judging.tools(recipe, models, data, job, training), report_progress)
    with _opened(recipe, job) as (journal, _):
        recording.evaluation(journal, report, training.chosen_step)
    return report


def promote(
    recipe: Recipe,
    models: ModelsReport,
    data: DataReport,
    training: TrainReport,
    evaluation: EvaluationReport,
) -> PromotionReport:
    """Register the adapter; let it be the champion if the evaluation says so."""
    settings = load_settings()
    job = _job(recipe, models, data)
    with _opened(recipe, job) as (journal, mirror):
        run_id = mirror.require_run()
        candidate = Candidate(
            run_id=run_id,
            adapter_dir=training.adapter_dir,
            adapter_sha256=training.adapter_sha256,
            base_fingerprint=models.base.fingerprint,
            config={**judging.drawing_config(recipe), "base_fingerprint": models.base.fingerprint},
            tags={"recipe": recipe.name, "training": job.fingerprint, "evaluation": evaluation.fingerprint},
        )
        registry = Registry(settings.tracking_uri, recipe.publish.registered_model)
        report = promotion.promote(candidate, evaluation, recipe.gate, registry, recipe.publish.registered_model)
        recording.promotion(journal, job, evaluation, recipe.gate, report)
    return report


def pages(recipe: Recipe, models: ModelsReport, data: DataReport) -> RunPages | None:
    """Where MLflow shows a recipe's run, when the store has been reached."""
    with _opened(recipe, _job(recipe, models, data)) as (_, mirror):
        pass
    viewer = load_settings().mlflow_url
    return run_pages(viewer, mirror.run_id, mirror.experiment_id) if mirror.run_id else None


def place(recipe: Recipe, models: ModelsReport, data: DataReport) -> TrainingPlace:
    """Where a recipe's training keeps its files, and where MLflow shows it, without asking MLflow."""
    settings, job = load_settings(), _job(recipe, models, data)
    return TrainingPlace(
        job.folder / "samples", lambda: known_pages(job.journal, settings.tracking_uri, settings.mlflow_url)
    )


def record_page(recipe: Recipe, models: ModelsReport, data: DataReport, page: Path) -> None:
    """Keep the night's page with its MLflow run."""
    with _opened(recipe, _job(recipe, models, data)) as (journal, _):
        recording.page(journal, page)


@contextmanager
def computing(
    recipe: Recipe, doing: str, device: str, *, processes: int = 1, until: datetime | None = None
) -> Iterator[None]:
    """Hold a device of this machine for a stage of a recipe, awake; wait for it first (`device.claim.claimed`)."""
    names = lock_names(device, processes)
    with claimed(names, f"{recipe.title}, {doing}", load_settings().locks, until=until), kept_awake():
        yield


def _device_of(job: Job, recipe: Recipe, doing: str, *, until: datetime | None = None) -> AbstractContextManager[None]:
    """`computing` for what a training does; one that is done needs no device."""
    if finished(job) is not None:
        return nullcontext()
    decisions = plan_decisions(job)
    return computing(recipe, doing, decisions.device, processes=decisions.processes, until=until)


def _job(recipe: Recipe, models: ModelsReport, data: DataReport) -> Job:
    settings = load_settings()
    return make_job(recipe, models.base, data, runs=settings.runs, cache=settings.cache)


@contextmanager
def _opened(recipe: Recipe, job: Job) -> Iterator[tuple[Journal, Mirror]]:
    """A run's lock, journal and mirror in MLflow."""
    destination = recording.destination(recipe, job, load_settings())
    with only_one(job), Journal(job.journal) as journal, mirrored(job.journal, destination) as mirror:
        yield journal, mirror

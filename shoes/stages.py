"""The stages of a night, one function each: what the command line calls, and what Prefect's tasks call.

Each is idempotent: a result that is there and verifies is returned at once.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from shoes import dataset, environment
from shoes.errors import ShoesError, TrainingError
from shoes.evaluation.inputs import Adapter, Arm, EvaluationInputs
from shoes.forecast import outcome, window
from shoes.forecast.reports import Comparison, Forecast
from shoes.model.files import check, fetch, repair
from shoes.model.wanted import wanted_models
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
from shoes.tracking.registry import Candidate, Registry
from shoes.training.run import Job, finished, make_job, only_one

if TYPE_CHECKING:
    from shoes.evaluation.pictures import Draw

log = logging.getLogger(__name__)


def verify_environment(recipe: Recipe) -> EnvironmentReport:
    """Check this machine, and keep the report beside the data for the run's environment.json.

    Whether it is good enough is for `environment.require_ready` to say.
    """
    from shoes import device

    settings = load_settings()
    device.limit_memory(device.measure())  # the checks put tensors on the device, and its limits are read only once
    report = environment.verify(recipe, settings, "in the flow")
    environment.keep(report, settings)
    return report


def fetch_model(recipe: Recipe) -> ModelsReport:
    """The base model and the CLIP that scores it, on this machine and verified."""
    settings = load_settings()
    base, clip = (fetch(wanted, settings) for wanted in wanted_models(recipe))
    require_targets(recipe, base.path)
    for note in (*base.notes, *clip.notes):
        log.info("%s", note)
    return ModelsReport(base=base, clip=clip)


def repair_model(recipe: Recipe) -> ModelsReport:
    """As `fetch_model`; what was downloaded and is damaged is downloaded again first."""
    settings = load_settings()
    base, clip = (repair(wanted, settings) for wanted in wanted_models(recipe))
    return ModelsReport(base=base, clip=clip)


def check_model(recipe: Recipe) -> tuple[ModelCheck, ModelCheck]:
    """Every file of the base model and of CLIP as it is now; nothing is downloaded."""
    settings = load_settings()
    base, clip = (check(wanted, settings) for wanted in wanted_models(recipe))
    return base, clip


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
    description = dataset.write_description(report.path, settings.data / "descriptions")
    return report.model_copy(update={"description": description})


def forecast(recipe: Recipe, models: ModelsReport, data: DataReport) -> Forecast | None:
    """What tonight will do, measured on this machine; None when the training is done already.

    Raises:
        TrainingError: nothing could be measured; the reason is in the message.
    """
    from shoes.forecast import text
    from shoes.forecast.tonight import forecast as run

    job = _job(recipe, models, data)
    if finished(job) is not None:
        return None
    connect(load_settings().tracking_uri)  # the run will have loaded it, and its memory is in the forecast
    with only_one(job):
        found = run(recipe, job, models, data)
    log.info("%s", text.sentence(found))
    for line in found.advice:
        log.warning("to make it fit: %s", line)
    return found


def announce(recipe: Recipe, models: ModelsReport, data: DataReport) -> Forecast | None:
    """The forecast at the beginning of a night. That none can be made is said, and no reason not to train."""
    try:
        return forecast(recipe, models, data)
    except TrainingError as error:
        log.warning("no forecast: %s", error)
        return None


def compare(recipe: Recipe, models: ModelsReport, data: DataReport) -> tuple[Comparison, Forecast]:
    """All ways of training a recipe on this machine side by side; the best one is kept for its runs."""
    from shoes.forecast.tonight import compare as run

    job = _job(recipe, models, data)
    with only_one(job):
        return run(recipe, job, models, data)


def train(
    recipe: Recipe,
    models: ModelsReport,
    data: DataReport,
    links: Mapping[str, str] | None = None,
    on_progress: Progress | None = None,
) -> TrainReport | PausedTraining:
    """Train the adapter, or go on where an earlier try stopped; paused at the end of the recipe's window.

    Args:
        links: tags that lead from the run to what started it, for example Prefect's flow run.
        on_progress: told of every step, beside the terminal; must return at once.
    """
    from shoes.training.loop import train as run

    job = _job(recipe, models, data)
    with _opened(recipe, job) as (journal, _):
        recording.describe(journal, recipe, job, links or {})
        recording.data_set(journal, job, data)
        try:
            report = run(job, journal, on_progress=on_progress, deadline=deadline(recipe))
            if isinstance(report, PausedTraining):
                return report
            if found := outcome.outcome(outcome.kept(job.folder), report):
                outcome.record(journal, found, report.step)
            return report
        except ShoesError as error:
            recording.fail(journal, error)
            raise


def deadline(recipe: Recipe) -> datetime | None:
    """When a training that starts now has to have stopped; None where the recipe's window has no end."""
    return window.end_of(recipe.window, window.start_of(recipe.window, datetime.now().astimezone()))


def trained(recipe: Recipe, models: ModelsReport, data: DataReport) -> TrainReport:
    """The finished training of a recipe.

    Raises:
        TrainingError: it is not finished.
    """
    report = finished(_job(recipe, models, data))
    if report is None:
        raise TrainingError(f"The recipe {recipe.name} is not trained yet: run `shoes train` with it first.")
    return report


def evaluate(recipe: Recipe, models: ModelsReport, data: DataReport, training: TrainReport) -> EvaluationReport:
    """Draw the test captions with the base, the adapter and the champion, and compare them."""
    from shoes.evaluation.suite import evaluate as run

    inputs = _evaluation_inputs(recipe, models, data, training)
    with progress("drawing", "images") as report_progress:
        report = run(inputs, lambda arm: _draw_arm(recipe, models, training, arm), report_progress)
    with _opened(recipe, _job(recipe, models, data)) as (journal, _):
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
            config=_drawing_config(recipe),
            tags={"recipe": recipe.name, "training": job.fingerprint, "evaluation": evaluation.fingerprint},
        )
        registry = Registry(settings.tracking_uri, recipe.publish.registered_model)
        report = promotion.promote(candidate, evaluation, registry, recipe.publish.registered_model)
        recording.promotion(journal, evaluation, report)
    return report


def run_id(recipe: Recipe, models: ModelsReport, data: DataReport) -> str | None:
    """MLflow's run of a recipe, when the store has been reached."""
    with _opened(recipe, _job(recipe, models, data)) as (_, mirror):
        pass
    return mirror.run_id


def record_page(recipe: Recipe, models: ModelsReport, data: DataReport, page: Path) -> None:
    """Keep the night's page with its MLflow run."""
    with _opened(recipe, _job(recipe, models, data)) as (journal, _):
        recording.page(journal, page)


def _job(recipe: Recipe, models: ModelsReport, data: DataReport) -> Job:
    settings = load_settings()
    return make_job(recipe, models.base, data, runs=settings.runs, cache=settings.cache)


@contextmanager
def _opened(recipe: Recipe, job: Job) -> Iterator[tuple[Journal, Mirror]]:
    """A run's lock, journal and mirror in MLflow."""
    destination = recording.destination(recipe, job, load_settings())
    with only_one(job), Journal(job.journal) as journal, mirrored(job.journal, destination) as mirror:
        yield journal, mirror


def _evaluation_inputs(
    recipe: Recipe, models: ModelsReport, data: DataReport, training: TrainReport
) -> EvaluationInputs:
    settings = load_settings()
    return EvaluationInputs(
        spec=recipe.eval,
        records=dataset.load_split(data.path / "test", decode=False),
        data_fingerprint=data.fingerprint,
        model_fingerprint=models.base.fingerprint,
        adapter=Adapter(training.adapter_dir, training.adapter_sha256),
        clip_path=models.clip.path,
        clip_fingerprint=models.clip.fingerprint,
        resolution=recipe.train.resolution,
        device=training.device,
        dtype=training.precision,
        out_dir=training.run_dir / "evaluation",
        cache_dir=settings.cache,
        champion=_opponent(recipe, models, training),
        batch_size=recipe.train.eval_batch_size,
        vae_tiling=recipe.inference.vae_tiling,
    )


def _opponent(recipe: Recipe, models: ModelsReport, training: TrainReport) -> Adapter | None:
    """The champion to be beaten: over the same base, and another adapter than this one.

    An adapter that became champion is compared with the one that it took the place of, so that asking again
    gives the same answer.
    """
    registry = Registry(load_settings().tracking_uri, recipe.publish.registered_model)
    champion = registry.champion()
    if champion is not None and champion.adapter_sha256 == training.adapter_sha256:
        champion = registry.champion(champion.beat) if champion.beat else None
    if champion is None or champion.base_fingerprint != models.base.fingerprint:
        return None
    if not champion.adapter_dir.is_dir():
        log.warning("the champion's files are gone (%s): it is not compared", champion.adapter_dir)
        return None
    return Adapter(champion.adapter_dir, champion.adapter_sha256)


def _draw_arm(recipe: Recipe, models: ModelsReport, training: TrainReport, arm: Arm) -> "Draw":
    """What draws with an arm's model."""
    from functools import partial

    from shoes.device import torch_dtype
    from shoes.model.inference import admissible, choose_inference
    from shoes.model.load import load_pipeline
    from shoes.sampling import draw

    # training may have gone on on another device than the recipe's choice, which preflight looked at
    options, left_out = admissible(recipe.inference, training.device)
    for reason in left_out:
        log.warning("%s", reason)
    pipeline = load_pipeline(
        models.base.path,
        device=training.device,
        dtype=torch_dtype(training.precision),
        scheduler=recipe.eval.scheduler,
        adapter_dir=arm.adapter.path if arm.adapter else None,
        inference=choose_inference(options, training.device, resolution=recipe.train.resolution),
        resolution=recipe.train.resolution,
    )
    return partial(
        draw,
        pipeline,
        num_inference_steps=recipe.eval.num_inference_steps,
        guidance_scale=recipe.eval.guidance_scale,
        negative_prompt=recipe.eval.negative_prompt,
        resolution=recipe.train.resolution,
        batch_size=recipe.train.eval_batch_size,
    )


def _drawing_config(recipe: Recipe) -> dict[str, object]:
    """What the registered model needs to draw."""
    return {
        "model": recipe.model.model_dump(mode="json"),
        "scheduler": recipe.eval.scheduler,
        "num_inference_steps": recipe.eval.num_inference_steps,
        "guidance_scale": recipe.eval.guidance_scale,
        "resolution": recipe.train.resolution,
        "inference": recipe.inference.model_dump(mode="json"),
    }

"""The forecast of a recipe on this machine, from the first measurement to the advice."""

import logging
import time

import psutil

from shoes import clock, dataset, device, recipes
from shoes.environment.disk import free_bytes
from shoes.errors import TrainingError
from shoes.evaluation.drawings import sized
from shoes.forecast import outcome
from shoes.forecast.advice import advice
from shoes.forecast.child import ask, prepared
from shoes.forecast.comparison import choose, measure_rows, possible_precisions
from shoes.forecast.plan import Plan, plan
from shoes.forecast.prediction import evaluation_parts, predict, training_parts
from shoes.forecast.probe import Request
from shoes.forecast.reports import Comparison, Forecast, Measurement
from shoes.model.load import load_libraries
from shoes.progress import progress
from shoes.reports import DataReport, ModelsReport
from shoes.spec import EvalSpec, Recipe
from shoes.training import checkpoint, choice, tuning
from shoes.training.parity import fault_finder
from shoes.training.run import Decisions, Job, plan_decisions

log = logging.getLogger(__name__)


def forecast(recipe: Recipe, job: Job, models: ModelsReport, data: DataReport) -> Forecast:
    """Measure, predict, and keep the forecast in the run's folder for the run to be compared with.

    Raises:
        TrainingError: nothing could be measured; the reason is in the message.
    """
    started = time.monotonic()
    load_libraries()  # the run's process holds them, and its memory is part of the forecast
    decisions = plan_decisions(job)
    with prepared(recipe, models, data, decisions, cache=job.cache, tune=_is_to_be_tuned(job, decisions)) as request:
        measured = _measure(request)
        if measured.tuned is not None:  # for the run, and for later ones
            choice.keep(tuning.place(job), measured.tuned)
        found = _forecast(request, job, measured)
    found = found.model_copy(update={"measuring_seconds": time.monotonic() - started})
    outcome.keep(job.folder, found)
    return found


def _is_to_be_tuned(job: Job, decisions: Decisions) -> bool:
    is_fresh = checkpoint.latest(job.checkpoints) is None
    return is_fresh and tuning.is_called_for(job, decisions) and choice.kept(tuning.place(job)) is None


def compare(recipe: Recipe, job: Job, models: ModelsReport, data: DataReport) -> tuple[Comparison, Forecast]:
    """Measure all choices, and keep the best one for every run of this kind on this machine.

    Raises:
        TrainingError: nothing could be measured, or nothing fits.
    """
    facts, decisions = device.measure(), plan_decisions(job)
    fault = fault_finder(job, decisions.device)
    with (
        prepared(recipe, models, data, decisions, cache=job.cache) as request,
        progress("comparing", "pairs") as report,
    ):
        night = _forecast(request, job, _measure(request))
        rows = measure_rows(request, night, possible_precisions(recipe.train, facts), fault, report)
    chosen, reason = choose(rows, recipe.train, night)
    row, file = rows[chosen], choice.place(job.cache, job.spec, job.model.fingerprint, facts)
    choice.keep(
        file,
        choice.KeptChoice(
            precision=row.precision, micro_batch=row.micro_batch, checkpointing=row.checkpointing, reason=reason
        ),
    )
    found = Comparison(
        recipe=recipe.name,
        device=night.device,
        device_name=night.device_name,
        rows=tuple(rows),
        chosen=chosen,
        reason=reason,
        kept_in=str(file),
    )
    return found, night


def _measure(request: Request) -> Measurement:
    """The last answer of the probe; one without the memory of other choices if it died on the way to them."""
    found: Measurement | None = None
    try:
        for found in ask(request, Measurement):
            log.debug("measured: %s", found)
    except TrainingError as error:
        if found is None:
            raise
        log.warning("the memory of other micro-batches is not known: %s", error)
    if found is None:
        raise TrainingError("The measuring process ended without an answer.")
    return found


def _forecast(request: Request, job: Job, measured: Measurement) -> Forecast:
    recipe, work = request.recipe, _plan(request.recipe, job, request.data, measured)
    found = predict(
        recipe,
        job.fingerprint,
        work,
        measured,
        now=clock.now(recipe.window.timezone),
        process_bytes=psutil.Process().memory_info().rss,
        free_disk_bytes=free_bytes(job.folder),
    )
    said = tuple(advice(recipe.name, found, _other_recipes(request, measured)))
    return found.model_copy(update={"advice": said})


def _plan(recipe: Recipe, job: Job, data: DataReport, measured: Measurement) -> Plan:
    snapshot = checkpoint.latest(job.checkpoints)
    start = snapshot.step if snapshot else 0
    evaluation = _sized(recipe, data)
    return plan(recipe.train, evaluation, data, start_step=start, is_cached=measured.frozen_load_seconds == 0)


def _sized(recipe: Recipe, data: DataReport) -> EvalSpec:
    """The evaluation with its number of images, for which the captions are read where a precision is asked for."""
    if recipe.eval.half_width is None:
        return recipe.eval
    return sized(recipe.eval, [record.caption for record in dataset.load_split(data.path / "test", decode=False)])


def _other_recipes(request: Request, measured: Measurement) -> dict[str, float]:
    """Seconds of the shipped recipes that train the same model at the same size."""
    found = {}
    for name in recipes.names():
        other = recipes.load(name)
        if _is_alike(other, request.recipe):
            work = plan(other.train, _sized(other, request.data), request.data, start_step=0, is_cached=False)
            parts = (*training_parts(other, work, measured), *evaluation_parts(work, measured))
            found[name] = sum(part.seconds for part in parts)
    return found


def _is_alike(one: Recipe, other: Recipe) -> bool:
    return one.model == other.model and one.train.resolution == other.train.resolution

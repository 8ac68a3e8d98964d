"""The forecast of a short training at full size, against that training.

The training goes its whole course (encoding, base, steps, validation, samples, candidate, checkpoint), without its end:
the choice of a checkpoint and the proof of an export are parts of their own.
"""

import dataclasses
import statistics
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.device import ground
from benchmarks.device.place import Place
from benchmarks.device.rows import Row
from shoes.forecast.reports import Measurement
from shoes.reports import DataReport
from shoes.spec import Recipe
from shoes.training.run import Decisions, Job

PART = "forecast"
LEFT_OUT = "export"
SECONDS_OF_STEPS = 20.0
MOST_STEPS = 20
FEW = {
    "train.train_batch_size": "1",
    "train.gradient_accumulation_steps": "2",
    "train.max_train_steps": "2",
    "train.validation_images": "2",
    "train.validation_prompts": "a red canvas shoe",
}
"""A training of a slow device, to be measured."""
FAST = {"train.train_batch_size": "4", "train.gradient_accumulation_steps": "4", "train.validation_images": "4"}
"""What a fast device does in the place of it."""


@dataclass(frozen=True)
class Actual:
    """What the training took."""

    seconds: float
    step_seconds: float
    """In the middle."""
    peak_bytes: int


def run(place: Place) -> Iterator[Row]:
    from shoes.device import precision_name, release

    is_fast = place.notes.get("is_fast", place.device == "cuda")
    recipe = ground.full_recipe(place, FEW | (FAST if is_fast else {}))
    data = ground.photos(place, place.options.resolution)
    job = replace(ground.job_of(place, recipe, ground.full_model(place), data, PART), cache=_cache(place))
    decisions = ground.decisions_for(job, place.precision, micro_batch=job.spec.train_batch_size)
    measured = _measured(place, recipe, job, data, decisions)
    release(place.device)
    steps = 2 if place.options.smoke else round(SECONDS_OF_STEPS / measured.step.typical)
    recipe = _with_steps(recipe, min(MOST_STEPS, max(2, steps)))
    job = replace(job, spec=recipe.train)
    seconds = _predicted(recipe, data, measured)
    actual = _trained(job, decisions)
    how = f"{precision_name(decisions.precision)}, {job.spec.effective_batch_size} images a step"
    what = f"{job.spec.max_train_steps} steps with all that is around them"
    yield _row(what, "s", seconds, actual.seconds, how)
    yield _row("one of the steps", "s", measured.step.typical, actual.step_seconds)
    yield _row("peak memory", "GB", measured.peak_bytes / 1024**3, actual.peak_bytes / 1024**3)


def _cache(place: Place) -> Path:
    """Of its own, so that encoding is a part of the training."""
    return place.options.work / "runs" / f"{PART}-cache"


def _measured(place: Place, recipe: Recipe, job: Job, data: DataReport, decisions: Decisions) -> Measurement:
    """What the forecast's probe finds, in this process."""
    from shoes.forecast.night import measurements
    from shoes.forecast.probe import Request

    request = Request(
        recipe=recipe,
        base=job.model,
        judges=(),
        data=data,
        decisions=dataclasses.asdict(decisions),
        cache=job.cache,
        folder=place.options.work / "runs" / f"{PART}-probe",
        seconds=0.1 if place.options.smoke else 3.0,
    )
    with closing(measurements(request)) as answers:  # type: ignore[type-var]
        return next(answers)


def _with_steps(recipe: Recipe, steps: int) -> Recipe:
    """Validated, exported and saved at the end."""
    ends = dict.fromkeys(("max_train_steps", "save_steps", "validation_steps", "checkpointing_steps"), steps)
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=ends)})


def _predicted(recipe: Recipe, data: DataReport, measured: Measurement) -> float:
    from shoes.forecast.plan import plan
    from shoes.forecast.prediction import training_parts

    work = plan(recipe.train, recipe.eval, data, start_step=0, is_cached=False)
    return sum(part.seconds for part in training_parts(recipe, work, measured) if part.name != LEFT_OUT)


def _trained(job: Job, decisions: Decisions) -> Actual:
    """Train as `training.loop` does, up to the last step's checkpoint."""
    from shoes.device import watch_memory
    from shoes.tracking.journal import Journal
    from shoes.training.measuring import timed
    from shoes.training.recovery import step_or_recover
    from shoes.training.saving import save_checkpoint, start_run, validate_when_due
    from shoes.training.session import open_session

    times: list[float] = []

    def course() -> None:
        with Journal(job.journal) as journal:
            session = open_session(job, decisions, None)
            start_run(session, journal)
            while session.step < job.spec.max_train_steps:
                times.append(timed(lambda: step_or_recover(session, journal))[1])
                if validate_when_due(session, journal):
                    save_checkpoint(session, journal)

    with watch_memory(decisions.device) as watch:
        seconds = timed(course)[1]
    return Actual(seconds, statistics.median(times), watch.peak_bytes)


def _row(what: str, unit: str, said: float, actual: float, note: str = "") -> Row:
    error = said / actual - 1 if actual else 0.0
    told = f"forecast {said:.3g} {unit} ({error:+.0%})" + (f"; {note}" if note else "")
    values = {"forecast": round(said, 4), "actual": round(actual, 4), "error": round(error, 4), "unit": unit}
    return Row(PART, what, f"{actual:.3g} {unit}", told, values=values)  # type: ignore[arg-type]

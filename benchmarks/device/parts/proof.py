"""An adapter is trained for a few steps, exported, and each of its forms loaded and drawn with: half precision too."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmarks.device import ground
from benchmarks.device.place import Place
from benchmarks.device.rows import Row, failed, no_time
from shoes.training.run import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from PIL.Image import Image

    from shoes.training.session import Session

PART = "proof"
NUM_STEPS = 6
TRAINED = {
    "train.train_batch_size": "2",
    "train.gradient_accumulation_steps": "1",
    "train.lr_scheduler": "constant",
    "train.learning_rate": "2e-3",
}
"""A few steps at a high rate: the adapter has to do something."""


def run(place: Place) -> Iterator[Row]:
    for precision in reversed(place.precisions):  # those in which proofs have failed come first
        yield proved(PART, place, ground.demo_job(place, f"{PART}-{precision}", TRAINED), precision, "the demo's model")


def proved(part: str, place: Place, job: Job, precision: str, where: str) -> Row:
    """One row for an export in a precision."""
    from shoes.device import precision_name

    what = f"{precision_name(precision)}, {where}, {job.spec.resolution} px"
    if place.seconds_left <= 0:
        return no_time(part, what)
    started = time.monotonic()
    try:
        told = differences(job, precision)
    except Exception as error:  # noqa: BLE001 - a refused export is what this part looks for
        return failed(part, what, error)
    seconds = time.monotonic() - started
    note = f"grey levels of 255 from the adapter in memory: {_in_words(told)}; {seconds:.0f} s"
    values = {"differences": told, "seconds": round(seconds, 2)}
    return Row(part, what, f"{max(told.values()):.2f} at most", note, values=values)  # type: ignore[arg-type]


def differences(job: Job, precision: str) -> dict[str, float]:
    """Train, export and prove; the mean difference of each form's picture."""
    from shoes.device import release
    from shoes.training.session import open_session
    from shoes.training.step import take_step

    decisions = ground.decisions_for(job, precision)
    session = open_session(job, decisions, None)
    for _ in range(NUM_STEPS):
        take_step(session)
    try:
        return _prove(session)
    finally:
        del session
        release(decisions.device)


def _prove(session: "Session") -> dict[str, float]:
    """As a training does at its end."""
    from shoes.device import torch_dtype
    from shoes.model.load import load_unet
    from shoes.publishing.export import export
    from shoes.publishing.proof import prove, updates_of
    from shoes.training import lora
    from shoes.training.saving import provenance
    from shoes.training.validation import draw_samples, sample_prompts, sampling_pipeline

    job, where = session.job, session.decisions
    weights = lora.adapter_weights(session.objective.unet)
    export(job.folder / "adapter", weights, job.spec, provenance(session, session.step))
    pipeline, prompt = sampling_pipeline(session), sample_prompts(session)[:1]

    def draw(pipeline: "StableDiffusionPipeline") -> "Image":
        return draw_samples(session, pipeline, prompt)[0]

    for parameter in lora.trainable(session.objective.unet).values():
        parameter.data = parameter.data.to(session.objective.unet.dtype)
    expected, updates = draw(pipeline), updates_of(session.objective.unet)
    pipeline.unet = load_unet(job.model.path, device=where.device, dtype=torch_dtype(where.precision))
    return prove(job.folder / "adapter", pipeline, updates=updates, expected=expected, draw=draw)


def _in_words(told: dict[str, float]) -> str:
    return ", ".join(f"{form} {difference:.2f}" for form, difference in told.items())

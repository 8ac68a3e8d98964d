"""Looking at the adapter while it trains: held-out loss, and pictures of fixed prompts and seeds."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shoes.dataset import load_split
from shoes.device import is_out_of_memory, release
from shoes.evaluation.statistics import cluster_interval
from shoes.evaluation.units import choose_units
from shoes.model.inference import set_up_vae, vae_inference
from shoes.model.load import assemble_pipeline
from shoes.reports import FEW_UNITS, HeldOutLoss, Interval
from shoes.sampling import draw
from shoes.storage import fingerprint, is_whole, new_folder, write_text
from shoes.tracking.journal import Journal
from shoes.training.cache import LatentCache
from shoes.training.objective import held_out_losses, held_out_timesteps
from shoes.training.randomness import derive_seed, sample_order
from shoes.training.run import Job
from shoes.training.session import Session

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import StableDiffusionPipeline
    from PIL.Image import Image


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Sample:
    prompt: str
    seed: int


def validate(session: Session, journal: Journal) -> None:
    """Measure held-out loss at this step, draw the samples, and record both.

    The session knows the loss only when all is done: a validation that was left is done again, with the same result.

    Raises:
        Interrupted: somebody asked to stop.
    """
    step = session.step
    held_out = _losses(session, session.validation)
    seen = _losses(session, session.train)
    per_image = held_out.mean(1)
    loss = HeldOutLoss(
        step=step,
        mean=float(held_out.mean()),
        standard_error=float(per_image.std() / len(per_image) ** 0.5) if len(per_image) > 1 else None,
        train_mean=float(seen.mean()),
    )
    _keep(session.job, step, held_out.tolist())
    journal.metrics(f"validation/{step}", step, _metrics(loss, held_out.mean(0).tolist(), session))
    picture = session.job.folder / "samples" / f"step-{step:06d}.png"
    if f"samples/{step}" not in journal and _has_drawn(session, picture):
        journal.image(f"samples/{step}", "samples", step, picture)
        journal.artifact(f"samples/{step}/file", picture, "samples")
    if f"curve/{step}" not in journal:
        journal.image(f"curve/{step}", "val_loss_by_timestep", step, _draw_curve(session))
    session.losses = [*[known for known in session.losses if known.step != step], loss]


def loss_difference(job: Job, captions: Sequence[str], step: int) -> Interval | None:
    """Held-out loss at `step` minus that of the base, paired by photo, photos of one caption together.

    Args:
        captions: of the validation split, in its order.

    Returns:
        None where there are too few photos or captions to tell.
    """
    photos = held_out_photos(job, len(captions))
    differences = (kept_losses(job, step) - kept_losses(job, 0)).mean(1).tolist()
    shown = [captions[index] for index in photos]
    is_few = len(set(shown)) < FEW_UNITS
    seen = [record.caption for record in load_split(job.train_dir, decode=False)] if is_few else shown
    units = choose_units(shown, [str(index) for index in photos], "photo", seen)
    return cluster_interval(
        differences, units.names, level=0.95, num_resamples=5000, seed=job.spec.seed, unit=units.unit
    )


def captions_of(cache: LatentCache) -> list[str]:
    """The caption of each photo of an encoded split."""
    return [cache.captions[row] for row in cache.caption_of]


def _losses(session: Session, cache: LatentCache) -> "torch.Tensor":
    """N×8 losses; the same photos, noise and timesteps at every step."""
    spec = session.job.spec
    return held_out_losses(
        session.objective,
        cache,
        held_out_photos(session.job, len(cache)),
        seed=spec.seed,
        batch_size=max(spec.train_batch_size, spec.eval_batch_size),
        heed=session.request.heed,
    )


def held_out_photos(job: Job, num_photos: int) -> list[int]:
    """Which photos of a split the held-out loss is measured on: the same at every step."""
    count = min(job.spec.validation_images, num_photos)
    return sample_order(derive_seed(job.spec.seed, "held-out photos"), 0, batch=count, num_samples=num_photos)


def _metrics(loss: HeldOutLoss, by_timestep: list[float], session: Session) -> dict[str, float]:
    steps = held_out_timesteps(session.objective.schedule.config.num_train_timesteps)
    curve = {f"val/loss/t{t:03d}": value for t, value in zip(steps, by_timestep, strict=True)}
    gap = loss.mean - loss.train_mean
    return {"val/loss": loss.mean, "val/train_loss": loss.train_mean, "val/gap": gap, **curve}


def _file(job: Job, step: int) -> Path:
    return job.folder / "validation" / f"step-{step:06d}.json"


def _keep(job: Job, step: int, losses: Sequence[Sequence[float]]) -> None:
    write_text(_file(job, step), json.dumps(losses))


def kept_losses(job: Job, step: int) -> "np.ndarray":
    """The N×8 held-out losses of a step that was validated, photos in the order of `held_out_photos`."""
    import numpy as np

    return np.array(json.loads(_file(job, step).read_text(encoding="utf-8")))


def _draw_curve(session: Session) -> Path:
    """Loss by timestep, beside the base's."""
    from shoes.evaluation.curve import loss_curve

    job, step = session.job, session.step
    timesteps = held_out_timesteps(session.objective.schedule.config.num_train_timesteps)
    picture = _file(job, step).with_suffix(".png")
    loss_curve(kept_losses(job, 0), kept_losses(job, step), timesteps, step).save(picture)
    return picture


def sample_prompts(session: Session) -> tuple[str, ...]:
    """The prompts drawn at each validation."""
    given = session.job.spec.validation_prompts
    captions = [caption for caption in session.validation.captions if caption]
    spread = max(1, len(captions) // 4)
    return given or tuple(captions[::spread][:4])


def draw_with_session(session: Session, prompts: Sequence[str]) -> "list[Image]":
    """Pictures by the adapter in memory, seeds 0, 1, 2, …"""
    return draw_samples(session, sampling_pipeline(session), prompts)


def sampling_pipeline(session: Session) -> "StableDiffusionPipeline":
    """A pipeline around the session's UNet, with the adapter as it is."""
    job, device = session.job, session.decisions.device
    pipeline = assemble_pipeline(job.model.path, session.objective.unet, job.sampler.scheduler, device=device)
    options = vae_inference(job.inference, device, resolution=job.spec.resolution)
    set_up_vae(pipeline.vae, options, resolution=job.spec.resolution)
    return pipeline


def draw_samples(session: Session, pipeline: "StableDiffusionPipeline", prompts: Sequence[str]) -> "list[Image]":
    """Pictures by a pipeline around the session's UNet, seeds 0, 1, 2, …

    Raises:
        Interrupted: somebody asked to stop; looked at before each step of the sampler.
    """
    job = session.job
    looking = pipeline.unet.register_forward_pre_hook(lambda *_: session.request.heed())
    try:
        return list(
            draw(
                pipeline,
                [_Sample(prompt, seed) for seed, prompt in enumerate(prompts)],
                num_inference_steps=job.sampler.num_inference_steps,
                guidance_scale=job.sampler.guidance_scale,
                negative_prompt=job.sampler.negative_prompt,
                resolution=job.spec.resolution,
                batch_size=job.spec.eval_batch_size,
            )
        )
    finally:
        looking.remove()


def _has_drawn(session: Session, picture: Path) -> bool:
    """Draw the samples of this step; false where there was no memory for it. They are to be looked at, no more."""
    try:
        _draw_samples(session, picture)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        log.warning("step %d has no sample pictures: there was no memory to draw them", session.step)
        release(session.decisions.device)
        return False
    return True


def _draw_samples(session: Session, picture: Path) -> None:
    """Draw and keep the samples of this step, and show them beside the base's. At step 0 both are the base."""
    from shoes.evaluation.grid import base_and_now

    prompts = sample_prompts(session)
    base = _base_samples(session, prompts)
    now = base
    if session.step > 0:
        now = draw_with_session(session, prompts)
        _keep_samples(picture.with_suffix(""), now)
    base_and_now(base, now, prompts, session.step).save(picture)


def _base_samples(session: Session, prompts: Sequence[str]) -> "list[Image]":
    """What the base draws: once for a run, and again only when the files are gone or the sampler is another one."""
    job = session.job
    folder = job.folder / "samples" / f"base-{fingerprint(prompts, job.sampler, job.inference, job.spec.resolution)}"
    if not is_whole(folder):
        with _without_adapter(session):
            _keep_samples(folder, draw_with_session(session, prompts))
    return [_read(folder / f"{number}.png") for number in range(len(prompts))]


@contextmanager
def _without_adapter(session: Session) -> Iterator[None]:
    unet = session.objective.unet
    unet.disable_adapters()
    try:
        yield
    finally:
        unet.enable_adapters()


def _read(file: Path) -> "Image":
    from PIL import Image

    with Image.open(file) as image:
        return image.convert("RGB")


def _keep_samples(folder: Path, images: "Sequence[Image]") -> None:
    with new_folder(folder) as partial:
        for number, image in enumerate(images):
            image.save(partial / f"{number}.png")

"""Measure a night: load, encode, step, hold out, draw, save. Runs in the probe's process."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from shoes.forecast.probe import JudgePlace, Request, memory_points, settle
from shoes.forecast.reports import Measurement
from shoes.storage import remove_path, size_of
from shoes.training.choice import KeptChoice
from shoes.training.measuring import repeat, timed
from shoes.training.run import Job

if TYPE_CHECKING:
    from PIL.Image import Image

    from shoes.device import DeviceFacts
    from shoes.training.cache import LatentCache
    from shoes.training.session import Session

_HELD_OUT_PHOTOS = 8
Values = dict[str, Any]


@dataclass(frozen=True)
class Encoded:
    """Data to step on, and what it took to have it."""

    train: "LatentCache"
    validation: "LatentCache"
    values: Values


def measure_night(request: Request) -> Iterator[Measurement]:
    """Measure in this process, which is first set up as a training process is."""
    settle(request)
    yield from measurements(request)


def measurements(request: Request) -> Iterator[Measurement]:
    """One measurement without the memory of other choices, then the same with it, if the process lives so long."""
    from shoes.device import measure, release, watch_memory
    from shoes.training.session import new_session

    job, decisions, facts = request.job(), request.decided(), measure()
    with watch_memory(decisions.device) as opening:
        encoded = encode(job, decisions.device)
        session, load_seconds = timed(lambda: new_session(job, decisions, encoded.train, encoded.validation))
    limit = _memory_limit(facts, decisions.device, opening.baseline_bytes)
    tuned = _tune(session, limit) if request.tune else None
    with watch_memory(decisions.device) as training:
        values = {**encoded.values, "load_seconds": load_seconds, **_step(session, request.seconds), **_save(session)}
    release(decisions.device)
    with watch_memory(decisions.device) as inference:
        values |= _draw(session, request.judges)
    measured = Measurement(
        device=decisions.device,
        device_name=facts.device_name,
        precision=session.decisions.precision,
        checkpointing=session.decisions.checkpointing,
        micro_batch=session.decisions.micro_batch,
        baseline_bytes=opening.baseline_bytes,
        training_peak_bytes=max(opening.peak_bytes, training.peak_bytes),
        inference_peak_bytes=inference.peak_bytes,
        memory_limit_bytes=limit,
        tuned=tuned,
        **values,
    )
    yield measured
    sizes = (1, 2)[: job.spec.effective_batch_size]
    yield measured.model_copy(update={"memory": tuple(memory_points(session, sizes))})


def _tune(session: "Session", limit: int) -> KeptChoice:
    """The fastest way to train, which the session is brought to."""
    from shoes.training.tuning import by_choice, tune

    found = tune(session, room_bytes=limit)
    session.adapt(by_choice(session.decisions, found))
    return found


def encode(job: Job, device: str) -> Encoded:
    """The caches that are there, or one batch of photos and captions encoded for the occasion."""
    from shoes.training.cache import existing_cache
    from shoes.training.session import cache_key

    found, seconds = timed(lambda: [existing_cache(cache_key(job, device, which)) for which in (0, 1)])
    train, validation = found
    if train is not None and validation is not None:
        return Encoded(train, validation, {"verify_cache_seconds": seconds, **_NOTHING_TO_ENCODE, **_sizes(train)})
    few, values = _encode_few(job, device)
    return Encoded(few, few, {"verify_cache_seconds": 0.0, **values, **_sizes(few)})


_NOTHING_TO_ENCODE = {
    "frozen_load_seconds": 0.0,
    "encode_seconds_per_photo": 0.0,
    "encode_seconds_per_caption": 0.0,
}


def _encode_few(job: Job, device: str) -> "tuple[LatentCache, Values]":
    import numpy as np

    from shoes.dataset import load_split
    from shoes.model.load import load_text, load_vae
    from shoes.training.cache import LatentCache, encode_photos, encode_text

    records = load_split(job.train_dir, decode=False)[: max(2, job.spec.eval_batch_size)]
    batch = records[: job.spec.eval_batch_size]
    vae, vae_seconds = timed(lambda: load_vae(job.model.path, device=device))
    photo_times = repeat(lambda: encode_photos(vae, batch, device), seconds=1.0, least=2, most=5)
    moments = encode_photos(vae, records, device)
    text_parts, text_seconds = timed(lambda: load_text(job.model.path, device=device))
    captions = [*(record.caption for record in records), ""]
    caption_times = repeat(lambda: encode_text(text_parts, captions[: len(batch)], device), seconds=0.5, most=5)
    text, caption_of = encode_text(text_parts, captions, device), np.arange(len(records), dtype=np.int32)
    mirrored = encode_photos(vae, records, device, mirror=True) if job.spec.random_flip else None
    cache = LatentCache(moments, text, caption_of, tuple(captions), mirrored)
    return cache, {
        "frozen_load_seconds": 2 * (vae_seconds + text_seconds),  # each split loads its own
        "encode_seconds_per_photo": photo_times.typical / len(batch),
        "encode_seconds_per_caption": caption_times.typical / len(batch),
    }


def _sizes(cache: "LatentCache") -> Values:
    return {
        "latent_bytes_per_photo": cache.moments.nbytes // len(cache),
        "text_bytes_per_caption": cache.text.nbytes // len(cache.text),
    }


def _step(session: "Session", seconds: float) -> Values:
    from shoes.training.objective import held_out_losses
    from shoes.training.step import take_step

    spec = session.job.spec
    steps = repeat(lambda: take_step(session), seconds=seconds)
    photos = [number % len(session.validation) for number in range(min(_HELD_OUT_PHOTOS, spec.validation_images))]
    batch = max(spec.train_batch_size, spec.eval_batch_size)
    passes = repeat(
        lambda: held_out_losses(session.objective, session.validation, photos, seed=spec.seed, batch_size=batch),
        seconds=seconds / 8,
        least=1,
        most=5,
    )
    return {"step": steps, "held_out_seconds_per_pass": passes.typical / (8 * len(photos))}


def _save(session: "Session") -> Values:
    from shoes.publishing.export import export
    from shoes.training import checkpoint, lora
    from shoes.training.saving import provenance

    job = session.job
    place, seconds = timed(lambda: checkpoint.save(job.checkpoints, session.snapshot(), keep=1))
    weights = lora.adapter_weights(session.objective.unet)
    target = job.candidate(session.step)
    _, export_seconds = timed(lambda: export(target, weights, job.spec, provenance(session, session.step)))
    values = {
        "checkpoint_seconds": seconds,
        "checkpoint_bytes": size_of(place),
        "candidate_seconds": export_seconds,
        "candidate_bytes": size_of(target),
    }
    remove_path(job.folder)
    return values


def _draw(session: "Session", judges: Sequence[JudgePlace]) -> Values:
    """Draw, and let each judge look: the base as good as the adapter, which changes no sizes."""
    from shoes.training.validation import sampling_pipeline

    spec = session.job.spec
    pipeline, pipeline_seconds = timed(lambda: sampling_pipeline(session))
    count = min(4, spec.eval_batch_size)
    images, sample_seconds = timed(lambda: _batch(session, pipeline, count))
    images, drawing_seconds = timed(lambda: _batch(session, pipeline, spec.eval_batch_size))
    looked = [_look(judge, images, session.decisions.device) for judge in judges]
    return {
        "pipeline_seconds": pipeline_seconds,
        "sample_batch_seconds": sample_seconds,
        "sample_batch_images": count,
        "drawing_seconds_per_image": drawing_seconds / len(images),
        "judge_load_seconds": sum(load for load, _ in looked),
        "judge_seconds_per_image": sum(each for _, each in looked),
        "picture_bytes": max(_png_size(image) for image in images),
    }


def _look(judge: JudgePlace, images: "Sequence[Image]", device: str) -> tuple[float, float]:
    """Seconds to load a judge, and seconds that it takes for an image."""
    from shoes.evaluation.clip import load_clip
    from shoes.evaluation.encoders import ImageEncoder, load_dino

    load: Callable[[], ImageEncoder] = partial(load_clip if judge.has_words else load_dino, judge.path, device)
    encoder, seconds = timed(load)
    return seconds, repeat(lambda: encoder.embed_images(images), seconds=0.5, least=1, most=3).typical / len(images)


def measure_drawing(session: "Session") -> float:
    """Seconds of one drawn image, without what only the first batch pays."""
    from shoes.training.validation import sampling_pipeline

    pipeline, count = sampling_pipeline(session), session.job.spec.eval_batch_size
    return repeat(lambda: _batch(session, pipeline, count), seconds=1.0, least=1, most=3).typical / count


def _batch(session: "Session", pipeline: Any, count: int) -> "Sequence[Image]":
    from shoes.training.validation import draw_samples

    captions = [caption for caption in session.validation.captions if caption] or ["a product photo"]
    return draw_samples(session, pipeline, [captions[number % len(captions)] for number in range(count)])


def _png_size(image: "Image") -> int:
    import io

    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.tell()


def _memory_limit(facts: "DeviceFacts", device: str, in_use: int) -> int:
    """What a training may use here: the device's room, and on the CPU no more than the system has to give now."""
    import psutil

    from shoes.device.decisions import memory_room

    room = memory_room(device, facts)
    return min(room, int(psutil.virtual_memory().available) + in_use) if device == "cpu" else room

"""Measurement × plan: how long, how much memory, how much disk. Pure functions."""

from collections.abc import Sequence
from datetime import datetime

from shoes import clock
from shoes.device.decisions import MODES
from shoes.forecast import window
from shoes.forecast.plan import PROOF_DRAWINGS, Plan
from shoes.forecast.reports import Forecast, Measurement, MemoryPoint, MicroBatchLimit, Part
from shoes.spec import Recipe

UNCERTAINTY = 0.1
"""Share by which everything but the steps may be off; the steps' own range was measured."""
_HOW = {"device", "device_name", "precision", "micro_batch", "checkpointing"}


def predict(
    recipe: Recipe,
    training: str,
    plan: Plan,
    measured: Measurement,
    *,
    now: datetime,
    process_bytes: int,
    free_disk_bytes: int,
) -> Forecast:
    """The forecast of a training and its evaluation.

    Args:
        training: fingerprint of the training.
        now: aware; the night starts now, or when its window opens.
        process_bytes: memory of the process that will train, before it trains.
    """
    trained, evaluated = training_parts(recipe, plan, measured), evaluation_parts(plan, measured)
    seconds, night = _total(trained), _total([*trained, *evaluated])
    low, high = _range(measured, trained, seconds)
    start = window.start_of(recipe.window, now)
    carried = _carried(measured, process_bytes)
    return Forecast(
        recipe=recipe.name,
        training=training,
        made_at=now,
        **measured.model_dump(include=_HOW),
        start_step=plan.start_step,
        num_steps=plan.num_steps,
        seconds_per_step=measured.step.typical,
        seconds_per_image=measured.drawing_seconds_per_image,
        starts_at=start,
        **_ends(start, trained=(low, seconds, high), evaluated=_total(evaluated)),
        window_ends_at=window.end_of(recipe.window, start),
        training_seconds=seconds,
        training_low=low,
        training_high=high,
        night_seconds=night,
        parts=(*trained, *evaluated),
        peak_memory_bytes=measured.peak_bytes + carried,
        memory_limit_bytes=measured.memory_limit_bytes + carried,
        micro_batches=_limits(recipe, measured),
        disk_bytes=disk_bytes(recipe, plan, measured),
        free_disk_bytes=free_disk_bytes,
    )


def _ends(start: datetime, *, trained: tuple[float, float, float], evaluated: float) -> dict[str, datetime]:
    """The end with its range; `trained` is the least, the likely and the most time."""
    shares = {"earliest": 1 - UNCERTAINTY, "ends_at": 1.0, "latest": 1 + UNCERTAINTY}
    return {
        name: clock.later(start, seconds + share * evaluated)
        for (name, share), seconds in zip(shares.items(), trained, strict=True)
    }


def _limits(recipe: Recipe, measured: Measurement) -> tuple[MicroBatchLimit, ...]:
    return micro_batch_limits(measured.memory, measured.memory_limit_bytes, recipe.train.effective_batch_size)


def _carried(measured: Measurement, process_bytes: int) -> int:
    """What the training process holds beyond the probe's own start. A device's own memory knows no such thing."""
    return max(0, process_bytes - measured.baseline_bytes) if measured.device == "cpu" else 0


def training_parts(recipe: Recipe, plan: Plan, measured: Measurement) -> tuple[Part, ...]:
    """Seconds of each part of a training, without parts that take no time."""
    m = measured
    encoding = plan.num_photos_to_encode * m.encode_seconds_per_photo
    encoding += plan.num_captions_to_encode * m.encode_seconds_per_caption + m.frozen_load_seconds
    steps = plan.num_steps * m.step.typical + max(0.0, m.step.first - m.step.typical)
    batches = -(-plan.num_samples // m.sample_batch_images)
    sampling = m.pipeline_seconds + batches * m.sample_batch_seconds
    by_clock = int(steps / (60 * recipe.train.checkpointing_minutes))
    saving = max(plan.num_checkpoints, by_clock) * m.checkpoint_seconds + plan.num_candidates * m.candidate_seconds
    parts = (
        Part(name="loading the model", count=1, seconds=m.load_seconds + m.verify_cache_seconds),
        Part(name="encoding photos and captions", count=plan.num_photos_to_encode, seconds=encoding),
        Part(name="training steps", count=plan.num_steps, seconds=steps),
        Part(
            name="held-out loss",
            count=plan.num_validations,
            seconds=plan.num_validations * plan.held_out_passes * m.held_out_seconds_per_pass,
        ),
        Part(name="sample images", count=plan.num_validations, seconds=plan.num_validations * sampling),
        Part(name="saving", count=plan.num_checkpoints, seconds=saving),
        Part(name="export", count=1, seconds=measured.candidate_seconds),
    )
    return tuple(part for part in parts if part.count and part.seconds > 0)


def _proof(m: Measurement) -> float:
    """The base is loaded once; the trained adapter and each exported form are put on it and drawn with.

    Putting an adapter on a UNet takes about as long as loading one with an adapter.
    """
    loading = (1 + PROOF_DRAWINGS) * m.load_seconds + m.pipeline_seconds
    return loading + PROOF_DRAWINGS * m.drawing_seconds_per_image


def evaluation_parts(plan: Plan, measured: Measurement) -> tuple[Part, ...]:
    """Seconds of choosing a checkpoint, proving its export, and of drawing, scoring and measuring base and adapter."""
    m = measured
    choosing = plan.num_choice_drawings * m.drawing_seconds_per_image + 2 * m.load_seconds
    drawing = plan.num_drawings * m.drawing_seconds_per_image + 2 * m.load_seconds
    scoring = m.judge_load_seconds + plan.num_judged * m.judge_seconds_per_image
    loss = 2 * m.load_seconds + plan.test_passes * m.held_out_seconds_per_pass
    loss += plan.num_test_photos_to_encode * m.encode_seconds_per_photo
    parts = (
        Part(name="choosing a checkpoint", count=plan.num_choice_drawings, seconds=choosing),
        Part(name="proof of the export", count=1, seconds=_proof(measured)),
        Part(name="evaluation", count=plan.num_drawings, seconds=drawing + scoring + loss),
    )
    return tuple(part for part in parts if part.count)


def _total(parts: Sequence[Part]) -> float:
    return sum(part.seconds for part in parts)


def _range(measured: Measurement, parts: Sequence[Part], total: float) -> tuple[float, float]:
    steps = next((part.seconds for part in parts if part.name == "training steps"), 0.0)
    fastest, slowest = measured.step.spread
    rest = total - steps
    return (
        steps * min(fastest, 1 - UNCERTAINTY / 2) + rest * (1 - UNCERTAINTY),
        steps * max(slowest, 1 + UNCERTAINTY / 2) + rest * (1 + UNCERTAINTY),
    )


def micro_batch_limits(points: Sequence[MemoryPoint], limit: int, most: int) -> tuple[MicroBatchLimit, ...]:
    """The largest micro-batch by checkpointing, cheapest first; memory grows in a line with the micro-batch.

    `most` is the effective batch: more images than that are never in one pass.
    """
    by_mode = {
        mode: sorted((p for p in points if p.checkpointing == mode), key=lambda p: p.micro_batch) for mode in MODES
    }
    return tuple(
        MicroBatchLimit(checkpointing=mode, largest=_largest(found, limit, most))
        for mode, found in by_mode.items()
        if found
    )


def _largest(points: Sequence[MemoryPoint], limit: int, most: int) -> int:
    known = [(p.micro_batch, p.peak_bytes) for p in points if p.peak_bytes is not None]
    refused = [p.micro_batch for p in points if p.peak_bytes is None]
    if not known or known[0][1] > limit:
        return 0
    most = min([most, *(size - 1 for size in refused)])
    (small, low), (large, high) = known[0], known[-1]
    slope = (high - low) / (large - small) if large > small else low
    return most if slope <= 0 else max(0, min(most, int(small + (limit - low) / slope)))


def disk_bytes(recipe: Recipe, plan: Plan, measured: Measurement) -> int:
    """What is still to be written: caches, checkpoints, candidates, adapters, pictures, and MLflow's copies."""
    m, spec = measured, recipe.train
    photos = plan.num_photos_to_encode + plan.num_test_photos_to_encode
    caches = photos * m.latent_bytes_per_photo + plan.num_captions_to_encode * m.text_bytes_per_caption
    checkpoints = (min(spec.checkpoints_total_limit, plan.num_checkpoints) + 1) * m.checkpoint_bytes
    candidates = min(plan.num_candidates, spec.candidates_total_limit + 1)  # one more before the worst is removed
    adapters = (candidates + 3) * m.candidate_bytes  # the chosen one, and twice in MLflow
    pictures = (
        plan.num_drawings + plan.num_choice_drawings + 3 * plan.num_validations * plan.num_samples
    ) * m.picture_bytes
    return caches + checkpoints + adapters + pictures

"""What the stages `choose` and `evaluate` are given: a recipe, made photos, judges, arms, and what draws them."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoes import dataset
from shoes.evaluation.arms import Tools
from shoes.evaluation.drawings import choose_records
from shoes.evaluation.inputs import Adapter, Arm, Canvas, EvaluationInputs, JudgeModel, Judges, Photos, drawing_settings
from shoes.evaluation.table import HeldOut
from shoes.publishing.champion import files_of
from shoes.publishing.export import adapter_sha256, is_exported
from shoes.reports import DataReport, ModelReport, ModelsReport, TrainReport
from shoes.settings import load_settings
from shoes.spec import Recipe
from shoes.tracking.registry import Registry
from shoes.training.run import Job

if TYPE_CHECKING:
    from shoes.evaluation.candidates import ChoiceInputs
    from shoes.evaluation.pictures import Draw

log = logging.getLogger(__name__)
FULL = "no"
"""Precision of the frozen weights: fp32."""


def evaluation_inputs(
    recipe: Recipe, models: ModelsReport, data: DataReport, job: Job, training: TrainReport
) -> EvaluationInputs:
    """What the final evaluation compares, and on what."""
    settings = load_settings()
    return EvaluationInputs(
        spec=recipe.eval,
        test=_photos(data.path / "test", data.fingerprint),
        training=_photos(job.train_dir, job.inputs[0]),
        validation=_photos(job.validation_dir, job.inputs[1]),
        model_fingerprint=models.base.fingerprint,
        adapter=Adapter(training.adapter_dir, training.adapter_sha256),
        judges=_judges(models),
        resolution=recipe.train.resolution,
        device=training.device,
        dtype=training.precision,
        out_dir=training.run_dir / "evaluation",
        cache_dir=settings.cache,
        champion=_opponent(recipe, models, training),
        batch_size=recipe.train.eval_batch_size,
        vae_tiling=recipe.inference.vae_tiling,
        gate=recipe.gate,
        left_out=models.left_out,
    )


def choice_inputs(recipe: Recipe, models: ModelsReport, job: Job, training: TrainReport) -> "ChoiceInputs":
    """Which checkpoints there are to choose from, and by what."""
    from shoes.evaluation.candidates import ChoiceInputs
    from shoes.training.saving import best_candidates
    from shoes.training.validation import held_out_photos, kept_losses

    validation = _photos(job.validation_dir, job.inputs[1])
    settings = drawing_settings(
        recipe.eval,
        recipe.train.resolution,
        training.device,
        training.precision,
        vae_tiling=recipe.inference.vae_tiling,
    )
    steps = [step for step in best_candidates(job, training.losses) if is_exported(job.candidate(step))]
    measured = held_out_photos(job, len(validation.records))
    return ChoiceInputs(
        spec=recipe.eval,
        validation=validation,
        candidates={s: Adapter(job.candidate(s), adapter_sha256(job.candidate(s))) for s in sorted(steps)},
        losses=training.losses,
        photo_losses={step: kept_losses(job, step) for step in steps},
        loss_captions=[validation.records[index].caption for index in measured],
        training_captions=[record.caption for record in dataset.load_split(job.train_dir, decode=False)],
        canvas=Canvas(models.base.fingerprint, settings, load_settings().cache),
        clip=_judges(models).clip,
        device=training.device,
        batch_size=recipe.train.eval_batch_size,
        out_dir=training.run_dir / "choice",
    )


def tools(recipe: Recipe, models: ModelsReport, data: DataReport, job: Job, training: TrainReport) -> Tools:
    """What draws with an arm's model, and what measures its held-out loss."""
    draw = partial(_draw_arm, recipe, models, training)
    is_full = training.precision == FULL
    return Tools(
        draw=partial(draw, training.precision),
        draw_precisely=None if is_full else partial(draw, FULL),
        measure_loss=partial(_measure_loss, job, data, training),
    )


def drawing_config(recipe: Recipe) -> dict[str, object]:
    """What the registered model needs to draw."""
    return {
        "model": recipe.model.model_dump(mode="json"),
        "scheduler": recipe.eval.scheduler,
        "num_inference_steps": recipe.eval.num_inference_steps,
        "guidance_scale": recipe.eval.guidance_scale,
        "negative_prompt": recipe.eval.negative_prompt,
        "resolution": recipe.train.resolution,
        "inference": recipe.inference.model_dump(mode="json"),
    }


def _photos(folder: Path, fingerprint: str) -> Photos:
    return Photos(dataset.load_split(folder, decode=False), f"{folder.name}/{fingerprint}")


def _judges(models: ModelsReport) -> Judges:
    others: Mapping[str, ModelReport | None] = {"second_clip": models.second_clip, "dino": models.dino}
    there: dict[str, Any] = {role: _judge(model) for role, model in others.items() if model is not None}
    return Judges(clip=_judge(models.clip, models.stand_in), **there)


def _judge(model: ModelReport, note: str = "") -> JudgeModel:
    return JudgeModel(model.name, model.path, model.fingerprint, note)


def _opponent(recipe: Recipe, models: ModelsReport, training: TrainReport) -> Adapter | None:
    """The champion to be beaten: over the same base, and another adapter than this one.

    An adapter that became champion is compared with the one that it took the place of, so that asking again
    gives the same answer.
    """
    settings = load_settings()
    registry = Registry(settings.tracking_uri, recipe.publish.registered_model)
    champion = registry.champion()
    if champion is not None and champion.adapter_sha256 == training.adapter_sha256:
        champion = registry.champion(champion.beat) if champion.beat else None
    if champion is None or champion.base_fingerprint != models.base.fingerprint:
        return None
    folder = files_of(champion, registry, settings.cache / "adapters")
    if folder is None:
        log.warning("the champion's files are gone or changed (%s): it is not compared", champion.adapter_dir)
        return None
    return Adapter(folder, champion.adapter_sha256)


def _draw_arm(recipe: Recipe, models: ModelsReport, training: TrainReport, precision: str, arm: Arm) -> "Draw":
    """What draws with an arm's model."""
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
        dtype=torch_dtype(precision),
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


def _measure_loss(job: Job, data: DataReport, training: TrainReport, arm: Arm) -> HeldOut:
    """Held-out loss of an arm on as many test photos as the training's own validation takes."""
    from shoes.training.held_out import split_losses

    split = data.path / "test"
    records = dataset.load_split(split, decode=False)
    photos = choose_records(records, job.spec.validation_images)
    losses = split_losses(
        job,
        (split, data.fingerprint),
        photos,
        adapter=(arm.adapter.path, arm.adapter.sha256) if arm.adapter else None,
        device=training.device,
        precision=training.precision,
    )
    return HeldOut(losses.mean(1), [records[index].caption for index in photos])

"""The verdict can say no: nothing learned is no difference, and other seeds alone are no improvement."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from shoes import recipes, stages, verdict
from shoes.evaluation.clip import load_clip
from shoes.evaluation.drawings import Drawing, plan_drawings
from shoes.evaluation.statistics import cluster_interval, points
from shoes.sampling import draw
from shoes.spec import Recipe


def test_an_untrained_adapter_is_no_difference(micro: Callable[..., Recipe]) -> None:
    recipe = micro({"train.max_train_steps": "0"})
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    training = stages.train(recipe, models, data)
    evaluation = stages.evaluate(recipe, models, data, training)
    promotion = stages.promote(recipe, models, data, training, evaluation)
    assert evaluation.comparisons[0].identical
    assert evaluation.comparisons[0].clip_score.mean == 0
    assert training.loss_difference.mean == 0
    assert not promotion.promoted
    assert verdict.sentence(evaluation, promotion).startswith("No difference")


def cosines(recipe: Recipe, models, drawings: Sequence[Drawing]) -> list[float]:
    import torch

    from shoes.model.load import load_pipeline

    pipeline = load_pipeline(
        models.base.path, device="cpu", dtype=torch.float32, scheduler=recipe.eval.scheduler, adapter_dir=None
    )
    images: list[Image.Image] = list(
        draw(
            pipeline,
            drawings,
            num_inference_steps=8,
            guidance_scale=recipe.eval.guidance_scale,
            resolution=recipe.train.resolution,
            batch_size=16,
        )
    )
    clip = load_clip(models.clip.path, "cpu")
    pictures = clip.embed_images(images, batch_size=16)
    captions = clip.embed_captions([drawing.prompt for drawing in drawings], batch_size=16)
    return [float(image @ caption) for image, caption in zip(pictures, captions, strict=True)]


def test_the_base_against_itself_with_other_seeds_is_no_improvement(own_world: Path) -> None:
    from shoes.dataset import load_split

    recipe = recipes.load("demo", {"eval.num_images": "30"})
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    drawings = plan_drawings(load_split(data.path / "test", decode=False), recipe.eval)
    others = [dataclasses.replace(drawing, seed=drawing.seed + 500_000) for drawing in drawings]
    differences = points(cosines(recipe, models, others)) - points(cosines(recipe, models, drawings))
    assert abs(differences).max() > 1, "the pictures differ"
    interval = cluster_interval(
        differences, [drawing.prompt for drawing in drawings], level=0.95, num_resamples=2000, seed=1
    )
    assert interval.low < 0 < interval.high


@pytest.mark.slow
def test_the_demo_learns(own_world: Path) -> None:
    recipe = recipes.load("demo")
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    training = stages.train(recipe, models, data)
    evaluation = stages.evaluate(recipe, models, data, training)
    assert training.loss_difference.high < 0
    assert evaluation.comparisons[0].is_better
    assert stages.promote(recipe, models, data, training, evaluation).promoted

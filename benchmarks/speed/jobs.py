"""A training of a size to be measured: its model, its photos, and what the product decides for it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from shoes import dataset, recipes, stages
from shoes.dataset import Product
from shoes.settings import PROJECT_ROOT, load_settings
from shoes.spec import DataSpec, Recipe
from shoes.training.run import Decisions, Job, make_job, plan_decisions

from .full_size import full_size_model

NUM_PHOTOS = 12
PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


@dataclass(frozen=True)
class Size:
    """What a step is measured on."""

    model: Literal["full", "demo"]
    resolution: int
    precision: Literal["fp32", "bf16", "fp16"]
    batch: int
    """Images in one optimizer step."""
    micro_batch: int
    """Images in one forward and backward pass of ours."""
    device: str = "cpu"


def open_job(work: Path, size: Size, catalogue: Path | None = None) -> tuple[Job, Decisions]:
    """A job in the folder `work`, whose model and photos are made at the first call and kept."""
    os.environ["SHOES_DATA_DIR"] = str(work)
    recipe = _recipe(work, size)
    if size.model == "full" and not Path(recipe.data.dataset_dir).is_dir():
        _make_photos(Path(recipe.data.dataset_dir), catalogue, size.resolution)
    settings = load_settings()
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    job = make_job(recipe, models.base, data, runs=settings.runs, cache=settings.cache)
    return job, replace(plan_decisions(job), micro_batch=size.micro_batch)


def _recipe(work: Path, size: Size) -> Recipe:
    values = {
        "train.mixed_precision": PRECISIONS[size.precision],
        "train.device": size.device,
        "train.train_batch_size": str(size.micro_batch),
        "train.gradient_accumulation_steps": str(size.batch // size.micro_batch),
        "train.gradient_checkpointing": "off",
    }
    return (
        recipes.load("demo", values) if size.model == "demo" else recipes.load("overnight", values | _full(work, size))
    )


def _full(work: Path, size: Size) -> dict[str, str]:
    return {
        "model.pretrained_model_name_or_path": str(full_size_model(work / "full-size-model")),
        "model.revision": "none",
        "model.variant": "none",
        "data.dataset_dir": str(work / f"photos-{size.resolution}"),
        "data.max_images": str(NUM_PHOTOS),
        "train.resolution": str(size.resolution),
        "eval.clip_model_name_or_path": "data/demo/clip",
        "eval.clip_revision": "none",
        "eval.second_clip_model_name_or_path": "none",
        "eval.dino_model_name_or_path": "none",
    }


def _make_photos(target: Path, catalogue: Path | None, resolution: int) -> None:
    """Real photos of the catalogue, or the demo's enlarged: the time of a step is the same."""
    spec = DataSpec(max_images=NUM_PHOTOS)
    if catalogue is not None:
        dataset.import_data_set(catalogue, target, spec, resolution=resolution)
        return
    records = dataset.load_split(PROJECT_ROOT / "data/demo/casual_shoes/train")[:NUM_PHOTOS]
    products = [Product(id=r.image.stem, attributes=r.attributes, load=_loader(r.image)) for r in records]
    dataset.write_data_set(target, products, spec, resolution=resolution, source={"kind": "benchmark"})


def _loader(path: Path) -> Callable[[], Any]:
    from PIL import Image

    return lambda: Image.open(path).convert("RGB")

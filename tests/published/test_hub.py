"""Models with a published layout from a Hub: the pinned commit is the published model's alone; a night at full size."""

import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from shoes import dataset, recipes
from shoes.dataset import Product
from shoes.errors import ModelError
from shoes.model.files import fetch
from shoes.model.known import KNOWN_HASHES
from shoes.model.wanted import diffusion_files
from shoes.settings import PROJECT_ROOT, load_settings
from shoes.spec import DataSpec, ModelSpec, Recipe
from tests.hub.server import HubServer
from tests.published.models import FULL, NARROW, Size

SD15 = ModelSpec()
JUDGES = {
    "clip": "openai/clip-vit-base-patch32",
    "second_clip": "openai/clip-vit-large-patch14",
    "dino": "facebook/dinov2-base",
}
TONIGHT = {
    "data.dataset_dir": "data/photos",
    "train.train_batch_size": "1",
    "train.gradient_accumulation_steps": "1",
    "train.mixed_precision": "bf16",
    "train.max_train_steps": "3",
    "train.lr_warmup_steps": "1",
    "train.save_steps": "3",
    "train.validation_steps": "3",
    "train.validation_images": "2",
    "train.validation_prompts": "a red canvas shoe",
    "eval.choice_images": "2",
    "eval.num_images": "4",
    "eval.images_per_caption": "1",
    "eval.num_inference_steps": "2",
    "eval.num_resamples": "200",
    "window.starts": "none",
    "window.ends": "none",
}
"""A night of the recipe for Stable Diffusion 1.5 with as few steps and pictures as it can have."""


def test_the_pinned_commit_is_refused_with_other_files(hub: HubServer, published: Callable[..., Path]) -> None:
    folder = published("stable-diffusion-v1-5", variant="fp16")
    assert SD15.revision in KNOWN_HASHES
    hub.add(SD15.pretrained_model_name_or_path, folder, commit=SD15.revision)
    wanted = diffusion_files(SD15.pretrained_model_name_or_path, SD15.revision, SD15.variant)
    with pytest.raises(ModelError, match="another SHA-256 than the published file has") as caught:
        fetch(wanted, load_settings())
    assert len(caught.value.problems) == 3, "UNet, VAE and text encoder"
    assert hub.downloads(".safetensors") == []
    own = hub.add(SD15.pretrained_model_name_or_path, folder)
    report = fetch(diffusion_files(SD15.pretrained_model_name_or_path, own, SD15.variant), load_settings())
    assert (report.commit, len(hub.downloads(".safetensors"))) == (own, 3)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize(("size", "resolution"), [(NARROW, 64), (FULL, 512)], ids=["narrow", "full size"])
def test_a_night_on_models_from_the_hub(
    size: Size,
    resolution: int,
    prefect: None,
    hub: HubServer,
    published: Callable[..., Path],
    own_world: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from flows.overnight import overnight

    make_photos(own_world / "data/photos", resolution)
    recipe = served(hub, published, size, resolution)
    started = time.monotonic()
    night = overnight(recipe)
    minutes = (time.monotonic() - started) / 60
    assert (night.train.step, night.train.precision) == (3, "bf16")
    assert [judge.note for judge in night.evaluation.judges] == ["", "", ""], "each is the one that was asked for"
    assert {run.state for run in night.timeline} == {"Completed"}
    assert hub.downloads("fp16.safetensors"), "the base came from the Hub"
    with capsys.disabled():
        print(f"\n{told(night.timeline, minutes)}")


def make_photos(folder: Path, resolution: int) -> None:
    records = dataset.load_split(PROJECT_ROOT / "data/demo/casual_shoes/train")[:28]
    products = [
        Product(
            id=record.image.stem,
            attributes=record.attributes,
            load=lambda path=record.image: Image.open(path).convert("RGB").resize((resolution, resolution)),
        )
        for record in records
    ]
    spec = DataSpec(val_fraction=0.2, test_fraction=0.2)
    dataset.write_data_set(folder, products, spec, resolution=resolution, source={"kind": "test"})


def served(hub: HubServer, published: Callable[..., Path], size: Size, resolution: int) -> Recipe:
    """The recipe of every night, with the commits of what this Hub serves."""
    base = published("stable-diffusion-v1-5", size=size, variant="fp16")
    fields = TONIGHT | {
        "train.resolution": str(resolution),
        "model.revision": hub.add(SD15.pretrained_model_name_or_path, base),
    }
    for role, name in JUDGES.items():
        fields[f"eval.{role}_revision"] = hub.add(name, published(name, size=size))
    return recipes.load("overnight", fields)


def told(timeline: tuple, minutes: float) -> str:
    """Minutes of the stages, and the most memory that this process and one that it started have had."""
    own, started = (
        resource.getrusage(who).ru_maxrss / 1024**2 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    lines = [f"{run.name:<20}{run.seconds / 60:8.1f} min" for run in timeline]
    memory = f"memory: {own:.1f} GB here, {started:.1f} GB in a process of its own"
    return "\n".join([*lines, f"{'the whole night':<20}{minutes:8.1f} min", memory])

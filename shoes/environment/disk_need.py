"""What a recipe writes: each part in bytes, computed from the recipe and the model's geometry.

Upper estimates: photos and drawings are counted as PNG files of half their raw size, where product photos on a
plain background take a quarter.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shoes.evaluation.sample_size import MAX_IMAGES_PER_CAPTION
from shoes.language import mark
from shoes.model import configs
from shoes.model.contents import UNET, read_part
from shoes.spec import Recipe

PNG_SHARE = 0.5
FLOAT_BYTES = 4
ADAPTER_FORMATS = 3
"""diffusers', PEFT's and kohya's."""
SAMPLES_PER_VALIDATION = 4
DATABASES_BYTES = 200 * 1024**2
"""MLflow's and Prefect's databases, journals and logs of a long night, generously."""
SD15_BYTES = {"fp16": 2_134_000_000, None: 4_266_000_000}
"""The 13 files of Stable Diffusion 1.5 by variant."""
JUDGE_BYTES = {"clip": 610_000_000, "second_clip": 1_714_000_000, "dino": 347_000_000}
"""openai/clip-vit-base-patch32, openai/clip-vit-large-patch14 and facebook/dinov2-base: weights, tokenizer, configs."""
UNKNOWN_PHOTOS = 3000
"""Photos of a data set that is not made yet: a little more than the catalogue has casual shoes."""


@dataclass(frozen=True)
class Geometry:
    """What decides the size of caches and adapters."""

    latent_channels: int
    downscale: int
    """Pixels per latent, along one side."""
    text_tokens: int
    text_width: int
    adapter_parameters: int
    """Trainable parameters of an adapter of rank 1."""


@dataclass(frozen=True)
class Photos:
    """How many photos the stages see, and what is known of them."""

    train: int
    val: int
    test: int
    captions: int
    """Different ones, summed over the splits."""
    are_here: bool
    """The data set is made already."""

    @property
    def total(self) -> int:
        """All photos."""
        return self.train + self.val + self.test


@dataclass(frozen=True)
class Part:
    """One thing that is written."""

    name: str
    """English; marked for translation."""
    num_bytes: int


def sd15_geometry(targets: Sequence[str]) -> Geometry:
    """Stable Diffusion 1.5, for a model that is not here yet. All its layers together have five times the parameters
    of its attention, which is what other targets are taken for.
    """
    attention = {"to_q", "to_k", "to_v", "to_out.0"}
    parameters = 199_296 * (1 if set(targets) <= attention else 5)
    return Geometry(4, 8, 77, 768, parameters)


def geometry_of(folder: Path, targets: Sequence[str]) -> Geometry:
    """Geometry of a model in diffusers' format, from its configs and the header of its UNet's weights."""
    sizes = configs.geometry(folder)
    shapes = {name: tensor.shape for name, tensor in read_part(folder, UNET).items()}
    return Geometry(
        latent_channels=sizes.latent_channels,
        downscale=sizes.downscale,
        text_tokens=sizes.text_tokens,
        text_width=sizes.text_width,
        adapter_parameters=rank_one_parameters(shapes, targets),
    )


def rank_one_parameters(shapes: Mapping[str, Sequence[int]], targets: Sequence[str]) -> int:
    """Parameters of a LoRA of rank 1: inputs (with the kernel) + outputs of every layer that a target names."""
    ends = tuple(f".{target}.weight" for target in targets)
    return sum(math.prod(shape[1:]) + shape[0] for name, shape in shapes.items() if f".{name}".endswith(ends))


def disk_need(
    recipe: Recipe, geometry: Geometry, photos: Photos, download_bytes: int, converted_bytes: int = 0
) -> tuple[Part, ...]:
    """Every part of what a night writes that is not here yet."""
    spec, picture = recipe.train, int(recipe.train.resolution**2 * 3 * PNG_SHARE)
    latent = 2 * geometry.latent_channels * (spec.resolution // geometry.downscale) ** 2 * FLOAT_BYTES
    caption = geometry.text_tokens * geometry.text_width * FLOAT_BYTES
    adapter = geometry.adapter_parameters * spec.rank * FLOAT_BYTES
    validations = spec.max_train_steps // spec.validation_steps + 2
    # one more than the limit: a new checkpoint is whole before the oldest goes; weights and two moments each
    checkpoints = (spec.checkpoints_total_limit + 1) * 3 * adapter
    # every candidate, the chosen one, its copy in MLflow, and the registered model's
    exports = (spec.max_train_steps // spec.save_steps + 4) * ADAPTER_FORMATS * adapter
    samples = validations * SAMPLES_PER_VALIDATION * 2 * picture  # in the run's folder and in MLflow
    seen = photos.train * (2 if spec.random_flip else 1)  # mirrored photos are encoded, too
    parts = (
        Part(mark("model download"), download_bytes),
        Part(mark("converted model"), converted_bytes),
        Part(mark("data set"), 0 if photos.are_here else photos.total * picture),
        Part(mark("latent cache"), (seen + photos.val + photos.test) * latent + photos.captions * caption),
        Part(mark("checkpoints"), checkpoints),
        Part(mark("candidates"), exports),
        Part(mark("drawn pictures"), _num_drawings(recipe, photos) * picture + samples),
        Part(mark("databases and logs"), DATABASES_BYTES),
    )
    return tuple(part for part in parts if part.num_bytes)


def _num_drawings(recipe: Recipe, photos: Photos) -> int:
    """Base, adapter and champion draw the same captions, and each candidate some of the validation split."""
    spec = recipe.eval
    if spec.half_width is not None:  # how many that takes depends on the captions; never more than this
        drawn = photos.test * MAX_IMAGES_PER_CAPTION
    else:
        drawn = min(spec.num_images or photos.test, photos.test) * spec.images_per_caption
    return 3 * drawn + recipe.train.candidates_total_limit * min(spec.choice_images, photos.val)


def expected_photos(recipe: Recipe) -> Photos:
    """Photos of a data set that is not made yet."""
    total = recipe.data.max_images or UNKNOWN_PHOTOS
    val, test = (round(total * share) for share in (recipe.data.val_fraction, recipe.data.test_fraction))
    # captions of a template repeat: the real catalogue has 111 different ones for 600 photos
    return Photos(total - val - test, val, test, captions=total // 4, are_here=False)

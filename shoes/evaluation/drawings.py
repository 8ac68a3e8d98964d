"""What is drawn: which captions of the test split, how often, and with which seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from shoes.spec import EvalSpec, SchedulerName, Spec

_SEED_STRIDE = 1_000_000
"""More than there are photos in a split, so that no two drawings share a seed."""


class Record(Protocol):
    """A photo of the test split."""

    @property
    def image(self) -> Path:
        """Its file."""

    @property
    def caption(self) -> str:
        """What it shows."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Colour, season and so on."""


@dataclass(frozen=True)
class Drawing:
    """One image to draw."""

    prompt: str
    seed: int
    record: int
    """Index of the photo that it is compared with, in the test split."""


class DrawingSettings(Spec):
    """All that decides a picture beside model, adapter, prompt and seed."""

    scheduler: SchedulerName
    num_inference_steps: int
    guidance_scale: float
    negative_prompt: str
    resolution: int
    device_type: str
    dtype: str
    vae_tiling: bool = Field(default=False, exclude_if=lambda tiling: not tiling)
    """Tiles change what is drawn. The other memory-saving options change rounding only, as another batch size does,
    and are left out: pictures that were drawn without them stay good. Left out itself when it is off, so that sets
    which were drawn before it could be switched on keep their names."""


def choose_records(records: Sequence[Record], limit: int | None) -> list[int]:
    """Indices of the photos whose captions are drawn, ascending; no limit means all.

    A limited choice is even over the photos sorted by caption (systematic sampling): each colour keeps its
    share.
    """
    if limit is None or limit >= len(records):
        return list(range(len(records)))
    by_caption = sorted(range(len(records)), key=lambda i: (records[i].caption, records[i].image.name))
    return sorted(by_caption[(2 * k + 1) * len(records) // (2 * limit)] for k in range(limit))


def sized(spec: EvalSpec, captions: Sequence[str]) -> EvalSpec:
    """The evaluation with the number of images that its `half_width` asks for, if it asks.

    Args:
        captions: of all test photos; repeats matter.
    """
    if spec.half_width is None:
        return spec
    from shoes.evaluation.sample_size import plan, plan_one_caption

    if len(set(captions)) < 2:
        size = plan_one_caption(len(captions), spec.half_width, level=spec.confidence_level)
    else:
        size = plan(captions, spec.half_width, level=spec.confidence_level)
    return spec.model_copy(update={"num_images": size.num_images, "images_per_caption": size.images_per_caption})


def plan_drawings(records: Sequence[Record], spec: EvalSpec) -> tuple[Drawing, ...]:
    """`images_per_caption` drawings for each chosen photo, photo by photo; as many as `sized` says."""
    spec = sized(spec, [record.caption for record in records])
    return tuple(
        Drawing(records[i].caption, drawing_seed(spec.seed, i, j), i)
        for i in choose_records(records, spec.num_images)
        for j in range(spec.images_per_caption)
    )


def drawing_seed(first: int, record: int, repeat: int) -> int:
    """Seed of a photo's drawing number `repeat`: no two are equal, and the first one's is `first`."""
    assert record < _SEED_STRIDE, "seeds would repeat"
    return first + record + _SEED_STRIDE * repeat

"""How many images to draw so that a difference between two models is known to the wanted precision.

CLIP points, differences paired by caption and seed. The variance of a caption's mean over k images is
`BETWEEN` + `WITHIN` / k. Both are fitted to three planning half-widths at 95 %, ±1.0 for 32 captions with 1 image,
±0.34 for 128 with 4 and ±0.22 for 427 with 2: (h / 1.96)² · captions against 1 / k is a line, which the two values
meet within the rounding of these half-widths (0.999, 0.340, 0.219). They were measured with ViT-B/32 on photos of one
catalogue: another model of CLIP, or another catalogue, has its own, and can be given.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shoes.evaluation.drawings import choose_records
from shoes.evaluation.statistics import variance_moments

BETWEEN = 2.36
"""Variance of the true difference from caption to caption, points²."""
WITHIN = 5.97
"""Variance of the difference from image to image of one caption, points²."""
MAX_IMAGES_PER_CAPTION = 16


@dataclass(frozen=True)
class SampleSize:
    """What to draw, in the terms of EvalSpec, and how precise it is."""

    num_images: int
    """Test photos whose captions are drawn."""
    images_per_caption: int
    """Images drawn for each of these photos."""
    half_width: float
    """Expected half of the interval's width, CLIP points."""


def plan(
    captions: Sequence[str], half_width: float, *, level: float = 0.95, between: float = BETWEEN, within: float = WITHIN
) -> SampleSize:
    """The fewest images that reach a half-width; where none do, the most precise plan, and its wider half-width.

    Among plans of equally many images, the most precise. Which photos a plan takes is what `choose_records` takes.
    An improvement of δ points is found with a power of 80 % at a half-width of 0.7 δ, 1.96 / (1.96 + 0.84); 0.65 δ
    leaves some room for the few captions.

    Args:
        captions: of the test photos, repeats included.
        half_width: wanted half of the interval's width, CLIP points.
        level: confidence level of the interval.
        between: variance from caption to caption, points².
        within: variance from image to image of a caption, points².

    Raises:
        ValueError: a half-width or variance that cannot be, or fewer than two different captions.
    """
    _check(captions, half_width, level, between, within)
    best: SampleSize | None = None
    closest: SampleSize | None = None
    for num, chosen in _choices(captions):

        def drawn(repeat: int, num: int = num, chosen: Sequence[str] = chosen) -> SampleSize:
            width = half_width_of(chosen, repeat, level=level, between=between, within=within)
            return SampleSize(num, repeat, width)

        most = min(MAX_IMAGES_PER_CAPTION, _cost(best)[0] // num) if best else MAX_IMAGES_PER_CAPTION
        if most < 1:
            break
        finest = drawn(most)  # More images for a photo make no interval wider, so this one tells for all of them.
        closest = min(filter(None, (closest, finest)), key=lambda size: size.half_width)
        if finest.half_width <= half_width:
            fewest = next(size for size in map(drawn, range(1, most + 1)) if size.half_width <= half_width)
            best = min(filter(None, (best, fewest)), key=_cost)
    found = best or closest
    assert found is not None, "two different captions always give a plan"
    return found


def plan_one_caption(num_photos: int, half_width: float, *, level: float = 0.95, within: float = WITHIN) -> SampleSize:
    """`plan` where all captions are equal: as many images of it as it takes, or as may be, the same for each photo.

    Then every image is a unit of its own (`units.choose_units`), and the half-width t(1 − α / 2, n − 1) √(within / n).

    Raises:
        ValueError: a half-width, level or variance that cannot be, or no photo.
    """
    from scipy.stats import t

    _check(("one", "other"), half_width, level, 0.0, within)
    if num_photos < 1:
        raise ValueError("at least one photo is needed")

    def drawn(repeat: int) -> SampleSize:
        num = max(2, num_photos * repeat)
        width = float(t.ppf((1 + level) / 2, num - 1) * np.sqrt(within / num))
        return SampleSize(num_photos, repeat, width)

    sizes = [drawn(repeat) for repeat in range(1, MAX_IMAGES_PER_CAPTION + 1)]
    return next((size for size in sizes if size.half_width <= half_width), sizes[-1])


def half_width_of(
    captions: Sequence[str],
    images_per_caption: int,
    *,
    level: float = 0.95,
    between: float = BETWEEN,
    within: float = WITHIN,
) -> float:
    """Expected half-width of `cluster_interval` with these captions, CLIP points.

    t(1 − α / 2, ν) · √(Σ w² (between + within / count)), with w a caption's share of the images, and ν the degrees
    of freedom that captions of unequal frequency leave (`variance_moments`).

    Args:
        captions: of the photos that are drawn; repeats are one caption with more images.
        images_per_caption: images for each photo.
        level: confidence level.
        between: variance from caption to caption, points².
        within: variance from image to image of a caption, points².

    Raises:
        ValueError: fewer than two different captions, no image, or variances that cannot be.
    """
    _check(captions, 1.0, level, between, within)
    if images_per_caption < 1:
        raise ValueError(f"at least one image per caption is needed, got {images_per_caption}")
    from scipy.stats import t

    counts = np.array(list(Counter(captions).values()), dtype=np.float64) * images_per_caption
    weights = counts / counts.sum()
    variance = float((weights**2 * (between + within / counts)).sum())
    _, freedom = variance_moments(counts, between / (between + within))
    return float(t.ppf((1 + level) / 2, freedom) * np.sqrt(variance))


def _cost(size: SampleSize) -> tuple[int, float]:
    return size.num_images * size.images_per_caption, size.half_width


@dataclass(frozen=True)
class _Photo:
    """A photo of which only the caption matters."""

    caption: str
    image: Path
    attributes: Mapping[str, Any] = field(default_factory=dict)


def _choices(captions: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Every number of photos, with the captions of those that would be drawn; two different ones at least."""
    photos = [_Photo(caption, Path(f"{i:09}")) for i, caption in enumerate(sorted(captions))]
    for num in range(2, len(photos) + 1):
        chosen = [photos[i].caption for i in choose_records(photos, num)]
        if len(set(chosen)) >= 2:
            yield num, chosen


def _check(captions: Sequence[str], half_width: float, level: float, between: float, within: float) -> None:
    problems = []
    if len(set(captions)) < 2:
        problems.append("an interval needs at least two different captions")
    if not half_width > 0:
        problems.append(f"a half-width is above 0 CLIP points, got {half_width}")
    if not 0 < level < 1:
        problems.append(f"a level is between 0 and 1, got {level}")
    if not (between >= 0 and within >= 0 and between + within > 0):
        problems.append(f"variances are 0 or more, and not both 0; got {between} and {within}")
    if problems:
        raise ValueError("; ".join(problems))

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

from shoes.evaluation.drawings import choose_records, sized
from shoes.evaluation.sample_size import (
    BETWEEN,
    MAX_IMAGES_PER_CAPTION,
    WITHIN,
    SampleSize,
    half_width_of,
    plan,
    plan_one_caption,
)
from shoes.evaluation.statistics import variance_moments
from shoes.spec import EvalSpec

CATALOGUE = [13, 9, 7, 6, 5, 4, 4, 3, *[2] * 6, *[1] * 27]
"""Repeats of the 41 captions of the catalogue's 90 test photos."""


def different(num: int) -> list[str]:
    return [f"caption {i:04}" for i in range(num)]


def repeated(sizes: list[int] = CATALOGUE) -> list[str]:
    return [f"caption {i:02}" for i, size in enumerate(sizes) for _ in range(size)]


def test_the_variances_are_those_of_the_planning_half_widths() -> None:
    """Least squares of (h / 1.96)² n against 1 / k, each point relative to its own value."""
    n, k, half_widths = np.array([32, 128, 427]), np.array([1, 4, 2]), np.array([1.0, 0.34, 0.22])
    variances = (half_widths / 1.96) ** 2 * n
    design = np.column_stack([np.ones(3), 1 / k]) / variances[:, None]
    (between, within), *_ = np.linalg.lstsq(design, np.ones(3), rcond=None)
    assert pytest.approx((between, within), abs=0.03) == (BETWEEN, WITHIN)
    np.testing.assert_allclose(1.96 * np.sqrt((BETWEEN + WITHIN / k) / n), half_widths, atol=0.0051)


def test_a_half_width_by_hand() -> None:
    """Ten captions of two photos, three images each: t with 9 degrees of freedom, √((b + w / 6) / 10)."""
    captions = different(10) * 2
    expected = t.ppf(0.975, 9) * np.sqrt((BETWEEN + WITHIN / 6) / 10)
    assert half_width_of(captions, 3) == pytest.approx(expected)
    expected = t.ppf(0.9, 9) * np.sqrt((1 + 2 / 2) / 10)
    assert half_width_of(captions, 1, level=0.8, between=1, within=2) == pytest.approx(expected)


def test_captions_of_unequal_frequency_by_hand() -> None:
    """Four photos of one caption and one of each of two others, two images each."""
    counts = np.array([8, 2, 2])
    _, freedom = variance_moments(counts, BETWEEN / (BETWEEN + WITHIN))
    variance = BETWEEN * (64 + 4 + 4) / 144 + WITHIN / 12
    assert half_width_of([*"aaaabc"], 2) == pytest.approx(t.ppf(0.975, freedom) * np.sqrt(variance))


def test_a_few_frequent_captions_cost_precision() -> None:
    assert half_width_of(repeated(), 2) > 1.5 * half_width_of(different(90), 2)


@pytest.mark.parametrize(("half_width", "num", "repeat"), [(1.05, 32, 1), (0.344, 280, 1), (0.22, 427, 2)])
def test_plans_for_different_captions(half_width: float, num: int, repeat: int) -> None:
    found = plan(different(427), half_width)
    assert found.half_width <= half_width
    assert (found.num_images, found.images_per_caption) == pytest.approx((num, repeat), abs=7 if num == 280 else 0)


@pytest.mark.parametrize("half_width", [2.0, 1.2, 0.97, 0.93])
def test_no_cheaper_plan_is_precise_enough(half_width: float) -> None:
    """Every plan tried, with the photos that the evaluation itself would choose."""
    captions = repeated()
    photos = [Photo(caption, Path(f"{i:03}.png")) for i, caption in enumerate(captions)]
    found = plan(captions, half_width)
    cost = found.num_images * found.images_per_caption
    assert found.half_width <= half_width
    for num in range(2, 91):
        chosen = [captions[i] for i in choose_records(photos, num)]
        for repeat in range(1, MAX_IMAGES_PER_CAPTION + 1):
            width = half_width_of(chosen, repeat)
            assert width > half_width or num * repeat >= cost
            if (num, repeat) == (found.num_images, found.images_per_caption):
                assert width == found.half_width
            elif width <= half_width and num * repeat == cost:
                assert width >= found.half_width


class Photo:
    attributes: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, caption: str, image: Path) -> None:
        self.caption, self.image = caption, image


def test_where_the_captions_are_too_few_the_best_is_said() -> None:
    found = plan(repeated(), 0.3)
    assert found.half_width > 0.3
    assert found.images_per_caption == MAX_IMAGES_PER_CAPTION
    assert found.half_width <= min(half_width_of(repeated(), k) for k in range(1, 17))


def test_the_order_of_the_captions_is_free() -> None:
    captions = repeated()
    assert plan(captions[::-1], 1.1) == plan(captions, 1.1)


def test_a_choice_that_shows_one_caption_only_is_passed_over() -> None:
    captions = repeated([20, 1])
    found = plan(captions, 50.0)
    assert len(set(Counter(captions))) == 2
    assert isinstance(found, SampleSize)
    assert np.isfinite(found.half_width)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"captions": ["a", "a"]}, "two different captions"),
        ({"half_width": 0}, "half-width is above 0"),
        ({"level": 1.0}, "between 0 and 1"),
        ({"between": -1.0}, "variances are 0 or more"),
        ({"captions": [], "half_width": float("nan")}, "two different captions; a half-width is above 0"),
    ],
)
def test_what_cannot_be_planned_says_why(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**{"captions": different(9), "half_width": 1.0, **change})


def test_no_image_has_no_width() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        half_width_of(different(9), 0)


@pytest.mark.parametrize(("photos", "half_width", "repeat"), [(20, 3.0, 1), (2, 3.0, 3), (2, 0.01, 16), (1, 9.0, 3)])
def test_a_data_set_of_one_caption_takes_more_pictures_of_it(photos: int, half_width: float, repeat: int) -> None:
    found = plan_one_caption(photos, half_width)
    num = photos * repeat
    assert (found.num_images, found.images_per_caption) == (photos, repeat)
    assert found.half_width == pytest.approx(t.ppf(0.975, num - 1) * np.sqrt(WITHIN / num))
    assert found.half_width <= half_width or repeat == MAX_IMAGES_PER_CAPTION
    spec = sized(EvalSpec(half_width=half_width), ["one"] * photos)
    assert (spec.num_images, spec.images_per_caption) == (photos, repeat)

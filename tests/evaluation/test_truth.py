"""Short forms of benchmarks/evaluation_truth.py. Seeds are fixed: limits leave room for the number of trials."""

import pytest

from benchmarks import evaluation_truth as truth
from shoes.evaluation.sample_size import WITHIN, plan


@pytest.mark.parametrize(
    ("design", "shape", "trials"),
    [
        ("128 captions x 4", "skewed downward", 150),
        ("catalogue's 90 photos x 2", "normal", 400),
        ("catalogue's 90 photos x 2", "skewed downward", 400),
    ],
)
def test_intervals_hold_the_truth(design: str, shape: str, trials: int) -> None:
    sizes, repeat = truth.DESIGNS[design]
    found = truth.interval_figures(sizes, repeat, shape=shape, trials=trials, num_resamples=1000)
    assert 0.93 <= found["covered"] <= 0.98
    assert found["half_width"] == pytest.approx(found["planned"], rel=0.1)


def test_other_seeds_alone_are_no_improvement() -> None:
    sizes, repeat = truth.DESIGNS["catalogue's 90 photos x 2"]
    found = truth.interval_figures(sizes, repeat, between=0, within=2 * WITHIN, trials=200, num_resamples=1000)
    assert found["above_0"] <= 0.05
    assert 0.92 <= found["covered"] <= 0.985


def test_cmmd_of_one_distribution_is_zero() -> None:
    found = truth.null_figures(32, trials=200)
    assert abs(found["unbiased"]) < 2 * found["its_error"]
    assert found["biased"] > 20 * found["biased_error"]


def test_captions_of_the_photos_make_cmmd_and_its_error_right() -> None:
    null = truth.error_figures(truth.WORLDS["same captions, truth 0"], trials=60)
    assert abs(null["mean"]) < 2.5 * null["error_of_mean"]
    assert null["photos_given_mean"] < -10 * null["photos_given_error_of_mean"]
    for name in ("same captions far apart, shifted", "other captions far apart, shifted"):
        found = truth.error_figures(truth.WORLDS[name], trials=100)
        assert 0.85 < found["ratio"] < 1.3
        assert 0.85 < found["difference_ratio"] < 1.3


@pytest.mark.parametrize("scene", truth.SCENES)
def test_the_alarm_fires_for_copies_and_for_nothing_else(scene: str) -> None:
    assert truth.alarm_figures(truth.SCENES[scene], 20, planted=0.05)["fires"] == 1
    assert truth.alarm_figures(truth.SCENES[scene], 100)["fires"] <= 0.02


def test_pictures_of_one_caption_would_raise_it_if_they_counted_as_strangers() -> None:
    found = truth.alarm_figures(truth.strangers(25, 16), 100)
    assert found["fires"] <= 0.02 < found["fires_without_captions"]


def test_re_encoded_photos_of_the_demo_fire_it(clip_path) -> None:
    silent, planted = truth.demo_figures(20).values()
    assert silent["fires"] == 0
    assert planted["fires"] == 1


def test_an_improvement_of_a_point_is_found_with_the_planned_sample() -> None:
    size = plan(truth.caption_names([1] * 427), 0.65)
    sizes = truth.chosen_sizes([1] * 427, size)
    found = truth.interval_figures(sizes, size.images_per_caption, truth=1.0, trials=200, num_resamples=1000)
    assert found["above_0"] >= 0.8
    assert found["half_width"] == pytest.approx(size.half_width, rel=0.05)

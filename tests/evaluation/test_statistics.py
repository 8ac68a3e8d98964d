import numpy as np
import pytest
from scipy.stats import sem
from scipy.stats import t as student

from benchmarks import evaluation_truth as truth
from shoes.evaluation.statistics import (
    clip_score,
    cluster_interval,
    expanded_level,
    intraclass_correlation,
    points,
    variance_moments,
)


def interval(values, clusters, *, level=0.95, num_resamples=500, seed=7):
    return cluster_interval(values, clusters, level=level, num_resamples=num_resamples, seed=seed)


def clustered(rng, num_clusters: int = 60) -> tuple[np.ndarray, list[str]]:
    """Values around 0 with half of their variance between captions, and captions of unequal sizes."""
    sizes = rng.integers(1, 6, num_clusters)
    clusters = np.repeat(np.arange(num_clusters), sizes)
    values = rng.normal(size=num_clusters)[clusters] + rng.normal(size=len(clusters))
    return values, [f"caption {c}" for c in clusters]


def test_clip_score_clamps_each_image() -> None:
    assert clip_score([0.30, -0.10]) == pytest.approx(15.0)
    np.testing.assert_allclose(points([0.30, -0.10]), [30.0, -10.0])


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """400 data sets whose truth is 0; how many contain it is binomial, and ± 3.3 % is three sigma."""
    rng = np.random.default_rng(1)
    hits, naive = 0, 0
    for trial in range(400):
        values, clusters = clustered(rng)
        found = interval(values, clusters, num_resamples=400, seed=trial)
        hits += found.low <= 0 <= found.high
        half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
        naive += abs(values.mean()) <= half
    assert 0.915 <= hits / 400 <= 0.985
    assert naive / 400 < 0.90, "the data must be such that ignoring the clusters is visibly wrong"


def test_a_few_frequent_captions_do_not_make_it_much_too_narrow() -> None:
    """Caption sizes 40, 20, 13, 10, … as in a catalogue; without the expanded level 85 % are covered."""
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(40), np.maximum(1, 40 // np.arange(1, 41)))
    names = [f"caption {c}" for c in clusters]
    hits = 0
    for trial in range(400):
        found = interval(rng.normal(size=40)[clusters] + rng.normal(size=len(clusters)), names, seed=trial)
        hits += found.low <= 0 <= found.high
    assert 0.88 <= hits / 400 <= 0.98


def test_the_level_asked_for_rises_with_fewer_clusters() -> None:
    """By hand: √(10 / 9) × t(0.025, 9) = −2.3845, and Φ(−2.3845) = 0.00855."""
    assert expanded_level(0.95, np.full(10, 3)) == pytest.approx(0.98290, abs=1e-4)
    assert expanded_level(0.95, np.full(10_000, 3)) == pytest.approx(0.95, abs=1e-4)
    assert expanded_level(0.95, [30, *[1] * 9]) > expanded_level(0.95, np.full(10, 3))


def test_what_residuals_know_of_the_variance() -> None:
    """Against 200,000 draws of normal sums of clusters of unequal sizes."""
    counts, correlation = np.array([13.0, 7, 4, 2, 2, 1, 1, 1]), 0.3
    rng = np.random.default_rng(9)
    deviations = np.sqrt(correlation * counts**2 + (1 - correlation) * counts)
    sums = deviations * rng.normal(size=(200_000, len(counts)))
    squares = ((sums - sums.sum(axis=1, keepdims=True) * counts / counts.sum()) ** 2).sum(axis=1)
    seen, freedom = variance_moments(counts, correlation)
    assert seen == pytest.approx(squares.mean() / sums.sum(axis=1).var(), rel=0.02)
    assert freedom == pytest.approx(2 * squares.mean() ** 2 / squares.var(), rel=0.02)


def test_equal_clusters_lose_one_degree_of_freedom() -> None:
    assert variance_moments(np.full(10, 3), 0.3) == pytest.approx((0.9, 9))


def test_the_correlation_of_two_values_of_a_caption() -> None:
    rng = np.random.default_rng(8)
    sizes = rng.integers(1, 6, 3000)
    clusters = np.repeat(np.arange(3000), sizes)
    noise = rng.normal(size=len(clusters))
    for share in (0.0, 0.3, 1.0):
        values = np.sqrt(share) * rng.normal(size=3000)[clusters] + np.sqrt(1 - share) * noise
        found = intraclass_correlation(values, np.bincount(clusters, weights=values), sizes.astype(float))
        assert found == pytest.approx(share, abs=0.03)
    assert intraclass_correlation(np.ones(4), np.array([3.0, 1.0]), np.array([3.0, 1.0])) == 0


@pytest.mark.parametrize("num", [0, 1, 2])
@pytest.mark.parametrize("repeat", [1, 5])
def test_fewer_than_three_captions_have_no_interval(num: int, repeat: int) -> None:
    values = np.random.default_rng(0).normal(size=num * repeat)
    assert interval(values, [f"caption {n}" for n in range(num)] * repeat) is None


@pytest.mark.parametrize("num", [3, 4, 5])
def test_three_to_five_captions_have_students(num: int) -> None:
    """Of means of three values each: the textbook's interval."""
    values = np.random.default_rng(num).normal(1, 1, size=(num, 3))
    found = interval(values.ravel(), [f"caption {n}" for n in range(num) for _ in range(3)], level=0.9)
    expected = student.interval(0.9, num - 1, loc=values.mean(), scale=sem(values.mean(1)))
    assert (found.low, found.high) == pytest.approx(expected)
    assert f"over only {num} captions" in str(found)


@pytest.mark.parametrize("sizes", [(1, 1, 40), (9, 3, 1), (2, 2, 1, 1, 1)])
@pytest.mark.parametrize("kind", ["spread", "one apart", "zero"])
def test_few_captions_of_unequal_frequency_have_finite_ends(sizes: tuple[int, ...], kind: str) -> None:
    clusters = [f"caption {n}" for n, size in enumerate(sizes) for _ in range(size)]
    random = np.random.default_rng(1).normal(size=len(clusters))
    values = {"spread": random, "one apart": np.eye(len(clusters))[0], "zero": np.zeros(len(clusters))}[kind]
    found = interval(values, clusters)
    assert np.isfinite([found.low, found.high]).all()
    assert found.low <= found.mean <= found.high
    assert (found.low < found.high) == (kind != "zero")


@pytest.mark.parametrize(("num", "least"), [(3, 0.9), (5, 0.9), (6, 0.9), (8, 0.91)])
def test_few_captions_cover_the_truth_about_as_often_as_they_say(num: int, least: float) -> None:
    """A bootstrap of 3, 4 and 5 would cover 76, 87 and 91 %."""
    found = truth.interval_figures([1] * num, 2, trials=300, num_resamples=400)
    assert least <= found["covered"] <= 0.99
    assert found["above_0"] <= 0.05


def test_the_interval_weighs_images_as_the_mean_does() -> None:
    """Twenty captions of nine images near 0, twenty of one near 10: mean 1 over images, 5 over captions."""
    noise = np.random.default_rng(6).normal(scale=0.1, size=200)
    clusters = [f"large {n // 9}" for n in range(180)] + [f"small {n}" for n in range(20)]
    found = interval(noise + np.repeat([0.0, 10.0], [180, 20]), clusters)
    assert 0 < found.low < found.mean < found.high < 3


def test_the_mean_weighs_images_not_captions() -> None:
    found = interval([1.0, 1.0, 1.0, 5.0, 3.0], ["a", "a", "a", "b", "c"])
    assert found.mean == pytest.approx(11 / 5)
    assert (found.num_clusters, found.num_values) == (3, 5)
    assert found.low < found.mean < found.high


def test_the_same_seed_gives_the_same_interval_in_any_order() -> None:
    values, clusters = clustered(np.random.default_rng(3))
    order = np.random.default_rng(4).permutation(len(values))
    first = interval(values, clusters)
    assert first == interval(values, clusters)
    shuffled = interval(values[order], [clusters[i] for i in order])
    assert (shuffled.low, shuffled.high) == pytest.approx((first.low, first.high))
    assert first != interval(values, clusters, seed=8)


def test_a_higher_level_is_wider() -> None:
    values, clusters = clustered(np.random.default_rng(5))
    narrow, wide = interval(values, clusters, level=0.8), interval(values, clusters, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("value", [0.0, 0.1, -12.3])
def test_values_that_all_agree_are_their_own_interval(value: float) -> None:
    """BCa gives NaN there, with a warning; in unequal clusters 0.1 sums to unequal means by rounding."""
    clusters = ["a", "b", "b", "b", "c", "c", "c", "c", "c", "c"]
    found = interval([value] * len(clusters), clusters)
    assert found.mean == found.low == found.high == pytest.approx(value)


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([1.0, float("nan")], ["a", "b"], "1 of 2 values are not finite"),
        ([1.0], ["a", "b"], "one cluster per value"),
    ],
)
def test_what_has_no_interval_says_why(values, clusters, message) -> None:
    with pytest.raises(ValueError, match=message):
        interval(values, clusters)

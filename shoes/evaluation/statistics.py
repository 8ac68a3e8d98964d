"""Means with honest intervals: images of one caption are not independent, so captions are resampled.

CLIP differences are in CLIP points, 100 × cosine.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shoes.reports import Interval

Floats = NDArray[np.float64]
_BATCH = 500  # resamples in memory at once


def clip_score(cosines: ArrayLike) -> float:
    """Mean of 100 × max(cos(image, text), 0) (Hessel et al. 2021, CLIPScore, with weight 100)."""
    return float(np.mean(100 * np.maximum(np.asarray(cosines, dtype=np.float64), 0)))


def points(cosines: ArrayLike) -> Floats:
    """Cosines as CLIP points, 100 × cosine, unclamped: the unit of all intervals."""
    return 100 * np.asarray(cosines, dtype=np.float64)


def cluster_interval(
    values: ArrayLike, clusters: Sequence[str], *, level: float, num_resamples: int, seed: int
) -> Interval:
    """Mean over values with its BCa bootstrap interval, resampling whole clusters (Efron 1987).

    The bootstrap is too narrow for few clusters, and for clusters of unequal sizes: on the catalogue's own
    captions its 95 % covered 87 to 91 %. It is therefore asked for a higher level, see `expanded_level`.

    A cluster enters as (sum, count), and the statistic is the ratio of their totals: the mean over values,
    whatever the sizes of the clusters. The same seed gives the same interval. When all clusters agree,
    nothing can be resampled and the interval is the mean itself: between two arms, "no difference".

    Args:
        values: [values], finite.
        clusters: [values], the cluster that each value belongs to.
        level: confidence level, for example 0.95.
        num_resamples: bootstrap resamples of the clusters.
        seed: of the resampling.

    Raises:
        ValueError: values are not finite, or there are fewer than two clusters.
    """
    numbers = np.asarray(values, dtype=np.float64)
    _check(numbers, clusters)
    sums, counts = _totals(numbers, clusters)
    mean = float(sums.sum() / counts.sum())
    low, high = mean, mean
    if not _all_agree(sums / counts):
        asked = min(expanded_level(level, counts), 1 - 2 / num_resamples)
        low, high = _bca(sums, counts, level=asked, num_resamples=num_resamples, seed=seed)
    return Interval(mean=mean, low=low, high=high, level=level, num_clusters=len(sums), num_values=len(numbers))


def expanded_level(level: float, counts: ArrayLike) -> float:
    """Level to ask of a bootstrap of few clusters, so that it covers about `level`.

    Φ(√(n / (n − 1)) · t(α / 2, n − 1)) in place of α / 2 (Hesterberg 2015, "What teachers should know about the
    bootstrap", expanded percentile interval), where n is the effective number of clusters of unequal sizes,
    (Σ count)² / Σ count² (Kish 1965).
    """
    from scipy.stats import norm, t

    sizes = np.asarray(counts, dtype=np.float64)
    effective = max(2.0, float(sizes.sum() ** 2 / (sizes**2).sum()))
    quantile = np.sqrt(effective / (effective - 1)) * t.ppf((1 - level) / 2, effective - 1)
    return float(1 - 2 * norm.cdf(quantile))


def _check(values: Floats, clusters: Sequence[str]) -> None:
    if values.ndim != 1 or len(values) != len(clusters):
        raise ValueError(f"one cluster per value, got {values.shape} values and {len(clusters)} clusters")
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} of {len(values)} values are not finite")
    if len(set(clusters)) < 2:
        raise ValueError("an interval needs at least two different captions")


def _totals(values: Floats, clusters: Sequence[str]) -> tuple[Floats, Floats]:
    """Sum and count of each cluster, in sorted order of the clusters, so that the order of values is free."""
    _, index = np.unique(np.asarray(clusters, dtype=object), return_inverse=True)
    sums, counts = np.bincount(index, weights=values), np.bincount(index)
    return sums.astype(np.float64), counts.astype(np.float64)


def _all_agree(means: Floats) -> bool:
    """All cluster means are equal, up to rounding; BCa is 0 / 0 there."""
    return bool(np.ptp(means) <= 1e-9 * max(1.0, float(np.abs(means).max())))


def _ratio(sums: Floats, counts: Floats, axis: int = -1) -> Any:
    return sums.sum(axis=axis) / counts.sum(axis=axis)


def _bca(sums: Floats, counts: Floats, *, level: float, num_resamples: int, seed: int) -> tuple[float, float]:
    from scipy.stats import bootstrap

    result = bootstrap(
        (sums, counts),
        _ratio,
        paired=True,
        vectorized=True,
        n_resamples=num_resamples,
        batch=_BATCH,
        confidence_level=level,
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)

"""Means with honest intervals: images of one caption are not independent, so captions are resampled.

CLIP differences are in CLIP points, 100 × cosine.

How few can still tell something? A bootstrap never reaches beyond the smallest and the largest caption's mean. Of
normal differences its 95 % interval held the truth in 52 % of trials with 2 captions, 76 % with 3, 87 % with 4, 91 %
with 5 and 94 % with 6 (`python benchmarks/evaluation_truth.py`). So it is used from `FEW_UNITS` on; from
`LEAST_UNITS` on Student's t takes its place, which is as wide as so few captions ask for; and two captions have no
interval.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shoes.reports import FEW_UNITS, Interval, Unit

Floats = NDArray[np.float64]
LEAST_UNITS = 3
"""With fewer there is no interval."""
_BATCH = 500  # resamples in memory at once


def clip_score(cosines: ArrayLike) -> float:
    """Mean of 100 × max(cos(image, text), 0) (Hessel et al. 2021, CLIPScore, with weight 100)."""
    return float(np.mean(100 * np.maximum(np.asarray(cosines, dtype=np.float64), 0)))


def points(cosines: ArrayLike) -> Floats:
    """Cosines as CLIP points, 100 × cosine, unclamped: the unit of all intervals."""
    return 100 * np.asarray(cosines, dtype=np.float64)


def cluster_interval(
    values: ArrayLike,
    clusters: Sequence[str],
    *,
    level: float,
    num_resamples: int,
    seed: int,
    unit: Unit = "caption",
) -> Interval | None:
    """Mean over values with its BCa bootstrap interval, resampling whole clusters (Efron 1987).

    The bootstrap is too narrow for few clusters, and for clusters of unequal sizes: on the catalogue's own
    captions its 95 % covered 87 to 91 %. It is therefore asked for a higher level, see `expanded_level`; then it
    covers 94 to 97 % there, skewed differences included (`python benchmarks/evaluation_truth.py`). Fewer than
    `FEW_UNITS` clusters have Student's t in its place, see `student_interval`, and fewer than `LEAST_UNITS` none.

    A cluster enters as (sum, count), and the statistic is the ratio of their totals: the mean over values,
    whatever the sizes of the clusters. The same seed gives the same interval. When all clusters agree,
    nothing can be resampled and the interval is the mean itself: between two arms, "no difference".

    Args:
        values: [values], finite.
        clusters: [values], the cluster that each value belongs to.
        level: confidence level, for example 0.95.
        num_resamples: bootstrap resamples of the clusters.
        seed: of the resampling.
        unit: what a cluster is.

    Returns:
        None where there are too few clusters to say anything.

    Raises:
        ValueError: values are not finite.
    """
    numbers = np.asarray(values, dtype=np.float64)
    _check(numbers, clusters)
    if len(set(clusters)) < LEAST_UNITS:
        return None
    sums, counts = _totals(numbers, clusters)
    mean = float(sums.sum() / counts.sum())
    low, high = mean, mean
    if not _all_agree(sums / counts):
        correlation = intraclass_correlation(numbers, sums, counts)
        if len(sums) < FEW_UNITS:
            low, high = student_interval(sums, counts, correlation, level)
        else:
            asked = min(expanded_level(level, counts, correlation), 1 - 2 / num_resamples)
            low, high = _bca(sums, counts, level=asked, num_resamples=num_resamples, seed=seed)
    return Interval(
        mean=mean, low=low, high=high, level=level, num_clusters=len(sums), num_values=len(numbers), unit=unit
    )


def student_interval(sums: Floats, counts: Floats, correlation: float, level: float) -> tuple[float, float]:
    """Ends of Student's t interval of the mean over all values of a few clusters.

    Mean ± t(1 − α / 2, ν) √(Σ r² / b) / Σ count, with the residuals r of the clusters' sums, and b and ν of
    `variance_moments` (Bell and McCaffrey 2002): the usual interval where the clusters have equal sizes.

    Args:
        sums: [clusters], total of the values of each.
        counts: [clusters], number of the values of each; at least two clusters.
        correlation: of two values of one cluster, from 0 to 1.
        level: confidence level.
    """
    from scipy.stats import t

    mean = sums.sum() / counts.sum()
    seen, freedom = variance_moments(counts, correlation)
    error = np.sqrt(((sums - mean * counts) ** 2).sum() / seen) / counts.sum()
    half = t.isf((1 - level) / 2, freedom) * error
    return float(mean - half), float(mean + half)


def expanded_level(level: float, counts: ArrayLike, correlation: float = 1.0) -> float:
    """Level to ask of a bootstrap of few clusters, so that it covers about `level`.

    Φ(t(α / 2, ν) / √b) in place of α / 2, with the b and ν of `variance_moments`. For clusters of equal sizes b is
    (n − 1) / n and ν is n − 1: the expanded percentile interval of Hesterberg 2015, "What teachers should know about
    the bootstrap".

    Args:
        level: confidence level that is wanted.
        counts: [clusters], values in each.
        correlation: of two values of one cluster, from 0 to 1.
    """
    from scipy.stats import norm, t

    kept, freedom = variance_moments(counts, correlation)
    return float(1 - 2 * norm.cdf(t.ppf((1 - level) / 2, freedom) / np.sqrt(kept)))


def variance_moments(counts: ArrayLike, correlation: float) -> tuple[float, float]:
    """What the residuals of clusters of unequal sizes know of the variance of the mean over all values.

    With S = Σ s, the residual r = s − S · count / Σ count of a cluster's sum s, and the variance of s proportional
    to ρ count² + (1 − ρ) count: b = E Σ r² / var S, the share of the variance that is seen, and the degrees of
    freedom ν = 2 (E Σ r²)² / var Σ r² for normal sums (Bell and McCaffrey 2002, "Bias reduction in standard
    errors for linear regression with multi-stage samples").

    Args:
        counts: [clusters], values in each; at least two clusters.
        correlation: ρ, of two values of one cluster.

    Returns:
        b, between 0 and 1, and ν.
    """
    sizes = np.asarray(counts, dtype=np.float64)
    weights = sizes / sizes.sum()
    variances = correlation * sizes**2 + (1 - correlation) * sizes
    total, concentration, across = variances.sum(), (weights**2).sum(), (weights * variances).sum()
    seen = total - 2 * across + concentration * total
    # Σ of the squared covariances δ(i, j) vᵢ − wᵢ vⱼ − wⱼ vᵢ + wᵢ wⱼ V of the residuals, without the n × n table.
    diagonal = (variances**2 - 4 * weights * variances**2 + 2 * total * weights**2 * variances).sum()
    table = 2 * concentration * (variances**2).sum() + (total * concentration) ** 2 + 2 * across**2
    squares = diagonal + table - 4 * total * concentration * across
    return float(seen / total), float(seen**2 / squares)


def intraclass_correlation(values: Floats, sums: Floats, counts: Floats, chance: float | None = None) -> float:
    """Correlation of two values of one cluster, by the analysis of variance, from 0 to 1 (Donner 1986).

    It is 0 where nothing can be known of it: all values are equal, or no cluster has two. With a `chance` it is the
    bound that the estimate's F leaves below the true one but for this chance: 0 unless the clusters surely differ.

    Args:
        values: [values].
        sums: [clusters], total of the values of each.
        counts: [clusters], number of the values of each, at least 1; at least two clusters.
        chance: that the bound is above the true correlation; without it, the estimate itself.
    """
    from scipy.stats import f

    num_values, num_clusters = counts.sum(), len(counts)
    mean = sums.sum() / num_values
    scatter = float(((values - mean) ** 2).sum())
    if scatter == 0 or num_values == num_clusters:
        return 0.0
    between = (counts * (sums / counts - mean) ** 2).sum()
    free_between, free_within = num_clusters - 1, num_values - num_clusters
    least_ratio = 1.0 if chance is None else f.isf(chance, free_between, free_within)
    within = max(0.0, scatter - between) / free_within
    usual_count = (num_values - (counts**2).sum() / num_values) / free_between
    common = max(0.0, between / free_between / least_ratio - within) / usual_count
    return float(common / (common + within))


def _check(values: Floats, clusters: Sequence[str]) -> None:
    if values.ndim != 1 or len(values) != len(clusters):
        raise ValueError(f"one cluster per value, got {values.shape} values and {len(clusters)} clusters")
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} of {len(values)} values are not finite")


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

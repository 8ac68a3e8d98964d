"""CMMD: how far the drawn pictures as a whole are from real photos, with its standard error.

The measure of Jayasumana et al. 2024 ("Rethinking FID", CMMD) on unit CLIP vectors: the squared maximum mean
discrepancy under k(x, y) = exp(−‖x − y‖² / 200), times 1000. Theirs is the biased form, which is above 0 for small
samples of one and the same distribution; this is the unbiased one (Gretton et al. 2012, lemma 6), which can be
below 0. It is close to a test of the mean alone and blind to lost diversity: read it beside coverage and Vendi.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shoes.evaluation.statistics import Floats
from shoes.evaluation.vectors import check_same_width, unit_vectors
from shoes.reports import FEW_UNITS

_SCALE = 1000.0
_TWICE_BANDWIDTH_SQUARED = 200.0
_ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error."""

    value: float
    standard_error: float


def cmmd(
    drawn: Floats, real: Floats, clusters: Sequence[str], *, real_clusters: Sequence[str] | None = None
) -> Estimate:
    """Unbiased CMMD of drawn pictures to real photos.

    Without `real_clusters` this is the unbiased form over all pairs i ≠ j. It is so for samples that have nothing to
    do with each other, not for pictures that were drawn for the captions of these very photos: a picture is nearer
    to the photo of its own caption than to another, and the value is too low, below 0 where the truth is 0. With
    `real_clusters` all pairs of one caption are left out, in and between the samples, and it is 0 there.

    The standard error is a jackknife that leaves out one caption at a time: images of one caption are not
    independent, and a bootstrap would put images beside their own copies and so push the value up. With
    `real_clusters` a caption's photos go with its pictures, as the spread over other captions and photos needs: the
    error was 1.1 times that spread in simulation, and 1.5 times where the truth is 0 and the leading term of the
    statistic vanishes. Without, the photos count as given, and the error was 0.8 times the spread with photos of
    other captions, and up to 2.3 times with those of the same (`python benchmarks/evaluation_truth.py`).

    A few captions have no standard error worth its name: whoever shows it asks `are_enough` before.

    Args:
        drawn: [images, dimensions], unit vectors.
        real: [photos, dimensions], unit vectors.
        clusters: [images], each picture's caption.
        real_clusters: [photos], each photo's caption.

    Raises:
        ValueError: no unit vectors, shapes that do not fit, or fewer than two captions.
    """
    given, photos = unit_vectors(drawn, "drawn"), unit_vectors(real, "real")
    captions = _Captions(clusters, real_clusters, (len(given), len(photos)))
    value, without = _with_deletions(given, photos, captions)
    return _jackknife(value, without)


def are_enough(clusters: Sequence[str], real_clusters: Sequence[str]) -> bool:
    """Whether pictures and photos have so many different captions that a distance and its error mean something.

    With fewer than `FEW_UNITS` the error comes from so few deletions that twice it is no bound of anything.
    """
    return min(len(set(clusters)), len(set(real_clusters))) >= FEW_UNITS


def cmmd_difference(
    first: Floats,
    second: Floats,
    real: Floats,
    clusters: Sequence[str],
    *,
    real_clusters: Sequence[str] | None = None,
) -> Estimate:
    """CMMD of `first` minus CMMD of `second`, both to the same photos; below 0 `first` is closer to them.

    The two are paired: `first[i]` and `second[i]` were drawn for the same caption with the same seed, and the
    jackknife leaves a caption out of both (and its photos too, where `real_clusters` names them).

    Args:
        first: [images, dimensions], unit vectors.
        second: [images, dimensions], unit vectors.
        real: [photos, dimensions], unit vectors.
        clusters: [images], the caption of each pair.
        real_clusters: [photos], each photo's caption.

    Raises:
        ValueError: no unit vectors, shapes that do not fit, or fewer than two captions.
    """
    ours, theirs = unit_vectors(first, "first"), unit_vectors(second, "second")
    if ours.shape != theirs.shape:
        raise ValueError(f"pairs are needed, got {ours.shape} and {theirs.shape}")
    photos = unit_vectors(real, "real")
    captions = _Captions(clusters, real_clusters, (len(ours), len(photos)))
    (value_a, without_a), (value_b, without_b) = (_with_deletions(x, photos, captions) for x in (ours, theirs))
    return _jackknife(value_a - value_b, without_a - without_b)


class _Captions:
    """The captions of both samples as numbers; the photos' may be unknown."""

    def __init__(self, clusters: Sequence[str], real_clusters: Sequence[str] | None, sizes: tuple[int, int]) -> None:
        for name, given, size in zip(("clusters", "real_clusters"), (clusters, real_clusters), sizes, strict=True):
            if given is not None and len(given) != size:
                raise ValueError(f"{name}: one caption per row is needed, got {len(given)} for {size} rows")
        if len(set(clusters)) < 2:
            raise ValueError("a standard error needs at least two different captions")
        numbers = {name: i for i, name in enumerate(sorted({*clusters, *(real_clusters or ())}))}
        self.num = len(numbers)
        self.drawn = np.array([numbers[name] for name in clusters], dtype=np.intp)
        self.real: NDArray[np.intp] | None = None
        if real_clusters is not None:
            self.real = np.array([numbers[name] for name in real_clusters], dtype=np.intp)

    def sum(self, groups: NDArray[np.intp], values: Floats | None = None) -> Floats:
        """Σ of values, or their number, by caption."""
        return np.bincount(groups, weights=values, minlength=self.num).astype(np.float64)

    def rows(self, groups: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        """Which rows each caption has."""
        order = np.argsort(groups, kind="stable")
        return np.split(order, np.cumsum(self.sum(groups)).astype(np.intp)[:-1])


def _with_deletions(drawn: Floats, real: Floats, captions: _Captions) -> tuple[float, Floats]:
    """CMMD × 1000 of all, and without each caption; every pair's kernel is computed once or twice."""
    check_same_width(drawn, real)
    within_drawn = _mean_within(drawn, captions.drawn, captions)
    within_real = _mean_within(real, captions.real, captions)
    values = _SCALE * (within_drawn + within_real - 2 * _mean_across(drawn, real, captions))
    return float(values[0]), values[1:]


def _mean_within(vectors: Floats, groups: NDArray[np.intp] | None, captions: _Captions) -> Floats:
    """Mean of k − 1 over pairs of different rows (of different captions): first of all, then without each caption."""
    rows, n = _kernel_sums(vectors, vectors)[0], float(len(vectors))
    if groups is None:
        return np.full(captions.num + 1, _mean(rows.sum(), np.array(n * (n - 1))))
    sizes = captions.sum(groups)
    blocks = np.array([_kernel_sums(vectors[i], vectors[i])[0].sum() for i in captions.rows(groups)])
    sums = _all_and_without(rows.sum(), 2 * captions.sum(groups, rows) - blocks)
    left = _all_and_without(n, sizes)
    if captions.real is None:
        return _mean(sums, left * (left - 1))
    pairs = left**2 - _all_and_without((sizes**2).sum(), sizes**2)
    return _mean(sums - _all_and_without(blocks.sum(), blocks), pairs)


def _mean_across(drawn: Floats, real: Floats, captions: _Captions) -> Floats:
    """Mean of k − 1 between the samples (of different captions): first of all, then without each caption."""
    rows, columns = _kernel_sums(drawn, real)
    sizes = captions.sum(captions.drawn)
    left = _all_and_without(float(len(drawn)), sizes)
    if captions.real is None:
        return _mean(_all_and_without(rows.sum(), captions.sum(captions.drawn, rows)), left * len(real))
    real_sizes = captions.sum(captions.real)
    members = zip(captions.rows(captions.drawn), captions.rows(captions.real), strict=True)
    blocks = np.array([_kernel_sums(drawn[i], real[j])[0].sum() for i, j in members])
    crosses = captions.sum(captions.drawn, rows) + captions.sum(captions.real, columns) - blocks
    sums = _all_and_without(rows.sum(), crosses) - _all_and_without(blocks.sum(), blocks)
    same = _all_and_without((sizes * real_sizes).sum(), sizes * real_sizes)
    return _mean(sums, left * _all_and_without(float(len(real)), real_sizes) - same)


def _all_and_without(total: float, parts: Floats) -> Floats:
    return np.concatenate([[total], total - parts])


def _mean(sums: Floats, pairs: Floats) -> Floats:
    if pairs.min() < 1:
        raise ValueError("too few images or captions: none are left to compare when one caption is left out")
    return np.asarray(sums / pairs)


def _kernel_sums(rows: Floats, columns: Floats) -> tuple[Floats, Floats]:
    """Σ of k − 1 along each row and along each column, a block of rows at a time.

    All kernels are near 1, where rounding would cost digits, and the ones cancel in the MMD; a vector with itself
    adds nothing, so that sums over all pairs are sums over i ≠ j.
    """
    of_rows, of_columns = np.empty(len(rows)), np.zeros(len(columns))
    lengths = (columns**2).sum(axis=1)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[start : start + _ROWS_AT_ONCE]
        squares = (block**2).sum(axis=1)[:, None] + lengths - 2 * block @ columns.T
        kernels = np.expm1(-np.maximum(squares, 0) / _TWICE_BANDWIDTH_SQUARED)
        of_rows[start : start + len(block)] = kernels.sum(axis=1)
        of_columns += kernels.sum(axis=0)
    return of_rows, of_columns


def _jackknife(value: float, without: Floats) -> Estimate:
    """Standard error from the values without each of G captions: √((G − 1) / G · Σ (value − mean)²) (Tukey 1958)."""
    num = len(without)
    spread = float(((without - without.mean()) ** 2).sum())
    return Estimate(value, float(np.sqrt((num - 1) / num * spread)))

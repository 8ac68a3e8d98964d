"""Fidelity and diversity of drawn pictures among real photos, by nearest neighbours, and how many kinds there are.

All of these depend on the number of images. Only samples of equal size may be compared (`equal_samples`), and always
beside the row of real photos against other real photos.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from shoes.evaluation.statistics import Floats
from shoes.evaluation.vectors import check_same_width, unit_vectors


@dataclass(frozen=True)
class Manifold:
    """Shares between the samples' neighbourhoods; density can be above 1."""

    precision: float
    """Share of the drawn inside any real neighbourhood (Kynkäänniemi et al. 2019)."""
    recall: float
    """Share of the real inside any drawn neighbourhood."""
    density: float
    """Real neighbourhoods that a drawn picture lies in, over k (Naeem et al. 2020): 1 is what real ones have."""
    coverage: float
    """Share of the real neighbourhoods with a drawn picture in them."""


def manifold(real: ArrayLike, drawn: ArrayLike, k: int = 5) -> Manifold:
    """Precision, recall, density and coverage; a neighbourhood reaches to the k-th nearest of the own sample.

    Args:
        real: [photos, dimensions], unit vectors; a table of distances of all pairs is held in memory.
        drawn: [images, dimensions], unit vectors.
        k: neighbours.

    Raises:
        ValueError: no unit vectors, widths that differ, or not more than k of either.
    """
    photos, pictures = unit_vectors(real, "real"), unit_vectors(drawn, "drawn")
    check_same_width(photos, pictures)
    if k < 1 or min(len(photos), len(pictures)) <= k:
        raise ValueError(f"{k} neighbours need more than {k} images, got {len(photos)} real, {len(pictures)} drawn")
    between = _distances(photos, pictures)
    in_real = between < _reach(photos, k)[:, None]
    in_drawn = between < _reach(pictures, k)[None, :]
    return Manifold(
        precision=float(in_real.any(axis=0).mean()),
        recall=float(in_drawn.any(axis=1).mean()),
        density=float(in_real.sum(axis=0).mean() / k),
        coverage=float(in_real.any(axis=1).mean()),
    )


def density_coverage(real: ArrayLike, drawn: ArrayLike, k: int = 5) -> tuple[float, float]:
    """Density and coverage alone, see `manifold`."""
    found = manifold(real, drawn, k)
    return found.density, found.coverage


def vendi(features: ArrayLike) -> float:
    """Vendi score under the cosine: the effective number of different images, from 1 to their number.

    exp of the entropy of the eigenvalues of K / n, with K the cosines of all pairs (Friedman and Dieng 2023).

    Args:
        features: [images, dimensions], unit vectors.

    Raises:
        ValueError: no unit vectors.
    """
    units = unit_vectors(features, "features")
    n, width = units.shape
    # The n × n table and the smaller one of the dimensions have the same eigenvalues beside zeros.
    table = units @ units.T if n <= width else units.T @ units
    shares = np.linalg.eigvalsh(table / n)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def equal_samples(sizes: Sequence[int], seed: int) -> list[list[int]]:
    """Indices into samples of these sizes, as many of each as the smallest has, ascending, none twice.

    Samples of one size get the same indices, so that paired arms stay paired.

    Raises:
        ValueError: there is no sample, or an empty one.
    """
    if not sizes or min(sizes) < 1:
        raise ValueError(f"samples of at least one image are needed, got {list(sizes)}")
    num = min(sizes)
    return [sorted(np.random.default_rng(seed).choice(size, num, replace=False).tolist()) for size in sizes]


def _distances(rows: Floats, columns: Floats) -> Floats:
    squares = (rows**2).sum(axis=1)[:, None] + (columns**2).sum(axis=1) - 2 * rows @ columns.T
    distances: Floats = np.sqrt(np.maximum(squares, 0))
    return distances


def _reach(vectors: Floats, k: int) -> Floats:
    """Distance of each vector to its k-th nearest other one."""
    distances = _distances(vectors, vectors)
    np.fill_diagonal(distances, np.inf)
    reach: Floats = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return reach

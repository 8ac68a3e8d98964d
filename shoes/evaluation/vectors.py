"""Samples of unit vectors, checked before long work: one row an image."""

import numpy as np
from numpy.typing import ArrayLike

from shoes.evaluation.statistics import Floats

_TOLERANCE = 1e-3
"""How far a length may be from 1: more than rounding in fp16 does, far less than features as models give them."""


def unit_vectors(values: ArrayLike, name: str) -> Floats:
    """The same values in double precision, [images, dimensions].

    Raises:
        ValueError: they are no table, not finite, or not of length one.
    """
    vectors = np.asarray(values, dtype=np.float64)
    if vectors.ndim != 2 or not vectors.size:
        raise ValueError(f"{name}: [images, dimensions] is needed, got the shape {vectors.shape}")
    if bad := int((~np.isfinite(vectors)).any(axis=1).sum()):
        raise ValueError(f"{name}: {bad} of {len(vectors)} vectors are not finite")
    if bad := int((np.abs(np.linalg.norm(vectors, axis=1) - 1) > _TOLERANCE).sum()):
        raise ValueError(f"{name}: {bad} of {len(vectors)} vectors are not of length one; normalise them first")
    return vectors


def check_same_width(first: Floats, second: Floats) -> None:
    """Raise ValueError unless both samples have the same number of dimensions."""
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"samples of {first.shape[1]} and of {second.shape[1]} dimensions cannot be compared")

"""Near-duplicate photos. Imports NumPy, SciPy and imagehash: import it where photos are compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

MAX_DISTANCE = 0.10
"""Thumbnails of one photo, recompressed, rescaled or brightened, differ by less than this share of it.

Measured on the catalogue's 600 casual shoes: JPEG quality 40 at most 0.05, half the size 0.02, 3 % darker
0.03, a 2 % crop 0.08 in the middle; the nearest two different shoes 0.11.
"""


PLAIN = 4.0
"""Grey levels of 255 by which a photo of one colour differs from it: what JPEG makes of it."""


@dataclass(frozen=True)
class Look:
    """What a photo looks like, small enough to compare thousands."""

    phash: int
    """64-bit perceptual hash."""
    thumbnail: NDArray[np.float32]
    """16 × 16 × 3, minus the background: what is left is the product."""

    @property
    def is_plain(self) -> bool:
        """There is nothing on it but one colour."""
        return bool(np.abs(self.thumbnail).max() < PLAIN)


def look(square: Image.Image) -> Look:
    """Measure the look of a square photo."""
    bits = imagehash.phash(square).hash.ravel()
    thumbnail = np.asarray(square.resize((16, 16), Image.Resampling.BOX), dtype=np.float32)
    rim = np.concatenate([thumbnail[0], thumbnail[-1], thumbnail[:, 0], thumbnail[:, -1]])
    return Look(phash=int.from_bytes(np.packbits(bits).tobytes(), "big"), thumbnail=thumbnail - np.median(rim, axis=0))


def near_duplicates(looks: Sequence[Look], max_bits: int) -> list[int]:
    """Give each photo the number of its group; photos that look alike, also over others, share one.

    Two photos look alike when their hashes differ in `max_bits` or fewer and their thumbnails by
    `MAX_DISTANCE` or less. The hash alone is not enough: shoes stand on white in one pose, and at 4 bits it
    chained 243 different ones of 600 into one group.
    """
    if not looks:
        return []
    hashes = np.array([item.phash for item in looks], dtype=np.uint64)
    thumbnails = np.array([item.thumbnail.ravel() for item in looks], dtype=np.float32)
    weights = np.abs(thumbnails).sum(axis=1)
    firsts: list[int] = []
    seconds: list[int] = []
    for first in range(len(looks) - 1):
        close = first + 1 + np.flatnonzero(np.bitwise_count(hashes[first + 1 :] ^ hashes[first]) <= max_bits)
        difference = np.abs(thumbnails[close] - thumbnails[first]).sum(axis=1)
        alike = close[difference <= MAX_DISTANCE * (weights[close] + weights[first]) / 2]
        firsts += [first] * len(alike)
        seconds += alike.tolist()
    graph = coo_array((np.ones(len(firsts)), (firsts, seconds)), shape=(len(looks), len(looks)))
    return [int(label) for label in connected_components(graph, directed=False)[1]]

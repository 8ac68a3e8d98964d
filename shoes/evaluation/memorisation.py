"""Are drawn pictures closer to the training photos than held-out photos are? An alarm for copies.

Near-duplicates of training photos have to be out of the held-out ones before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shoes.evaluation.statistics import Floats, intraclass_correlation
from shoes.evaluation.vectors import check_same_width, unit_vectors

ENOUGH_IMAGES = 400
"""With fewer drawn pictures, 5 % of copies among them can go unnoticed."""
CLOSE_SHARE = 0.05
"""How many of the closest are looked at, as a share of the drawn: as many as the copies that must be found."""
_ROWS_AT_ONCE = 512
_LEAST_CHANCE = 1e-300
"""Keeps z finite: 37."""
_CLUMP_CHANCE = 0.001
"""A clump counts as one only as far as it is no accident: scattered copies that meet in a frequent caption are many."""


def nearest(images: ArrayLike, training: ArrayLike) -> tuple[NDArray[np.intp], Floats]:
    """Index and cosine of each image's nearest training photo; the first one of equals.

    Args:
        images: [images, dimensions], unit vectors.
        training: [photos, dimensions], unit vectors.

    Raises:
        ValueError: no unit vectors, or widths that differ.
    """
    given, photos = unit_vectors(images, "images"), unit_vectors(training, "training")
    check_same_width(given, photos)
    indices, cosines = np.empty(len(given), dtype=np.intp), np.empty(len(given))
    for start in range(0, len(given), _ROWS_AT_ONCE):
        block = given[start : start + _ROWS_AT_ONCE] @ photos.T
        rows = slice(start, start + len(block))
        indices[rows] = block.argmax(axis=1)
        cosines[rows] = block.max(axis=1)
    return indices, np.clip(cosines, -1, 1)


@dataclass(frozen=True)
class Alarm:
    """Whether the drawn pictures are suspiciously close to the training photos, and by which of two tests."""

    fires: bool
    z: float
    """All of them: Mann–Whitney, positive when the drawn are closer than held-out photos."""
    p_tail: float
    """The closest of them: chance of as many drawn ones among these if drawn and held-out were alike."""
    share_close: float
    """Of the drawn pictures, those at the threshold or above."""
    share_close_expected: float
    """The same share if drawn and held-out were alike."""
    threshold: float
    """Cosine to the nearest training photo from which on an image is one of the closest."""
    num_drawn: int
    num_held_out: int
    reason: str
    """In words, for people."""


def alarm(
    drawn: ArrayLike,
    held_out: ArrayLike,
    *,
    drawn_clusters: Sequence[str] | None = None,
    held_out_clusters: Sequence[str] | None = None,
    max_z: float = 3.0,
    min_p: float = 0.001,
) -> Alarm:
    """Compare cosines to the nearest training photo, of drawn pictures and of held-out real photos.

    Two questions. Are the drawn closer as a whole (Mann–Whitney, one-sided, tie-corrected; with captions given, a
    variance over captions where that is the larger one)? And are too many of the very closest drawn: of the K
    closest of both together, with K 5 % of the drawn, the number of drawn ones is hypergeometric if both are alike.
    That test is exact, ties included; with captions given, images that are close by whole captions count as fewer.
    (A threshold estimated from held-out photos would fire 5 to 6 times in 100 for nothing.) It needs about as many
    held-out photos as drawn pictures: few held-out ones are rarely among the closest anyway, and the reason says so
    where no number of copies could fire it.

    Args:
        drawn: [images], cosines.
        held_out: [photos], cosines.
        drawn_clusters: [images], captions, where several pictures were drawn for one.
        held_out_clusters: [photos], captions; those that are equal to a drawn one's are the same cluster.
        max_z: fires above.
        min_p: fires below.

    Raises:
        ValueError: fewer than two of either, not finite, or not one caption for each.
    """
    ours, theirs = _cosines(drawn, "drawn"), _cosines(held_out, "held-out")
    clusters = _clusters((drawn_clusters, "drawn", len(ours)), (held_out_clusters, "held-out", len(theirs)))
    z = _mann_whitney(ours, theirs, clusters)
    tail = _closest(ours, theirs, clusters)
    is_shifted, is_tailed = z > max_z, tail.p < min_p
    return Alarm(
        fires=is_shifted or is_tailed,
        z=z,
        p_tail=tail.p,
        share_close=tail.num_drawn_close / len(ours),
        share_close_expected=tail.num_close / (len(ours) + len(theirs)),
        threshold=tail.threshold,
        num_drawn=len(ours),
        num_held_out=len(theirs),
        reason=_words(z, tail, is_shifted=is_shifted, is_tailed=is_tailed, min_p=min_p),
    )


def is_enough(num_drawn: int) -> bool:
    """Whether the silence of the alarm on so many drawn pictures means something."""
    return num_drawn >= ENOUGH_IMAGES


def closest_pairs(drawn_cosines: ArrayLike, indices: ArrayLike, count: int = 20) -> list[tuple[int, int]]:
    """(drawn picture, its nearest training photo) of the `count` closest, closest first, equals in their order.

    Args:
        drawn_cosines: [images], as `nearest` gives them.
        indices: [images], as `nearest` gives them.
        count: pairs wanted; fewer come where there are fewer.

    Raises:
        ValueError: not one index per cosine.
    """
    cosines, photos = np.asarray(drawn_cosines, dtype=np.float64), np.asarray(indices)
    if cosines.ndim != 1 or cosines.shape != photos.shape:
        raise ValueError(f"one index per cosine is needed, got {photos.shape} for {cosines.shape}")
    order = np.argsort(-cosines, kind="stable")[: max(0, count)]
    return [(int(i), int(photos[i])) for i in order]


@dataclass(frozen=True)
class _Tail:
    num_close: int
    num_drawn_close: int
    threshold: float
    p: float
    least_p: float
    """If all the closest were drawn ones."""


def _closest(drawn: Floats, held_out: Floats, clusters: NDArray[np.intp] | None) -> _Tail:
    from scipy.stats import hypergeom

    n, both = len(drawn), np.concatenate([drawn, held_out])
    threshold = float(np.sort(both)[-max(1, round(CLOSE_SHARE * n))])
    # With all that are equal to the last one: which belong to the closest then depends on both samples alike.
    is_close = both >= threshold
    num_close, num_drawn_close = int(is_close.sum()), int(is_close[:n].sum())
    effect = 1.0
    if clusters is not None:
        effect = max(_design_effect(is_close[part], clusters[part]) for part in (slice(n), slice(n, None)))
    # Images that come in clumps count as that much fewer; the drawn among the closest are rounded down.
    total, ours, close = (round(number / effect) for number in (len(both), n, num_close))
    p = hypergeom.sf(int(num_drawn_close * close / num_close) - 1, total, ours, close)
    least = hypergeom.sf(min(num_close, n) - 1, len(both), n, num_close)
    return _Tail(num_close, num_drawn_close, threshold, float(p), float(least))


def _design_effect(is_close: NDArray[np.bool_], clusters: NDArray[np.intp]) -> float:
    """How many images count as one because captions are close or not as a whole, 1 or more (Kish 1965)."""
    _, index, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        return 1.0
    counts, values = sizes.astype(np.float64), is_close.astype(np.float64)
    sums = np.bincount(index, weights=values).astype(np.float64)
    correlation = intraclass_correlation(values, sums, counts, chance=_CLUMP_CHANCE)
    return 1 + correlation * (float((counts**2).sum() / counts.sum()) - 1)


def _mann_whitney(drawn: Floats, held_out: Floats, clusters: NDArray[np.intp] | None) -> float:
    """z of the share of pairs in which the drawn one is closer; with captions as a normal z of the same tail.

    With captions the variance is that of the shares summed by caption (Obuchowski 1997), never below the one of
    independent images, and the tail that of t with as many degrees of freedom as there are effective captions,
    less one.
    """
    from scipy.stats import norm, rankdata, t

    n, m = len(drawn), len(held_out)
    ranks = rankdata(np.concatenate([drawn, held_out]))
    beaten = (ranks[:n] - rankdata(drawn)) / m
    beaten_by = 1 - (ranks[n:] - rankdata(held_out)) / n
    excess = float(beaten.mean()) - 0.5
    variance = _independent_variance(ranks, n, m)
    if variance == 0:
        return 0.0
    if clusters is None:
        return excess / float(np.sqrt(variance))
    parts = np.concatenate([(beaten - beaten.mean()) / n, (beaten_by - beaten_by.mean()) / m])
    weights = np.bincount(clusters, weights=np.repeat([0.5 / n, 0.5 / m], [n, m]))
    concentration = float((weights**2).sum())
    clustered = float((np.bincount(clusters, weights=parts) ** 2).sum()) / (1 - concentration)
    z = excess / float(np.sqrt(max(variance, clustered)))
    chance = max(float(t.sf(abs(z), max(1.0, 1 / concentration - 1))), _LEAST_CHANCE)
    return float(np.sign(z) * norm.isf(chance))


def _independent_variance(ranks: Floats, n: int, m: int) -> float:
    """Of the share of pairs, for independent images; equal ones make it smaller."""
    total = n + m
    _, repeats = np.unique(ranks, return_counts=True)
    ties = float((repeats.astype(np.float64) ** 3 - repeats).sum()) / (total * (total - 1))
    return max(0.0, (total + 1 - ties) / (12 * n * m))


def _words(z: float, tail: _Tail, *, is_shifted: bool, is_tailed: bool, min_p: float) -> str:
    of_them = f"{tail.num_drawn_close} of the {tail.num_close} images closest to a training photo are drawn ones"
    found = []
    if is_tailed:
        found.append(f"{of_them} (p = {tail.p:.2g}): some may be copies")
    if is_shifted:
        found.append(
            f"the drawn pictures as a whole are closer to training photos than held-out photos are (z = {z:.1f})"
        )
    if found:
        return "; ".join(found)
    silent = f"drawn pictures are no closer to training photos than held-out photos are (z = {z:.1f}); {of_them}"
    if tail.least_p >= min_p:
        return f"{silent}, but with so few held-out photos even all of them would not have raised the alarm"
    return f"{silent} (p = {tail.p:.2g})"


def _cosines(values: ArrayLike, name: str) -> Floats:
    cosines = np.asarray(values, dtype=np.float64)
    if cosines.ndim != 1 or len(cosines) < 2:
        raise ValueError(f"{name}: at least two cosines in one row are needed, got the shape {cosines.shape}")
    if bad := int((~np.isfinite(cosines)).sum()):
        raise ValueError(f"{name}: {bad} of {len(cosines)} cosines are not finite")
    return cosines


def _clusters(*samples: tuple[Sequence[str] | None, str, int]) -> NDArray[np.intp] | None:
    """Number of the cluster of each image of both samples; without captions each is a cluster of its own."""
    if all(clusters is None for clusters, _, _ in samples):
        return None
    names: list[tuple[str, str]] = []
    for clusters, name, size in samples:
        if clusters is not None and len(clusters) != size:
            raise ValueError(f"{name}: one caption per cosine is needed, got {len(clusters)} for {size}")
        names += [("", c) for c in clusters] if clusters is not None else [(name, str(i)) for i in range(size)]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    if len(numbers) < 2:
        raise ValueError("at least two different captions are needed")
    return np.array([numbers[name] for name in names], dtype=np.intp)

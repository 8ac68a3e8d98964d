"""Scores to the report's table: one row per arm, one comparison per pair."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from shoes.evaluation.pictures import same_pixels
from shoes.evaluation.scores import ImageScore
from shoes.evaluation.statistics import Floats, clip_score, cluster_interval, points
from shoes.reports import ArmScores, Comparison, Interval
from shoes.spec import EvalSpec


def summarise(arm: str, rows: Sequence[ImageScore], spec: EvalSpec) -> ArmScores:
    """One row of the table."""
    cosines = [row.cosine for row in rows]
    against_photo = [row.photo_cosine for row in rows if row.photo_cosine is not None]
    return ArmScores(
        name=arm,
        num_images=len(rows),
        clip_score=clip_score(cosines),
        clip_score_interval=_interval(points(cosines), rows, spec),
        clip_image_similarity=float(points(against_photo).mean()) if against_photo else None,
    )


def compare(
    arms: tuple[str, str],
    scores: Mapping[str, Sequence[ImageScore]],
    pictures: Mapping[str, Sequence[Path]],
    spec: EvalSpec,
) -> Comparison:
    """The first arm minus the second, paired image by image: same caption, same seed."""
    ours, theirs = scores[arms[0]], scores[arms[1]]
    assert [(a.caption, a.seed) for a in ours] == [(b.caption, b.seed) for b in theirs], "arms are not paired"
    return Comparison(
        against=arms[1],
        clip_score=_interval(_text_points(ours) - _text_points(theirs), ours, spec),
        clip_image_similarity=_interval(_photo_points(ours) - _photo_points(theirs), ours, spec),
        identical=all(map(same_pixels, pictures[arms[0]], pictures[arms[1]])),
    )


def _interval(values: Floats, rows: Sequence[ImageScore], spec: EvalSpec) -> Interval:
    return cluster_interval(
        values,
        [row.caption for row in rows],
        level=spec.confidence_level,
        num_resamples=spec.num_resamples,
        seed=spec.seed,
    )


def _text_points(rows: Sequence[ImageScore]) -> Floats:
    return points([row.cosine for row in rows])


def _photo_points(rows: Sequence[ImageScore]) -> Floats:
    values = [row.photo_cosine for row in rows]
    assert all(value is not None for value in values), "only drawn pictures are compared with photos"
    return points([value for value in values if value is not None])

"""Scores to the report's table: one row per arm, one comparison per pair, one breakdown per attribute."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shoes.evaluation import distances
from shoes.evaluation.distances import Estimate, cmmd, cmmd_difference
from shoes.evaluation.drawings import Drawing, Record
from shoes.evaluation.features import Features
from shoes.evaluation.gates import blank_pictures
from shoes.evaluation.manifold import equal_samples, manifold, vendi
from shoes.evaluation.pictures import same_pixels
from shoes.evaluation.scores import ImageScore
from shoes.evaluation.statistics import Floats, clip_score, cluster_interval, points
from shoes.evaluation.units import Item, Units, choose_units
from shoes.reports import ArmScores, Breakdown, Comparison, Distance, Interval, Role, Spread
from shoes.spec import EvalSpec

TRAIN = "train"
"""Control: the training photos against the test photos, the floor of all distances."""
ATTRIBUTES = ("colour", "season", "gender")
_NEIGHBOURS = 5
LEAST_PHOTOS = 2 * _NEIGHBOURS
"""Below this many pictures, neighbourhoods say nothing."""


@dataclass(frozen=True)
class HeldOut:
    """Held-out loss of one arm: mean over timesteps by photo."""

    losses: Floats
    captions: Sequence[str]


@dataclass(frozen=True)
class Found:
    """All that was measured, before it is summed up."""

    records: Sequence[Record]
    """The test split."""
    training_captions: Sequence[str]
    drawings: Sequence[Drawing]
    pictures: Mapping[str, Sequence[Path]]
    scores: Mapping[str, Sequence[ImageScore]]
    seen: Mapping[Role, Features]
    losses: Mapping[str, HeldOut]

    @cached_property
    def blank(self) -> dict[str, list[Path]]:
        """The pictures that show nothing, of each arm that has any."""
        return {arm: blank for arm, paths in self.pictures.items() if (blank := blank_pictures(paths))}

    @property
    def prompts(self) -> list[str]:
        """Of the drawings."""
        return [drawing.prompt for drawing in self.drawings]

    @property
    def captions(self) -> list[str]:
        """Of all test photos."""
        return [record.caption for record in self.records]

    @property
    def pictures_judge(self) -> Role:
        """Role of the judge that compares pictures without words."""
        return "dino" if "dino" in self.seen else "clip"

    def units(self, rows: Sequence[ImageScore], item: Item) -> Units:
        """What some images' scores are resampled by."""
        items = [row.image if item == "picture" else row.photo for row in rows]
        return choose_units([row.caption for row in rows], items, item, self.training_captions)

    @cached_property
    def photo_units(self) -> Units:
        """What the test photos are resampled by as pictures."""
        names = [record.image.name for record in self.records]
        return choose_units(self.captions, names, "photo", self.training_captions)

    @property
    def drawn_units(self) -> list[str]:
        """For each drawing, the unit of its test photo."""
        return [self.photo_units.names[drawing.record] for drawing in self.drawings]

    @property
    def training_units(self) -> Sequence[str]:
        """For each training photo, its unit, by the same rule as for the test photos."""
        if self.photo_units.unit == "caption":
            return self.training_captions
        return [f"training photo {number}" for number in range(len(self.training_captions))]

    @property
    def has_distances(self) -> bool:
        """There are enough test photos for a distance to mean something."""
        return distances.are_enough(self.drawn_units, self.photo_units.names)


class _Measure(NamedTuple):
    """What is read of an image's scores."""

    of: Callable[[ImageScore], float | None]
    item: Item
    """What it is resampled by where captions are not: a picture, or a photo that it is compared with."""


_CLIP_SCORE = _Measure(lambda row: row.cosine, "picture")
_SECOND_CLIP = _Measure(lambda row: row.second_cosine, "picture")
_LIKENESS = _Measure(lambda row: row.photo_cosine, "photo")
_DINO = _Measure(lambda row: row.dino_cosine, "photo")


def summarise(found: Found, spec: EvalSpec) -> tuple[ArmScores, ...]:
    """The table: each arm, the controls of the scores, and that of the distances."""
    spreads = _spreads(found, spec.seed)
    rows = [_row(arm, found, spreads.get(arm), spec) for arm in found.scores]
    return (*rows, _training_row(found, spreads[TRAIN]))


def _row(arm: str, found: Found, spread: Spread | None, spec: EvalSpec) -> ArmScores:
    rows = found.scores[arm]
    cosines = [row.cosine for row in rows]
    against_photo, second, dino = (_given(rows, measure) for measure in (_LIKENESS, _SECOND_CLIP, _DINO))
    seen, loss = found.seen["clip"], found.losses.get(arm)
    distance = None
    if arm in seen.arms and found.has_distances:
        distance = cmmd(seen.arms[arm], seen.photos, found.drawn_units, real_clusters=found.photo_units.names)
    return ArmScores(
        name=arm,
        num_images=len(rows),
        clip_score=clip_score(cosines),
        clip_score_interval=interval(points(cosines), found.units(rows, "picture"), spec),
        clip_image_similarity=_mean(against_photo),
        second_clip_score=clip_score(second) if second is not None else None,
        dino_similarity=_mean(dino),
        cmmd=_distance(distance),
        spread=spread,
        held_out_loss=float(loss.losses.mean()) if loss is not None else None,
    )


def _training_row(found: Found, spread: Spread | None) -> ArmScores:
    seen = found.seen["clip"]
    assert seen.training is not None, "CLIP looks at the training photos"
    distance = None
    if distances.are_enough(found.training_units, found.photo_units.names):
        distance = cmmd(seen.training, seen.photos, found.training_units, real_clusters=found.photo_units.names)
    return ArmScores(
        name=TRAIN,
        num_images=len(seen.training),
        clip_score=None,
        clip_score_interval=None,
        clip_image_similarity=None,
        cmmd=_distance(distance),
        spread=spread,
    )


def _spreads(found: Found, seed: int) -> dict[str, Spread | None]:
    """Of each arm and of the training photos, at an equal number of pictures: these figures depend on it."""
    seen = found.seen[found.pictures_judge]
    assert seen.training is not None, "the judge of pictures looks at the training photos"
    sets: dict[str, Floats] = {**seen.arms, TRAIN: seen.training}
    real, *chosen = equal_samples([len(seen.photos), *map(len, sets.values())], seed)
    if len(real) < LEAST_PHOTOS:
        return dict.fromkeys(sets)
    photos = seen.photos[real]
    return {name: _spread(photos, sets[name][rows]) for name, rows in zip(sets, chosen, strict=True)}


def _spread(photos: Floats, drawn: Floats) -> Spread:
    found = manifold(photos, drawn, k=_NEIGHBOURS)
    return Spread(
        num_images=len(drawn),
        precision=found.precision,
        recall=found.recall,
        density=found.density,
        coverage=found.coverage,
        vendi=vendi(drawn),
    )


def compare(arms: tuple[str, str], found: Found, spec: EvalSpec) -> Comparison:
    """The first arm minus the second, paired image by image: same caption, same seed."""
    ours, theirs = found.scores[arms[0]], found.scores[arms[1]]
    assert [(a.caption, a.seed) for a in ours] == [(b.caption, b.seed) for b in theirs], "arms are not paired"
    clip_score, likeness, second, dino = (
        _difference(ours, theirs, measure, found, spec) for measure in (_CLIP_SCORE, _LIKENESS, _SECOND_CLIP, _DINO)
    )
    identical = all(map(same_pixels, found.pictures[arms[0]], found.pictures[arms[1]]))
    return Comparison(
        against=arms[1],
        clip_score=clip_score,
        clip_image_similarity=likeness,
        identical=identical,
        second_clip_score=second,
        dino_similarity=dino,
        cmmd=_distance(_distance_difference(arms, found)),
        held_out_loss=_loss_difference(arms, found, spec),
    )


def break_down(found: Found, spec: EvalSpec) -> tuple[Breakdown, ...]:
    """The adapter against the base on the photos of each colour, season and gender, the most pictures first."""
    rows: list[Breakdown] = []
    for attribute in ATTRIBUTES:
        groups: dict[str, list[int]] = {}
        for number, drawing in enumerate(found.drawings):
            value = str(found.records[drawing.record].attributes.get(attribute) or "")
            groups.setdefault(value, []).append(number)
        named = [(value, numbers) for value, numbers in groups.items() if value]
        rows += [_part(attribute, value, numbers, found, spec) for value, numbers in sorted(named, key=_most_first)]
    return tuple(rows)


def _most_first(group: tuple[str, list[int]]) -> tuple[int, str]:
    return -len(group[1]), group[0]


def _part(attribute: str, value: str, numbers: Sequence[int], found: Found, spec: EvalSpec) -> Breakdown:
    ours, theirs = ([found.scores[arm][number] for number in numbers] for arm in ("adapter", "base"))
    return Breakdown(
        attribute=attribute,
        value=value,
        num_images=len(numbers),
        adapter=clip_score([row.cosine for row in ours]),
        base=clip_score([row.cosine for row in theirs]),
        difference=_difference(ours, theirs, _CLIP_SCORE, found, spec),
    )


def _difference(
    ours: Sequence[ImageScore], theirs: Sequence[ImageScore], measure: _Measure, found: Found, spec: EvalSpec
) -> Interval | None:
    first, second = _given(ours, measure), _given(theirs, measure)
    if first is None or second is None:
        return None
    return interval(points(first) - points(second), found.units(ours, measure.item), spec)


def _distance_difference(arms: tuple[str, str], found: Found) -> Estimate | None:
    if not found.has_distances:
        return None
    seen = found.seen["clip"]
    ours, theirs = (seen.arms[arm] for arm in arms)
    return cmmd_difference(ours, theirs, seen.photos, found.drawn_units, real_clusters=found.photo_units.names)


def _loss_difference(arms: tuple[str, str], found: Found, spec: EvalSpec) -> Interval | None:
    ours, theirs = (found.losses.get(arm) for arm in arms)
    if ours is None or theirs is None:
        return None
    photos = [str(number) for number in range(len(ours.captions))]
    return interval(
        ours.losses - theirs.losses, choose_units(ours.captions, photos, "photo", found.training_captions), spec
    )


def _given(rows: Sequence[ImageScore], measure: _Measure) -> Floats | None:
    """Cosines of one kind; none if a row has none."""
    values = [measure.of(row) for row in rows]
    known = [value for value in values if value is not None]
    return np.asarray(known, dtype=np.float64) if len(known) == len(values) else None


def _mean(cosines: Floats | None) -> float | None:
    return float(points(cosines).mean()) if cosines is not None else None


def _distance(found: Estimate | None) -> Distance | None:
    return Distance(value=found.value, standard_error=found.standard_error) if found is not None else None


def interval(values: Floats, units: Units, spec: EvalSpec) -> Interval | None:
    """Mean with its interval over units, as a recipe's evaluation wants it; none where there are too few."""
    return cluster_interval(
        values,
        units.names,
        level=spec.confidence_level,
        num_resamples=spec.num_resamples,
        seed=spec.seed,
        unit=units.unit,
    )

"""Every image's scores: the drawn arms, and two controls from the real photos."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import ConfigDict

from shoes.evaluation.drawings import Drawing, Record
from shoes.evaluation.features import Features
from shoes.evaluation.floor import OTHER_THINGS
from shoes.evaluation.statistics import Floats
from shoes.reports import Role
from shoes.spec import Spec

REAL = "real"
"""Control: the real test photos with their own captions, a ceiling."""
SHUFFLED = "shuffled"
"""Control: the same photos, each with the caption of another, a floor; not there where all captions are equal."""
UNRELATED = "unrelated"
"""Control where all captions are equal: the same photos with `OTHER_THINGS`, a floor."""


class ImageScore(Spec):
    """One image against a caption and against the real photo; NaN is kept, for the gates to find."""

    model_config = ConfigDict(allow_inf_nan=True)

    arm: str
    image: str
    """File name of the image that was scored."""
    photo: str
    """File name of the real photo that it belongs to."""
    caption: str
    """Of the real photo: the cluster that is resampled."""
    scored_caption: str
    """What `cosine` is with: another photo's caption for the floor, else `caption`."""
    seed: int | None
    """None for the real photos."""
    cosine: float
    """cos(image, scored_caption)."""
    photo_cosine: float | None
    """cos(image, real photo); none for the real photos themselves."""
    second_cosine: float | None = None
    """As `cosine`, by the second CLIP, where there is one."""
    dino_cosine: float | None = None
    """As `photo_cosine`, by DINOv2, where it is there."""


def score_arms(
    seen: Mapping[Role, Features],
    records: Sequence[Record],
    drawings: Sequence[Drawing],
    pictures: Mapping[str, Sequence[Path]],
    *,
    seed: int,
) -> dict[str, list[ImageScore]]:
    """Scores of each arm's pictures, in the order of `drawings`, then of the two controls.

    Args:
        seen: what each judge saw; `clip` at least.
    """
    chosen = sorted({drawing.record for drawing in drawings})
    captions = sorted({drawing.prompt for drawing in drawings})
    scores = {
        arm: [_score_drawing(arm, row, drawing, path, records, seen) for row, (drawing, path) in enumerate(pairs)]
        for arm, pairs in ((arm, zip(drawings, paths, strict=True)) for arm, paths in pictures.items())
    }
    for control, given in _controls(captions, seed).items():
        scores[control] = [
            _score_photo(control, i, records[i], caption, seen) for i in chosen for caption in given[records[i].caption]
        ]
    return scores


def _controls(captions: Sequence[str], seed: int) -> dict[str, Mapping[str, Sequence[str]]]:
    """By control, the captions that a photo with a caption is scored with."""
    own = {caption: (caption,) for caption in captions}
    if len(captions) == 1:
        return {REAL: own, UNRELATED: dict.fromkeys(captions, OTHER_THINGS)}
    return {REAL: own, SHUFFLED: {mine: (other,) for mine, other in shuffle_captions(captions, seed).items()}}


def _score_drawing(
    arm: str, row: int, drawing: Drawing, path: Path, records: Sequence[Record], seen: Mapping[Role, Features]
) -> ImageScore:
    units = {role: features.arms[arm][row] for role, features in seen.items()}
    return ImageScore(
        arm=arm,
        image=path.name,
        photo=records[drawing.record].image.name,
        caption=drawing.prompt,
        scored_caption=drawing.prompt,
        seed=drawing.seed,
        cosine=float(units["clip"] @ seen["clip"].captions[drawing.prompt]),
        photo_cosine=float(units["clip"] @ seen["clip"].photos[drawing.record]),
        second_cosine=_with_caption("second_clip", units, drawing.prompt, seen),
        dino_cosine=float(units["dino"] @ seen["dino"].photos[drawing.record]) if "dino" in seen else None,
    )


def _score_photo(control: str, index: int, record: Record, caption: str, seen: Mapping[Role, Features]) -> ImageScore:
    units = {role: features.photos[index] for role, features in seen.items()}
    return ImageScore(
        arm=control,
        image=record.image.name,
        photo=record.image.name,
        caption=record.caption,
        scored_caption=caption,
        seed=None,
        cosine=float(units["clip"] @ seen["clip"].captions[caption]),
        photo_cosine=None,
        second_cosine=_with_caption("second_clip", units, caption, seen),
    )


def _with_caption(
    role: Role, units: Mapping[Role, Floats], caption: str, seen: Mapping[Role, Features]
) -> float | None:
    return float(units[role] @ seen[role].captions[caption]) if role in seen else None


def shuffle_captions(captions: Sequence[str], seed: int) -> dict[str, str]:
    """Another caption for each caption, never its own: one random cycle through all of them.

    Raises:
        ValueError: there are fewer than two different captions.
    """
    different = sorted(set(captions))
    if len(different) < 2:
        raise ValueError("shuffling needs at least two different captions")
    cycle = [different[i] for i in np.random.default_rng(seed).permutation(len(different))]
    return dict(zip(cycle, [*cycle[1:], cycle[0]], strict=True))

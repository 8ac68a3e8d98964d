"""Every image's scores: the drawn arms, and two controls from the real photos."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import ConfigDict

from shoes.evaluation.clip import ClipScorer, Vectors
from shoes.evaluation.drawings import Drawing, Record
from shoes.evaluation.pictures import open_picture
from shoes.spec import Spec

REAL = "real"
"""Control: the real test photos with their own captions, a ceiling."""
SHUFFLED = "shuffled"
"""Control: the same photos, each with the caption of another, a floor."""


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


def score_arms(
    clip: ClipScorer,
    records: Sequence[Record],
    drawings: Sequence[Drawing],
    pictures: Mapping[str, Sequence[Path]],
    *,
    seed: int,
    batch_size: int,
) -> dict[str, list[ImageScore]]:
    """Scores of each arm's pictures, in the order of `drawings`, then of the two controls.

    Raises:
        ValueError: all captions are equal, so there is none to shuffle with.
    """
    chosen = sorted({drawing.record for drawing in drawings})
    captions = sorted({drawing.prompt for drawing in drawings})
    texts = dict(zip(captions, clip.embed_captions(captions), strict=True))
    units = _embed(clip, [records[i].image for i in chosen], batch_size)
    photos = dict(zip(chosen, units, strict=True))
    scores = {}
    for arm, paths in pictures.items():
        embedded = zip(drawings, paths, _embed(clip, paths, batch_size), strict=True)
        scores[arm] = [
            _score_drawing(arm, drawing, path, unit, records, texts, photos) for drawing, path, unit in embedded
        ]
    for control, given in ((REAL, {c: c for c in captions}), (SHUFFLED, shuffle_captions(captions, seed))):
        scores[control] = [
            _score_photo(control, records[i], given[records[i].caption], unit, texts) for i, unit in photos.items()
        ]
    return scores


def _score_drawing(
    arm: str,
    drawing: Drawing,
    path: Path,
    unit: Vectors,
    records: Sequence[Record],
    texts: Mapping[str, Vectors],
    photos: Mapping[int, Vectors],
) -> ImageScore:
    return ImageScore(
        arm=arm,
        image=path.name,
        photo=records[drawing.record].image.name,
        caption=drawing.prompt,
        scored_caption=drawing.prompt,
        seed=drawing.seed,
        cosine=float(unit @ texts[drawing.prompt]),
        photo_cosine=float(unit @ photos[drawing.record]),
    )


def _score_photo(control: str, record: Record, caption: str, unit: Vectors, texts: Mapping[str, Vectors]) -> ImageScore:
    return ImageScore(
        arm=control,
        image=record.image.name,
        photo=record.image.name,
        caption=record.caption,
        scored_caption=caption,
        seed=None,
        cosine=float(unit @ texts[caption]),
        photo_cosine=None,
    )


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


def _embed(clip: ClipScorer, paths: Sequence[Path], batch_size: int) -> Vectors:
    return clip.embed_images((open_picture(path) for path in paths), batch_size=batch_size)

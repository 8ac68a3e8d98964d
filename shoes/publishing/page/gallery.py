"""The pictures of the page."""

from collections.abc import Sequence
from dataclasses import dataclass

from shoes.publishing.page.numbers import plain
from shoes.publishing.page.pictures import Picture, inline
from shoes.reports import ClosePair, EvaluationReport, GalleryRow

_TITLES = {"base": "Base", "adapter": "With adapter", "champion": "Champion"}
MOST_PAIRS = 20


@dataclass(frozen=True)
class Row:
    """Pictures of one caption."""

    prompt: str
    seed: int | None
    pictures: tuple[Picture, ...]


def rows(evaluation: EvaluationReport) -> tuple[Row, ...]:
    """Each caption as every arm drew it, beside the real photos."""
    return tuple(_row(row) for row in evaluation.gallery)


def _row(row: GalleryRow) -> Row:
    drawn = [
        inline(path, _TITLES.get(arm, arm), f"{row.prompt}: drawn by the {arm}, seed {row.seed}")
        for arm, path in sorted(row.pictures.items(), key=lambda item: _order(item[0]))
    ]
    photos = []
    if row.nearest is not None:
        likeness = "" if row.nearest_similarity is None else f"likeness {plain(row.nearest_similarity, 1)}"
        alt = f"The training photo nearest to what the adapter drew for: {row.prompt}"
        photos.append(inline(row.nearest, "Nearest training photo", alt, likeness))
    photos.append(inline(row.real, "Real test photo", f"The real test photo whose caption is: {row.prompt}"))
    return Row(row.prompt, row.seed, (*drawn, *photos))


def _order(arm: str) -> int:
    return list(_TITLES).index(arm) if arm in _TITLES else len(_TITLES)


def grid(evaluation: EvaluationReport) -> Picture:
    """All in one picture, where there are no single ones."""
    alt = "Rows of pictures of the same caption and seed: base, adapter and the real test photo side by side"
    return inline(evaluation.grid, "Base, adapter and test photo", alt)


def pairs(found: Sequence[ClosePair]) -> tuple[Row, ...]:
    """Drawn pictures and the training photos nearest to them, the nearest first."""
    return tuple(_pair(pair) for pair in found[:MOST_PAIRS])


def _pair(pair: ClosePair) -> Row:
    likeness = f"likeness {plain(pair.similarity, 1)}"
    drawn = inline(pair.drawn, "Drawn", f"Drawn for: {pair.prompt}", likeness)
    photo = inline(pair.photo, "Training photo", f"The training photo nearest to what was drawn for: {pair.prompt}")
    return Row(pair.prompt, None, (drawn, photo))

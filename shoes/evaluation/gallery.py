"""The pictures that a person opens in the morning, copied beside the figures so that a cache may be emptied."""

import shutil
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from shoes.evaluation.drawings import Drawing, Record
from shoes.evaluation.grid import Row, comparison_grid, pick_rows, short_labels
from shoes.evaluation.pictures import open_picture
from shoes.evaluation.repeats import Nearest
from shoes.evaluation.scores import REAL
from shoes.reports import ClosePair, GalleryRow

GALLERY, PAIRS = "gallery", "pairs"
_GRID_ROWS, _GALLERY_ROWS = 6, 12
_LEAST_ROWS = 4
"""So many are shown of data sets of fewer captions, too, where there are pictures: one caption in other seeds."""
_TITLES = {"base": "Base model", "adapter": "With adapter", "champion": "Champion", REAL: "Test photo"}


def write_grid(
    path: Path, records: Sequence[Record], drawings: Sequence[Drawing], pictures: Mapping[str, Sequence[Path]]
) -> None:
    """One picture for everything: rows are captions, columns who drew them."""
    chosen = _rows(drawings, _GRID_ROWS)
    labels = short_labels([drawings[i].prompt for i in chosen])
    titles = [_TITLES[column] for column in (*pictures, REAL)]
    rows = []
    for i, label in zip(chosen, labels, strict=True):
        files = [*(paths[i] for paths in pictures.values()), records[drawings[i].record].image]
        rows.append(Row(_lines(label), [open_picture(file) for file in files]))
    note = "Same prompt and same seed along each row. The test photo is the one whose caption is the prompt."
    comparison_grid(titles, rows, note).save(path)


def _rows(drawings: Sequence[Drawing], most: int) -> list[int]:
    """Which drawings are shown: one of each of up to `most` captions, and more of them where captions are few."""
    chosen = pick_rows([drawing.prompt for drawing in drawings], most)
    others = (number for number in range(len(drawings)) if number not in chosen)
    return sorted([*chosen, *islice(others, _LEAST_ROWS - len(chosen))]) if len(chosen) < _LEAST_ROWS else chosen


def _lines(label: str) -> str:
    """A label with what comes after its first comma on a line of its own."""
    first, _, rest = (label[:1].upper() + label[1:]).partition(", ")
    return f"{first}\n{rest}" if rest else first


def copy_gallery(
    folder: Path,
    records: Sequence[Record],
    drawings: Sequence[Drawing],
    pictures: Mapping[str, Sequence[Path]],
    nearest: Nearest,
) -> tuple[GalleryRow, ...]:
    """Up to twelve captions as each arm drew them, beside the test photo and the nearest training photo.

    Paths in the result are relative to `folder`, into which the pictures are copied.
    """
    rows = []
    for number, i in enumerate(_rows(drawings, _GALLERY_ROWS)):
        start = f"{GALLERY}/{number:02d}"
        files = {arm: _copy(paths[i], folder, f"{start}-{arm}") for arm, paths in pictures.items()}
        rows.append(
            GalleryRow(
                prompt=drawings[i].prompt,
                seed=drawings[i].seed,
                pictures=files,
                real=_copy(records[drawings[i].record].image, folder, f"{start}-real"),
                nearest=_copy(nearest.photo(i), folder, f"{start}-nearest"),
                nearest_similarity=100 * float(nearest.cosines[i]),
            )
        )
    return tuple(rows)


def copy_pairs(
    folder: Path, drawings: Sequence[Drawing], paths: Sequence[Path], nearest: Nearest, closest: Sequence[int]
) -> tuple[ClosePair, ...]:
    """The closest pairs of a drawn picture and a training photo; paths as in `copy_gallery`."""
    return tuple(
        ClosePair(
            drawn=_copy(paths[i], folder, f"{PAIRS}/{number:02d}-drawn"),
            photo=_copy(nearest.photo(i), folder, f"{PAIRS}/{number:02d}-photo"),
            prompt=drawings[i].prompt,
            similarity=100 * float(nearest.cosines[i]),
        )
        for number, i in enumerate(closest)
    )


def _copy(source: Path, folder: Path, name: str) -> Path:
    place = Path(f"{name}{source.suffix}")
    (folder / place).parent.mkdir(exist_ok=True)
    shutil.copyfile(source, folder / place)
    return place

"""What a folder of photos is, by what it holds."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from shoes.dataset.addresses import UNDERSTOOD
from shoes.dataset.products import printable
from shoes.dataset.styles import STYLES
from shoes.dataset.wording import count
from shoes.errors import DataError, Problem
from shoes.litter import is_visible, without_litter
from shoes.storage import MANIFEST

IMAGES = "images"
TABLES = ("captions.json", "metadata.jsonl", "metadata.csv")
"""Files that say which photo has which caption."""

_DEPTH = 2
"""How far below the folder the catalogue is looked for: Kaggle's archives nest it once or twice."""


@dataclass(frozen=True)
class Catalogue:
    """The downloaded catalogue: styles.csv and images/."""

    folder: Path
    nested_in: str = ""
    """Where it was found, when not in the folder that was given."""


@dataclass(frozen=True)
class CaptionedImages:
    """Images with captions, in tables or in text files beside them. Paths are relative and POSIX."""

    folder: Path
    images: dict[str, Path] = field(repr=False)
    tables: tuple[str, ...]
    texts: dict[str, Path] = field(repr=False)
    """.txt files by the path that they share with their image, without the suffix."""


def recognise(folder: Path) -> Catalogue | CaptionedImages:
    """The layout of a folder.

    Raises:
        DataError: none that is understood, or more than one.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "is no folder: there is nothing"
        raise DataError([Problem(str(folder), what, UNDERSTOOD)])
    if _is_data_set(folder):
        fix = f"use it as it is: `--data.dataset_dir {folder}`"
        raise DataError([Problem(str(folder), "is a prepared data set already", fix)])
    catalogues = _catalogues(folder)
    if catalogues == [folder]:
        return _only_a_catalogue(folder)
    tree = _scan(folder)
    if not catalogues:
        return _require_captions(tree)
    captions = [*(name for name in tree.tables if "/" not in name)]
    if len(catalogues) > 1 or captions:
        found = [*(f"{path.relative_to(folder).as_posix()}/{STYLES}" for path in catalogues), *captions]
        raise DataError([_contradiction(folder, found)])
    return Catalogue(catalogues[0], catalogues[0].relative_to(folder).as_posix())


def num_photos(layout: Catalogue | CaptionedImages, most: int) -> int:
    """How many files of photos there are, counted no further than `most`."""
    from shoes.dataset.photos import SUFFIXES

    if isinstance(layout, CaptionedImages):
        return min(len(layout.images), most)
    with os.scandir(layout.folder / IMAGES) as entries:
        names = (entry.name for entry in entries if is_visible(entry.name))
        return sum(1 for _ in islice((name for name in names if Path(name).suffix.lower() in SUFFIXES), most))


def _is_catalogue(folder: Path) -> bool:
    return (folder / STYLES).is_file() and (folder / IMAGES).is_dir()


def _is_data_set(folder: Path) -> bool:
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("format") == "shoes-data-set"


def _catalogues(folder: Path) -> list[Path]:
    """The catalogues nearest to the top: Kaggle's archives hold copies of it further down."""
    level = [folder]
    for _ in range(_DEPTH + 1):
        if found := [path for path in level if _is_catalogue(path)]:
            return found
        level = [child for path in level for child in _subfolders(path)]
    return []


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if is_visible(e.name) and e.is_dir())
    return [folder / name for name in names if name != IMAGES]


def _only_a_catalogue(folder: Path) -> Catalogue:
    if others := [name for name in TABLES if (folder / name).is_file()]:
        raise DataError([_contradiction(folder, [STYLES, *others])])
    return Catalogue(folder)


def _contradiction(folder: Path, found: list[str]) -> Problem:
    fix = "name the folder that holds one of them, or move the others away"
    return Problem(str(folder), f"holds more than one layout: {', '.join(found)}", fix)


def _scan(folder: Path) -> CaptionedImages:
    from shoes.dataset.photos import SUFFIXES

    images, texts, tables = {}, {}, []
    for path in _visible_below(folder):
        name = path.relative_to(folder).as_posix()
        suffix = path.suffix.lower()
        if path.name in TABLES:
            tables.append(name)
        elif suffix in SUFFIXES:
            images[name] = path
        elif suffix == ".txt":
            texts[name[: -len(suffix)]] = path
    return CaptionedImages(folder, images, tuple(tables), texts)


def _visible_below(folder: Path) -> Iterator[Path]:
    """Files in order, without hidden ones and hidden folders."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(filter(is_visible, folders))
        yield from (Path(parent, name) for name in sorted(filter(is_visible, files)))


def _require_captions(tree: CaptionedImages) -> CaptionedImages:
    has_texts = any(name.rpartition(".")[0] in tree.texts for name in tree.images)
    if tree.images and (tree.tables or has_texts):
        return tree
    if (tree.folder / STYLES).is_file():
        raise DataError([Problem(str(tree.folder / IMAGES), f"is missing, and {STYLES} is there", UNDERSTOOD)])
    if not tree.images:
        found = _contents(tree.folder)
        raise DataError([Problem(str(tree.folder), f"holds no photos; it holds {found}", UNDERSTOOD)])
    first = printable(next(iter(tree.images)))
    what = f"holds {count(len(tree.images), 'photo')} ({first}, …), and neither {STYLES} nor captions"
    raise DataError([Problem(str(tree.folder), what, UNDERSTOOD)])


def _contents(folder: Path) -> str:
    names = sorted(printable(path.name) + "/" * path.is_dir() for path in without_litter(folder.iterdir(), folder))
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "nothing"

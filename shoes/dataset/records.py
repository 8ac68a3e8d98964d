"""One split as it is read: images with captions."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from shoes.errors import DataError, Problem
from shoes.litter import visible
from shoes.spec import Spec

CAPTIONS = "captions.json"
_EXAMPLE = '[{"image_file": "10037.png", "caption": "A professional product photo of …"}]'
_Found = Iterator["Record | Problem"]


class Record(Spec):
    """One training or test photo."""

    image: Path
    """Absolute."""
    caption: str
    attributes: dict[str, str]
    """id, colour, season, gender, …: whatever else captions.json says of it, as text."""


def load_split(folder: Path, *, resolution: int | None = None, decode: bool = True) -> list[Record]:
    """Read a split's captions.json and images/, in the order of captions.json.

    DataError holds everything that is wrong with it. Each image is decoded to find damage; `decode=False`
    reads only its header, for splits that a manifest vouches for. Images must be RGB squares, of
    `resolution` pixels when one is given.
    """
    records, problems = read_split(folder, resolution=resolution, decode=decode)
    if problems:
        raise DataError(problems)
    return records


def read_split(
    folder: Path, *, resolution: int | None = None, decode: bool = True
) -> tuple[list[Record], list[Problem]]:
    """The records of a split that can be read, and everything that is wrong with the others."""
    folder = folder.absolute()
    if not folder.is_dir():
        fix = f"make the data set: `shoes data import SOURCE --out {folder.parent}`"
        return [], [Problem(str(folder), "the folder is missing", fix)]
    found = [*_read_captions(folder / CAPTIONS, _images(folder))]
    records = [item for item in found if isinstance(item, Record)]
    problems = [item for item in found if isinstance(item, Problem)]
    damaged = _image_problems([record.image for record in records], resolution, decode=decode)
    good = [record for record in records if record.image not in damaged]
    return good, [*problems, *damaged.values()]


def visible_files(folder: Path) -> list[Path]:
    """Files of a folder in order, without what the Finder leaves (`._10037.png`, `.DS_Store`)."""
    if not folder.is_dir():
        return []
    return sorted(path for path in visible(folder.iterdir(), folder) if path.is_file())


def _images(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in visible_files(folder / "images")}


def _read_captions(path: Path, images: dict[str, Path]) -> _Found:
    form = f"write a list of entries, for example {_EXAMPLE}"
    try:
        entries = json.loads(path.read_bytes())
    except OSError as error:
        yield Problem(str(path), error.strerror or "can't be read", form)
    except (ValueError, RecursionError) as error:
        yield Problem(str(path), f"is not JSON: {error}", form)
    else:
        if isinstance(entries, list) and entries:
            yield from _read_entries(path, entries, images)
        else:
            yield Problem(str(path), "is not a list with at least one entry", form)


def _read_entries(path: Path, entries: list[Any], images: dict[str, Path]) -> _Found:
    seen: set[str] = set()
    for number, entry in enumerate(entries, start=1):
        where = f"{path}, entry {number}"
        if what := _entry_fault(entry):
            yield Problem(where, what, f"write it like {_EXAMPLE}")
            continue
        name = entry["image_file"]
        if name in seen:
            yield Problem(where, f"{name} has an entry already", "remove one of the two")
        elif name not in images:
            fix = "put the photo there, or remove the entry"
            yield Problem(str(path.parent / "images" / name), f"is missing, and {where} names it", fix)
        else:
            yield Record(image=images[name], caption=entry["caption"].strip(), attributes=_attributes(entry))
        seen.add(name)
    for name in sorted(images.keys() - seen):
        yield Problem(str(images[name]), f"has no entry in {path.name}", "add one, or remove the file")


def _entry_fault(entry: object) -> str | None:
    """What is wrong with the form of an entry of captions.json."""
    if not isinstance(entry, dict):
        return f"is {_json_type(entry)}, not an object"
    for field in ("image_file", "caption"):
        value = entry.get(field)
        if not isinstance(value, str) or not value.strip():
            said = "missing" if field not in entry else "empty" if value == "" else _json_type(value)
            return f"{field} must be a text, and is {said}"
    name = entry["image_file"]
    if any(mark in name for mark in "/\\\0") or name.startswith("."):
        return f"image_file {name!r} must be the name of a file in images/"
    odd = [key for key, value in entry.items() if not isinstance(value, str | int | float | None)]
    if odd:
        return f"{', '.join(odd)}: attributes must be texts or numbers"
    if not _is_unicode(entry):
        return "holds half a character (a lone surrogate), which can't be saved"
    return None


def _json_type(value: object) -> str:
    names: dict[type, str] = {str: "a blank text", dict: "an object", list: "a list", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")


def _is_unicode(entry: dict[str, Any]) -> bool:
    try:
        "".join([*entry.keys(), *(v for v in entry.values() if isinstance(v, str))]).encode()
    except UnicodeEncodeError:
        return False
    return True


def _attributes(entry: dict[str, Any]) -> dict[str, str]:
    others = {key: value for key, value in entry.items() if key not in ("image_file", "caption")}
    return {key: str(value) for key, value in others.items() if value is not None}


def _image_problems(images: list[Path], resolution: int | None, *, decode: bool) -> dict[Path, Problem]:
    from shoes.dataset import photos

    with photos.quiet_pillow(), ThreadPoolExecutor() as pool:
        faults = pool.map(lambda image: photos.square_fault(image, resolution, decode=decode), images)
        return {
            image: Problem(str(image), fault, "replace it by a whole RGB square, or remove it and its entry")
            for image, fault in zip(images, faults, strict=True)
            if fault
        }

"""Read a folder of images with captions: what its tables and text files say of each image."""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from shoes.dataset.caption_tables import CAPTION_FIELDS, Entry, Fault, read_table, tidy
from shoes.dataset.layouts import IMAGES, CaptionedImages
from shoes.dataset.products import Holdings, Product, ids_of, printable
from shoes.dataset.selection import ATTRIBUTES, applied_filters, attributes_of, filter_note, plain, select
from shoes.dataset.wording import count
from shoes.errors import DataError, Problem
from shoes.spec import DataSpec
from shoes.storage import fingerprint, sha256

MISSING_LIST = "missing_images.txt"
UNREADABLE_LIST = "unreadable_lines.txt"
UNCAPTIONED_LIST = "uncaptioned_images.txt"
_CONTRADICTIONS_SHOWN = 10


@dataclass
class _Said:
    """What all tables and text files say together."""

    entries: dict[str, Entry] = field(default_factory=dict)
    """By the path of the image."""
    missing: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    contradictions: list[Problem] = field(default_factory=list)


def read_captioned(layout: CaptionedImages, spec: DataSpec) -> Holdings:
    """The images that have captions, or attributes for the template, and pass the spec's filters.

    Images without a caption and captions without an image are counted in the notes and listed.

    Raises:
        DataError: a table is no table, two of them contradict each other, or no image is left.
    """
    said = _listen(layout)
    if said.contradictions:
        raise DataError(_shown(said.contradictions))
    silent = [name for name in layout.images if name not in said.entries]
    if not said.entries:
        raise DataError([_nothing_usable(layout, said)])
    columns = sorted({column for entry in said.entries.values() for column in entry.columns})
    filters = applied_filters(spec, columns)
    chosen = select([*said.entries.items()], lambda item: item[1].columns, columns, filters, where="the source")
    ids = ids_of(layout.images)
    return Holdings(
        tuple(_product(entry, image, layout, ids) for image, entry in chosen),
        _provenance(layout, said, filters, num_silent=len(silent)),
        (*filter_note(spec, filters), *_notes(said, silent)),
        _listings(said, silent),
    )


def _listen(layout: CaptionedImages) -> _Said:
    said = _Said()
    by_name = {_normal(name): name for name in layout.images}
    for table in layout.tables:
        _hear_table(said, table, layout, by_name)
    _hear_texts(said, layout)
    return said


def _hear_table(said: _Said, table: str, layout: CaptionedImages, by_name: Mapping[str, str]) -> None:
    heard: set[str] = set()
    for item in read_table(layout.folder / table, printable(table)):
        if isinstance(item, Fault):
            said.unreadable.append(str(item))
            continue
        image = _find(item.image, PurePosixPath(table).parent, by_name)
        if image is None:
            said.missing.append(f"{printable(item.image)} ({item.where})")
        elif image in heard:
            said.unreadable.append(f"{item.where}: {printable(image)} has an entry already")
        elif not item.caption and not _has_attribute(item):
            said.unreadable.append(f"{item.where}: holds no caption ({', '.join(CAPTION_FIELDS[:2])})")
        else:
            heard.add(image)
            _add(said, image, item)


def _hear_texts(said: _Said, layout: CaptionedImages) -> None:
    owners: dict[str, list[str]] = {}
    for image in layout.images:
        owners.setdefault(image.rpartition(".")[0], []).append(image)
    is_used = any(stem in owners for stem in layout.texts)
    for stem, path in layout.texts.items() if is_used else ():
        where = printable(path.relative_to(layout.folder).as_posix())
        if stem not in owners:
            said.missing.append(where)
            continue
        caption = _text(path)
        if isinstance(caption, Fault):
            said.unreadable.append(f"{where}: {caption.what}")
            continue
        for image in owners[stem]:
            _add(said, image, Entry(where, image, caption))


def _text(path: Path) -> str | Fault:
    try:
        caption = tidy(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        return Fault("", "is not UTF-8 text")
    except OSError as error:
        return Fault("", f"can't be read: {error.strerror}")
    return caption or Fault("", "is empty")


def _add(said: _Said, image: str, entry: Entry) -> None:
    """Attributes of several places are put together; two captions must be one."""
    before = said.entries.get(image)
    if before is None:
        said.entries[image] = entry
        return
    if before.caption and entry.caption and before.caption != entry.caption:
        what = f"has two captions: {before.caption[:60]!r} in {before.where}, {entry.caption[:60]!r} in {entry.where}"
        said.contradictions.append(Problem(printable(image), what, "remove one of them"))
    columns = {**entry.columns, **before.columns}
    said.entries[image] = Entry(before.where, before.image, before.caption or entry.caption, columns)


def _find(written: str, folder: PurePosixPath, by_name: Mapping[str, str]) -> str | None:
    """The image that a table in `folder` means: beside the table, or in images/ beside it."""
    name = PurePosixPath(_normal(written.replace("\\", "/")))
    places = (folder / name, folder / IMAGES / name)
    return next((by_name[key] for place in places if (key := _normal(str(place))) in by_name), None)


def _normal(path: str) -> str:
    """A Mac writes é as two characters, other systems as one."""
    return unicodedata.normalize("NFC", path)


def _has_attribute(entry: Entry) -> bool:
    return any(plain(column) in ATTRIBUTES for column in entry.columns)


def _product(entry: Entry, image: str, layout: CaptionedImages, ids: Mapping[str, str]) -> Product:
    from shoes.dataset.photos import read_photo

    path = layout.images[image]
    return Product(
        ids[image],
        attributes_of(entry.columns),
        partial(read_photo, path),
        origin=printable(image),
        caption=entry.caption or None,
        digest=partial(sha256, path),
    )


def _provenance(
    layout: CaptionedImages, said: _Said, filters: Mapping[str, str], *, num_silent: int
) -> dict[str, object]:
    content = [(printable(name), entry.caption, entry.columns) for name, entry in sorted(said.entries.items())]
    return {
        "kind": "captioned images",
        "name": layout.folder.resolve().name,
        "captions": [printable(name) for name in layout.tables] or [".txt beside the images"],
        "captions_fingerprint": fingerprint(content),
        **({"filters": dict(filters)} if filters else {}),
        "products": len(layout.images),
        "uncaptioned_images": num_silent,
        "unreadable_lines": len(said.unreadable),
        "missing_images": len(said.missing),
    }


def _notes(said: _Said, silent: list[str]) -> Iterator[str]:
    if said.unreadable:
        entries = count(len(said.unreadable), "entry", "entries")
        yield f"{entries} of the captions left out (listed in {UNREADABLE_LIST})"
    if said.missing:
        yield f"{count(len(said.missing), 'caption')} without a photo (listed in {MISSING_LIST})"
    if silent:
        yield f"{count(len(silent), 'photo')} without a caption left out (listed in {UNCAPTIONED_LIST})"


def _listings(said: _Said, silent: list[str]) -> dict[str, str]:
    listings: dict[str, Iterable[str]] = {
        MISSING_LIST: said.missing,
        UNREADABLE_LIST: said.unreadable,
        UNCAPTIONED_LIST: [printable(name) for name in silent],
    }
    texts = {name: "".join(f"{line}\n" for line in lines) for name, lines in listings.items()}
    return {name: text for name, text in texts.items() if text}


def _shown(problems: list[Problem]) -> list[Problem]:
    more = len(problems) - _CONTRADICTIONS_SHOWN
    if more <= 0:
        return problems
    rest = Problem("captions", f"{count(more, 'more image')} with two captions", "remove one caption of each")
    return [*problems[:_CONTRADICTIONS_SHOWN], rest]


def _nothing_usable(layout: CaptionedImages, said: _Said) -> Problem:
    first = next(iter([*said.unreadable, *(f"{name} is missing" for name in said.missing)]), "the captions are empty")
    where = ", ".join(printable(name) for name in layout.tables) or "the .txt files"
    what = f"give no caption for any of the {count(len(layout.images), 'photo')}; the first trouble: {first}"
    return Problem(f"{layout.folder}: {where}", what, "name each photo as it is called, below the table's folder")

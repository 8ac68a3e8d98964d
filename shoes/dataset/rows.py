"""Read a data set of the Hub: rows of parquet files with an image each, by the `datasets` library."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoes.dataset.addresses import HubAddress
from shoes.dataset.caption_tables import CAPTION_FIELDS, plain_text
from shoes.dataset.hub import Download
from shoes.dataset.products import Holdings, Product, ids_of, is_id
from shoes.dataset.selection import ATTRIBUTES, applied_filters, attributes_of, filter_note, plain, select
from shoes.dataset.wording import count
from shoes.errors import DataError, Problem
from shoes.spec import DataSpec

if TYPE_CHECKING:
    from PIL import Image

Table = Any
"""A datasets.Dataset."""


def read_rows(found: Download, address: HubAddress, spec: DataSpec, cache: Path) -> Holdings:
    """The rows that pass the spec's filters, each a product with the photo of its image column.

    Raises:
        DataError: the files are no such table, or no row passes the filters.
    """
    where = f"hub:{address.repo_id}"
    table = _open(found, where, cache)
    image = _image_column(table, where)
    rows = _texts(table, image)
    columns = list(rows[0]) if rows else []
    caption = next((name for name in CAPTION_FIELDS if name in columns), None)
    if not caption and not any(plain(column) in ATTRIBUTES for column in columns):
        what = (
            f"has neither captions ({', '.join(CAPTION_FIELDS)}) nor attributes; its columns are {table.column_names}"
        )
        raise DataError([Problem(where, what, "choose a data set with one of these columns")])
    filters = applied_filters(spec, columns)
    chosen = select(range(len(rows)), rows.__getitem__, columns, filters, where=where)
    photos = _Photos(table, image)
    ids = _ids(rows, photos.names())
    usable = [n for n in chosen if not caption or rows[n][caption] or _has_attributes(rows[n])]
    return Holdings(
        tuple(_product(n, ids[n], rows[n], caption, photos) for n in usable),
        {
            "kind": "data set on the Hub",
            "name": address.repo_id,
            "revision": found.commit,
            **({"filters": dict(filters)} if filters else {}),
            "products": len(rows),
            "products_that_pass": len(chosen),
            "uncaptioned_images": len(chosen) - len(usable),
        },
        (*filter_note(spec, filters), *_notes(len(chosen) - len(usable))),
    )


def _open(found: Download, where: str, cache: Path) -> Table:
    import datasets
    import pyarrow as pa

    datasets.disable_progress_bars()
    files = [str(path) for path in found.tables]
    try:
        return datasets.load_dataset("parquet", data_files={"train": files}, split="train", cache_dir=str(cache))
    except (datasets.exceptions.DatasetsError, pa.ArrowException, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        fix = "take another revision, or download it and name its folder"
        raise DataError([Problem(where, f"its parquet files can't be read: {reason}", fix)]) from error


def _image_column(table: Table, where: str) -> str:
    """The column of images: declared so, or a structure with bytes."""
    import datasets

    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image) or (isinstance(feature, dict) and "bytes" in feature):
            return str(name)
    what = f"has no column of images; its columns are {', '.join(table.column_names)}"
    raise DataError([Problem(where, what, "choose a data set with an image column")])


def _texts(table: Table, image: str) -> list[dict[str, str]]:
    """Every row's texts, numbers and classes, as text."""
    import datasets

    classes = {name: f for name, f in table.features.items() if isinstance(f, datasets.ClassLabel)}
    scalars = (datasets.Value, datasets.ClassLabel)
    plain_columns = [name for name, f in table.features.items() if name != image and isinstance(f, scalars)]
    content = table.select_columns(plain_columns).to_dict() if plain_columns else {}
    for name, feature in classes.items():
        content[name] = [None if n is None or n < 0 else feature.int2str(n) for n in content[name]]
    return [{name: plain_text(values[n]) for name, values in content.items()} for n in range(len(table))]


class _Photos:
    """The bytes of the image column, row by row."""

    def __init__(self, table: Table, column: str) -> None:
        import datasets

        if isinstance(table.features[column], datasets.Image):
            table = table.cast_column(column, datasets.Image(decode=False))
        self._table = table.select_columns([column])
        self._column = column

    def names(self) -> list[str]:
        """The file names that the images had, where they are known."""
        if not len(self._table):
            return []
        paths = self._table.flatten()[f"{self._column}.path"] if self._has_paths() else [None] * len(self._table)
        return [path or "" for path in paths]

    def content(self, row: int) -> bytes:
        """The encoded image of a row; ValueError when the row has none."""
        cell = self._table[row][self._column]
        if not cell or not cell.get("bytes"):
            raise ValueError("the row holds no image")
        return bytes(cell["bytes"])

    def digest(self, row: int) -> str:
        """SHA-256 of these bytes."""
        return hashlib.sha256(self.content(row)).hexdigest()

    def load(self, row: int) -> "Image.Image":
        """The decoded image."""
        from shoes.dataset.photos import decode_photo

        return decode_photo(self.content(row))

    def _has_paths(self) -> bool:
        return f"{self._column}.path" in self._table.flatten().column_names


def _ids(rows: Sequence[dict[str, str]], names: Sequence[str]) -> list[str]:
    """The rows' own ids where all are good and different; else their file names, made safe; else numbers."""
    own = [row.get("id", "") for row in rows]
    if all(map(is_id, own)) and max(Counter(map(str.casefold, own)).values(), default=0) <= 1:
        return own
    digits = len(str(len(rows)))
    known = ids_of(name for name, n in Counter(names).items() if name and n == 1)
    ids = [known.get(name, f"row-{number:0{digits}d}") for number, name in enumerate(names)]
    doubled = {name for name, n in Counter(map(str.casefold, ids)).items() if n > 1}
    return [f"row-{n:0{digits}d}-{n}" if name.casefold() in doubled else name for n, name in enumerate(ids)]


def _has_attributes(row: dict[str, str]) -> bool:
    return any(value and plain(column) in ATTRIBUTES for column, value in row.items())


def _product(number: int, product_id: str, row: dict[str, str], caption: str | None, photos: _Photos) -> Product:
    return Product(
        product_id,
        attributes_of({name: value for name, value in row.items() if name != caption}),
        partial(photos.load, number),
        origin=f"row {number}",
        caption=(row[caption] or None) if caption else None,
        digest=partial(photos.digest, number),
    )


def _notes(num_silent: int) -> list[str]:
    return [f"{count(num_silent, 'row')} without a caption left out"] if num_silent else []

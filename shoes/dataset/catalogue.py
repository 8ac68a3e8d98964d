"""Read the downloaded catalogue: styles.csv and images/."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from shoes.dataset.captioned import MISSING_LIST, UNREADABLE_LIST
from shoes.dataset.layouts import IMAGES, Catalogue
from shoes.dataset.products import Holdings, Product
from shoes.dataset.records import visible_files
from shoes.dataset.selection import select
from shoes.dataset.styles import STYLES, Styles, attributes, read_styles
from shoes.dataset.wording import count
from shoes.errors import DataError, Problem
from shoes.spec import DataSpec
from shoes.storage import sha256


def read_catalogue(layout: Catalogue, spec: DataSpec) -> Holdings:
    """The products that pass the spec's filters and have a photo.

    Lines that can't be read and rows without a photo are counted in the notes and listed.

    Raises:
        DataError: styles.csv is no such table, no row passes the filters, or none has a photo.
    """
    styles = read_styles(layout.folder / STYLES)
    rows = select(styles.rows, lambda row: row, styles.columns, spec.filters, where=STYLES)
    photos = _photos(layout.folder / IMAGES)
    products = tuple(_product(row, photos[row["id"]]) for row in rows if row["id"] in photos)
    missing = sorted(f"{IMAGES}/{row['id']}.jpg" for row in rows if row["id"] not in photos)
    if not products:
        what = f"holds no photo of the {count(len(rows), 'product')} that pass the filters"
        fix = f"put the photos there, the first as {missing[0]}"
        raise DataError([Problem(str(layout.folder / IMAGES), what, fix)])
    return Holdings(
        products,
        _provenance(layout, styles, spec, num_rows=len(rows), num_missing=len(missing)),
        tuple(_notes(layout, styles, missing)),
        _listings(styles, missing),
    )


def _photos(folder: Path) -> dict[str, Path]:
    """Photos by product id; of two for one product the first by name."""
    from shoes.dataset.photos import SUFFIXES

    found: dict[str, Path] = {}
    for path in visible_files(folder):
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(path.stem, path)
    return found


def _product(row: Mapping[str, str], photo: Path) -> Product:
    from shoes.dataset.photos import read_photo

    return Product(
        row["id"],
        attributes(row),
        partial(read_photo, photo),
        origin=f"{IMAGES}/{photo.name}",
        digest=partial(sha256, photo),
    )


def _provenance(
    layout: Catalogue, styles: Styles, spec: DataSpec, *, num_rows: int, num_missing: int
) -> dict[str, Any]:
    return {
        "kind": "catalogue",
        "name": layout.folder.resolve().name,
        "styles_sha256": styles.digest,
        "filters": dict(spec.filters),
        "products": len(styles.rows),
        "products_that_pass": num_rows,
        "recovered_lines": styles.num_recovered,
        "unreadable_lines": len(styles.unreadable),
        "missing_images": num_missing,
    }


def _notes(layout: Catalogue, styles: Styles, missing: Sequence[str]) -> list[str]:
    notes = [f"the catalogue was found in {layout.nested_in}/"] if layout.nested_in else []
    if styles.num_recovered:
        notes.append(f"{count(styles.num_recovered, 'line')} with extra commas recovered")
    if styles.unreadable:
        left_out = count(len(styles.unreadable), "line")
        notes.append(f"{left_out} of {STYLES} left out (listed in {UNREADABLE_LIST})")
    if missing:
        notes.append(f"{count(len(missing), 'row')} without a photo (listed in {MISSING_LIST})")
    return notes


def _listings(styles: Styles, missing: Sequence[str]) -> dict[str, str]:
    listings = {MISSING_LIST: missing, UNREADABLE_LIST: styles.unreadable}
    return {name: "".join(f"{line}\n" for line in lines) for name, lines in listings.items() if lines}

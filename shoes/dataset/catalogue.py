"""Import the downloaded catalogue: styles.csv and images/."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from shoes.dataset.products import Product
from shoes.dataset.records import visible_files
from shoes.dataset.styles import STYLES, Styles, attributes, read_styles, select
from shoes.dataset.wording import count
from shoes.dataset.writer import target_problems, write_data_set
from shoes.errors import DataError, Problem
from shoes.reports import DataReport
from shoes.spec import DataSpec

IMAGES = "images"
MISSING_LIST = "missing_images.txt"
UNREADABLE_LIST = "unreadable_lines.txt"


def import_catalogue(
    source: Path,
    target: Path,
    spec: DataSpec,
    *,
    resolution: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> DataReport:
    """Make the data set `target` of the products in `source` that pass the spec's filters.

    What is left out (lines that can't be read, rows without a photo, damaged photos) is counted in the
    report's notes and listed in the data set. DataError holds everything that makes the source unusable;
    then nothing is written.
    """
    if problems := [*_source_problems(source), *_place_problems(source, target), *target_problems(target)]:
        raise DataError(problems)
    styles = read_styles(source / STYLES)
    rows = select(styles, spec.filters)
    photos = _photos(source / IMAGES)
    products = [_product(row, photos[row["id"]]) for row in rows if row["id"] in photos]
    missing = sorted(f"{IMAGES}/{row['id']}.jpg" for row in rows if row["id"] not in photos)
    if not products:
        what = f"holds no photo of the {count(len(rows), 'product')} that pass the filters"
        fix = f"put the photos there, the first as {missing[0]}"
        raise DataError([Problem(str(source / IMAGES), what, fix)])
    return write_data_set(
        target,
        products,
        spec,
        resolution=resolution,
        source=_provenance(source, styles, spec, num_rows=len(rows), num_missing=len(missing)),
        notes=_notes(styles, missing),
        listings=_listings(styles, missing),
        on_progress=on_progress,
    )


def require_source(source: Path) -> None:
    """DataError, with all the reasons, when `source` is no downloaded catalogue; nothing is read yet."""
    if problems := _source_problems(source):
        raise DataError(problems)


def _source_problems(source: Path) -> list[Problem]:
    fix = f"give the folder of the downloaded catalogue, which holds {STYLES} and {IMAGES}/"
    if not source.is_dir():
        return [Problem(str(source), "is no folder", fix)]
    problems = []
    if not (source / STYLES).is_file():
        problems.append(Problem(str(source / STYLES), "is missing", fix))
    if not (source / IMAGES).is_dir():
        problems.append(Problem(str(source / IMAGES), "is missing", fix))
    return problems


def _place_problems(source: Path, target: Path) -> list[Problem]:
    """A data set replaces its folder, so the source must not lie in it."""
    if target.resolve() in (source.resolve(), *source.resolve().parents):
        return [Problem(str(target), "holds the catalogue itself", "choose another folder by --out")]
    return []


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

    return Product(row["id"], attributes(row), partial(read_photo, photo), origin=f"{IMAGES}/{photo.name}")


def _provenance(source: Path, styles: Styles, spec: DataSpec, *, num_rows: int, num_missing: int) -> dict[str, Any]:
    return {
        "name": source.resolve().name,
        "styles_sha256": styles.digest,
        "filters": dict(spec.filters),
        "products": len(styles.rows),
        "products_that_pass": num_rows,
        "recovered_lines": styles.num_recovered,
        "unreadable_lines": len(styles.unreadable),
        "missing_images": num_missing,
    }


def _notes(styles: Styles, missing: Sequence[str]) -> list[str]:
    notes = []
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

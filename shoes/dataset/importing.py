"""Import a data set from wherever it is: a folder, the Hub or Kaggle."""

from collections.abc import Callable
from pathlib import Path

from shoes.dataset.addresses import Address, HubAddress, KaggleAddress, parse_address
from shoes.dataset.captioned import read_captioned
from shoes.dataset.catalogue import read_catalogue
from shoes.dataset.layouts import Catalogue, num_photos, recognise
from shoes.dataset.products import Holdings
from shoes.dataset.splits import LEAST_DATA_SET, LEAST_PHOTOS
from shoes.dataset.wording import count
from shoes.dataset.writer import target_problems, write_data_set
from shoes.device import kept_awake
from shoes.errors import DataError, Problem
from shoes.reports import DataReport
from shoes.settings import load_settings
from shoes.spec import DataSpec


@kept_awake()
def import_data_set(
    source: str | Path,
    target: Path,
    spec: DataSpec,
    *,
    resolution: int,
    downloads: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> DataReport:
    """Make the data set `target` of the photos in `source` that pass the spec's filters.

    What is left out (lines that can't be read, rows without a photo, photos without a caption, damaged
    photos) is counted in the report's notes and listed in the data set. `downloads` is where data sets of
    the Hub and Kaggle are kept; it may be deleted. Nothing means the cache of this machine's settings.

    Raises:
        DataError: everything that makes the source or the target unusable; then nothing is written.
        TransientError: the Hub or Kaggle does not answer.
        Busy: another process imports to `target`.
    """
    address = parse_address(source)
    if problems := [*_place_problems(address, target), *target_problems(target)]:
        raise DataError(problems)
    holdings = _read(address, spec, downloads or load_settings().cache / "downloads")
    return write_data_set(
        target,
        holdings.products,
        spec,
        resolution=resolution,
        source=holdings.provenance,
        notes=holdings.notes,
        listings=holdings.listings,
        on_progress=on_progress,
    )


def require_source(source: str | Path) -> None:
    """DataError when `source` is no source of a data set.

    Of a folder the layout is looked at, and that there are photos enough for three splits; of a data set on the Hub
    or Kaggle only the id's form. No photo is read, and no network asked.
    """
    address = parse_address(source)
    if not isinstance(address, Path):
        return
    number = num_photos(recognise(address), LEAST_DATA_SET)
    if number < LEAST_DATA_SET:
        least = f"{LEAST_DATA_SET} are the least: {LEAST_PHOTOS} each to train on, to choose by and to judge by"
        what = f"holds {count(number, 'photo')}, and {least}"
        raise DataError([Problem(str(address), what, "give more photos, no two of them alike")])


def _read(address: Address, spec: DataSpec, downloads: Path) -> Holdings:
    if isinstance(address, HubAddress):
        return _read_hub(address, spec, downloads)
    if isinstance(address, KaggleAddress):
        from shoes.dataset.kaggle import download

        folder, version = download(address, downloads)
        return _named(read_folder(folder, spec), f"kaggle:{address.handle}", version)
    return read_folder(address, spec)


def _read_hub(address: HubAddress, spec: DataSpec, downloads: Path) -> Holdings:
    from shoes.dataset.hub import download

    found = download(address, downloads)
    if not found.tables:
        return _named(read_folder(found.folder, spec), address.repo_id, found.commit)
    from shoes.dataset.rows import read_rows

    return read_rows(found, address, spec, downloads / "datasets")


def read_folder(folder: Path, spec: DataSpec) -> Holdings:
    """What a folder holds, whatever its layout.

    Raises:
        DataError: the layout is not understood, or nothing in it can be used.
    """
    layout = recognise(folder)
    return read_catalogue(layout, spec) if isinstance(layout, Catalogue) else read_captioned(layout, spec)


def _named(holdings: Holdings, name: str, revision: str) -> Holdings:
    """A download is known by its address, not by the folder of a cache."""
    provenance = {**holdings.provenance, "name": name, "revision": revision}
    return Holdings(holdings.products, provenance, holdings.notes, holdings.listings)


def _place_problems(address: Address, target: Path) -> list[Problem]:
    """A data set replaces its folder, so the source must not lie in it."""
    if isinstance(address, Path) and target.resolve() in (address.resolve(), *address.resolve().parents):
        return [Problem(str(target), "holds the source itself", "choose another folder by --out")]
    return []

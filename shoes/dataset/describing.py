"""Where descriptions of data sets are kept. Light: what makes them loads when used."""

from pathlib import Path

from filelock import FileLock


def write_description(data_set: Path, descriptions: Path) -> Path:
    """The folder in `descriptions` that describes a verified data set, made when it is not there yet.

    Raises:
        DataError: it is no data set.
    """
    from shoes.dataset import page
    from shoes.storage import MANIFEST, sha256

    place = page.default_place(descriptions, sha256(data_set / MANIFEST))
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_name(f".{place.name}.lock")):  # two runs of one data set may begin together
        page.write_page(data_set, place)
    return place

"""Whether models are on this machine already."""

from pathlib import Path
from typing import TYPE_CHECKING

from shoes.errors import ModelError
from shoes.model.record import read_record, record_file
from shoes.model.single.conversion import require_plan
from shoes.model.single.place import Place, place_of
from shoes.model.wanted import Wanted, is_local, is_single_file
from shoes.settings import Settings

if TYPE_CHECKING:
    from shoes.model.single.header import Header
    from shoes.model.single.parts import Plan


def is_here(wanted: Wanted, settings: Settings) -> bool:
    """Nothing is left to download or to convert; whether the files are whole is another question.

    Raises:
        ModelError: the record of an earlier download can't be read.
    """
    if is_single_file(wanted, settings):
        return _is_converted(wanted, settings)
    return is_local(wanted, settings) or read_record(record_file(wanted, settings)) is not None


def local_path(wanted: Wanted, settings: Settings) -> Path | None:
    """Place of a model that is named by its path, a folder or a file; None for one of the Hub."""
    return settings.locate(wanted.name) if is_local(wanted, settings) else None


def model_folder(wanted: Wanted, settings: Settings) -> Path | None:
    """Folder in diffusers' format of a model that is named by its path; None for one of the Hub, or not converted."""
    if not is_single_file(wanted, settings):
        return local_path(wanted, settings)
    place = _place(wanted, settings)
    return place.folder if place is not None and place.source is not None else None


def conversion_of(wanted: Wanted, settings: Settings) -> "tuple[Header, Plan] | None":
    """How a single file is going to be converted; None for all that need not be, or can't."""
    if not is_single_file(wanted, settings) or _is_converted(wanted, settings):
        return None
    try:
        return require_plan(settings.locate(wanted.name))
    except ModelError:
        return None


def _is_converted(wanted: Wanted, settings: Settings) -> bool:
    """Nothing is to be made of a file any more, or nothing can be."""
    place = _place(wanted, settings)
    return place is None or place.source is not None


def _place(wanted: Wanted, settings: Settings) -> Place | None:
    """None for a file that is no model: what is wrong with it is another line's."""
    try:
        return place_of(wanted, settings)
    except ModelError:
        return None

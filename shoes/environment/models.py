"""Whether models are on this machine already."""

from pathlib import Path

from shoes.model.record import read_record, record_file
from shoes.model.wanted import Wanted, is_local
from shoes.settings import Settings


def is_here(wanted: Wanted, settings: Settings) -> bool:
    """Nothing is left to download; whether the files are whole is another question.

    Raises:
        ModelError: the record of an earlier download can't be read.
    """
    return is_local(wanted, settings) or read_record(record_file(wanted, settings)) is not None


def local_folder(wanted: Wanted, settings: Settings) -> Path | None:
    """Folder of a model that is named by its path; None for one of the Hub."""
    return settings.locate(wanted.name) if is_local(wanted, settings) else None

"""Where the folder that is made of a single file is kept, and how it is found again: by the file's SHA-256."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from shoes import clock
from shoes.device import kept_awake
from shoes.errors import ModelError, NotReady, Problem
from shoes.model.record import Record, shipped_record
from shoes.model.single.conversion import converted_bytes, require_plan, write_folder
from shoes.model.single.header import read_header
from shoes.model.single.kinds import refusals
from shoes.model.single.prediction import said
from shoes.model.wanted import Wanted
from shoes.progress import progress
from shoes.reports import Report
from shoes.settings import Settings
from shoes.storage import MANIFEST, fingerprint, is_disk_full, new_folder, pretty_json, sha256, write_text

log = logging.getLogger(__name__)
PREFIX = "single-file-"
SOURCE = "source.json"
"""What a folder was made of."""
SPARE_BYTES = 200_000_000
_SURE_AFTER_NS = 3 * 10**9
"""Times of files are in steps of up to two seconds: a change within them could go unseen."""


class Source(Report):
    """The file that a folder was made of."""

    name: str
    """Without its folder."""
    sha256: str
    notes: tuple[str, ...]
    """What was decided in the conversion, for people."""


class _Seen(Report):
    """A file's hash, and by what it is known again without being read."""

    sha256: str
    marks: tuple[int, ...]
    """Size, times of its last change of content and of anything, in ns, and inode."""
    taken_ns: int


@dataclass(frozen=True)
class Place:
    """A single file, and the folder that is or will be made of it."""

    file: Path
    sha256: str
    folder: Path

    @property
    def source(self) -> Source | None:
        """What the folder was made of; None while it is not there or not whole."""
        if not (self.folder / MANIFEST).is_file():
            return None
        try:
            found = Source.model_validate_json((self.folder / SOURCE).read_bytes())
        except (OSError, ValidationError):
            return None
        return found if found.sha256 == self.sha256 else None


def place_of(wanted: Wanted, settings: Settings) -> Place:
    """The place of a model whose name is a file.

    Raises:
        ModelError: it is no base model, or no safetensors file that can be read.
    """
    file = settings.locate(wanted.name)
    if wanted.kind != "diffusion":
        fix = "name a model on the Hub such as owner/name, or a folder with its config.json"
        raise ModelError([Problem(str(file), "is a file, and what judges pictures is a folder", fix)])
    header = read_header(file)
    if problems := refusals(header, str(file)):
        raise ModelError(problems)
    stated = said(file, header)
    digest = _sha256(file, settings)
    kind = f"-{stated.prediction}" if stated else ""
    return Place(file, digest, settings.models / f"{PREFIX}{digest[:16]}{kind}")


def converted(wanted: Wanted, settings: Settings) -> tuple[Path, Record, bool]:
    """The folder of a single file, its record, and whether it was made just now.

    Raises:
        ModelError: the file is no checkpoint that can be trained.
        NotReady: the disk has no room.
    """
    place = place_of(wanted, settings)
    settings.models.mkdir(parents=True, exist_ok=True)
    with FileLock(settings.models / f"{place.folder.name}.lock"):  # one process converts, another waits for it
        is_new = place.source is None
        if is_new:
            _convert(place)
    return place.folder, record_of(place, wanted), is_new


def record_of(place: Place, wanted: Wanted) -> Record:
    """The files of a converted model, by the manifest that was written with them."""
    manifest, source = shipped_record(wanted, place.folder), place.source
    assert manifest is not None, "a converted folder has a manifest"
    assert source is not None, "a converted folder says what it was made of"
    files = {path: manifest.files[path] for path in wanted.select(manifest.files)}
    sources = dict.fromkeys(files, f"the conversion of {place.file.name}")
    return Record(model=wanted.name, files=files, sources=sources, notes=source.notes)


def find_converted(base_fingerprint: str, wanted: Wanted, settings: Settings) -> Path | None:
    """The folder with the model of that fingerprint, whatever became of the file that it was made of."""
    for folder in sorted(settings.models.glob(f"{PREFIX}*")):
        if (found := shipped_record(wanted, folder)) is not None:
            files = {path: found.files[path] for path in wanted.select(found.files)}
            if Record(model=wanted.name, files=files).fingerprint == base_fingerprint:
                return folder
    return None


def _convert(place: Place) -> None:
    from safetensors import SafetensorError

    header, plan = require_plan(place.file)
    needed = converted_bytes(header, plan) + SPARE_BYTES
    free = shutil.disk_usage(place.folder.parent).free
    fix = "free some space, or set SHOES_DATA_DIR to a folder on a larger disk"
    if free < needed:
        text = f"{place.file.name} needs {needed / 1024**3:.1f} GB here and {free / 1024**3:.1f} GB are free"
        raise NotReady([Problem(str(place.folder.parent), text, fix)])
    log.info("converting %s to %s, once", place.file, place.folder)
    try:
        with kept_awake(), progress("converting", "parts") as report, new_folder(place.folder) as folder:
            notes = write_folder(place.file, header, plan, folder, report)
            source = Source(name=place.file.name, sha256=place.sha256, notes=notes)
            (folder / SOURCE).write_text(pretty_json(source), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        if is_disk_full(error):
            raise NotReady([Problem(str(place.folder.parent), "the disk is full; nothing was kept", fix)]) from error
        raise


def _sha256(file: Path, settings: Settings) -> str:
    """SHA-256 of a file; one that was not touched since it was last read keeps its own, as git does it."""
    memory = settings.models / "manifests" / f"{fingerprint('single file', str(file))}.json"
    found, taken_ns = file.stat(), int(clock.now().timestamp() * 1e9)
    marks = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    try:
        seen = _Seen.model_validate_json(memory.read_bytes())
    except (OSError, ValidationError):
        seen = None
    if seen is not None and seen.marks == marks and seen.taken_ns - max(marks[1:3]) > _SURE_AFTER_NS:
        return seen.sha256
    digest = sha256(file)
    write_text(memory, pretty_json(_Seen(sha256=digest, marks=marks, taken_ns=taken_ns)))
    return digest

"""A model's files: found or downloaded, and equal to what they should be before anything loads them.

The expected hashes come from the project (`known`), from what the Hub announces for the commit, from the
manifest beside a shipped model, or, for a folder that has none, from its first use. They are kept in the data
folder, every later start compares with them, and no later start asks the Hub.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from shoes.errors import ModelError, Problem
from shoes.model import contents
from shoes.model.contents import Contents
from shoes.model.download import download, require_space
from shoes.model.hub import Announcement, announce
from shoes.model.known import KNOWN_HASHES
from shoes.model.presence import missing_shards, pickles, unusable
from shoes.model.record import (
    Record,
    check_file,
    findings_file,
    keep_record,
    read_record,
    record_file,
    shipped_record,
)
from shoes.model.single import place as single
from shoes.model.single.conversion import require_plan
from shoes.model.wanted import Wanted, clip_files, diffusion_files, files_in, is_local, is_single_file
from shoes.reports import FileCheck, ModelCheck, ModelReport
from shoes.settings import Settings
from shoes.spec.names import names_weights
from shoes.storage import damage, remove_path, sha256

__all__ = ["Wanted", "check", "clip_files", "diffusion_files", "fetch", "inspect", "is_local", "repair", "require_path"]

log = logging.getLogger(__name__)
_FIRST_USE = "recorded now, at the first use"


def fetch(wanted: Wanted, settings: Settings) -> ModelReport:
    """The model's files on this machine, verified; downloaded first when they are not here.

    Raises:
        ModelError: files are missing, damaged or pickled, or the model is of another architecture.
        NotReady: the disk has no room for it.
        TransientError: the Hub could not be reached; what has arrived is kept.
    """
    started = time.monotonic()
    wanted = _as_kept(wanted, settings)
    folder, record, is_new = _find(wanted, settings)
    files = [check_file(record, folder, path) for path in record.files]
    _require(_damage(wanted, folder, files, settings) or unusable(wanted, folder, list(record.files)))
    _require(_defects(wanted, folder, _look_inside(wanted, folder, record, settings), settings))
    if is_new and not record.sources:
        _keep_first_use(wanted, folder, record, settings)
    return _report(wanted, folder, record, is_new=is_new, seconds=time.monotonic() - started)


def fetch_converted(base_fingerprint: str, wanted: Wanted, settings: Settings) -> Path | None:
    """The folder that was made of a single file, found by its fingerprint; None where none is there and whole."""
    if not names_weights(wanted.name):
        return None
    wanted = diffusion_files(wanted.name, None, None)
    folder = single.find_converted(base_fingerprint, wanted, settings)
    return None if folder is None or damage(folder) else folder


def repair(wanted: Wanted, settings: Settings) -> ModelReport:
    """As `fetch`, after removing what is damaged of a downloaded or converted model; folders are never changed."""
    if is_single_file(wanted, settings):
        found = check(wanted, settings)
        if found.path is not None and any(file.status != "OK" for file in found.files):
            log.warning("%s is damaged: %s is converted again", found.path, found.name)
            remove_path(found.path)
    elif not is_local(wanted, settings):
        found = check(wanted, settings)
        for file in found.files:
            if file.status == "damaged" and found.path is not None:
                log.warning("%s is damaged: it is downloaded again", found.path / file.path)
                (found.path / file.path).unlink()
    return fetch(wanted, settings)


def check(wanted: Wanted, settings: Settings) -> ModelCheck:
    """Every file of a model as it is now, without asking the Hub.

    Raises:
        ModelError: a manifest or record can't be read, there is no such folder, or it is no model.
    """
    wanted = _as_kept(wanted, settings)
    if is_single_file(wanted, settings) and (place := single.place_of(wanted, settings)).source is None:
        return _unconverted(wanted, place)
    found = _kept_record(wanted, settings)
    if found is None:
        text = f"{wanted.name} is not here yet: `shoes model fetch` downloads it"
        return ModelCheck(name=wanted.name, path=None, files=(), problems=(text,))
    folder, record, _ = found
    files = tuple(check_file(record, folder, path) for path in sorted(record.files))
    problems = _damage(wanted, folder, files, settings) or unusable(wanted, folder, list(record.files))
    return ModelCheck(name=wanted.name, path=folder, files=files, problems=tuple(map(str, problems)))


def inspect(checked: ModelCheck, wanted: Wanted, settings: Settings, *, most_bytes: float = float("inf")) -> ModelCheck:
    """What `check` found, and what is wrong with the content of files that are whole: looked for once, then remembered.

    Args:
        most_bytes: the values in larger files are not read.
    """
    wanted = _as_kept(wanted, settings)
    found = None if checked.problems else _kept_record(wanted, settings)
    if found is None:
        return checked
    folder, record, is_new = found
    inside = _look_inside(wanted, folder, record, settings, most_bytes=most_bytes)
    if is_new and inside.values_read and not inside.defects:
        _keep_first_use(wanted, folder, record, settings)
    problems = tuple(map(str, _defects(wanted, folder, inside, settings)))
    update = {"problems": problems, "defects": inside.defects, "values_read": inside.values_read}
    return checked.model_copy(update=update)


def _kept_record(wanted: Wanted, settings: Settings) -> tuple[Path, Record, bool] | None:
    """A model that is here, its record, and whether that was made just now; nothing for one that is on the Hub only."""
    if is_single_file(wanted, settings):
        place = single.place_of(wanted, settings)
        return None if place.source is None else (place.folder, single.record_of(place, wanted), False)
    if is_local(wanted, settings):
        return _local_record(wanted, settings)
    kept = read_record(record_file(wanted, settings))
    return None if kept is None else (_downloaded_to(wanted, str(kept.commit), settings), kept, False)


def _as_kept(wanted: Wanted, settings: Settings) -> Wanted:
    """What is looked for on the disk: of what a single file becomes there is one variant."""
    is_base = wanted.kind == "diffusion" and is_single_file(wanted, settings)
    return diffusion_files(wanted.name, None, None) if is_base else wanted


def _find(wanted: Wanted, settings: Settings) -> tuple[Path, Record, bool]:
    if is_single_file(wanted, settings):
        return single.converted(wanted, settings)
    return _local_record(wanted, settings) if is_local(wanted, settings) else _hub_record(wanted, settings)


def _unconverted(wanted: Wanted, place: single.Place) -> ModelCheck:
    """A single file that was not used yet, but can be by what its header says."""
    require_plan(place.file)
    text = f"{wanted.name} is not converted yet: `shoes model fetch` does it once, or the first run"
    return ModelCheck(name=wanted.name, path=None, files=(), problems=(text,))


def require_path(wanted: Wanted, settings: Settings) -> None:
    """A model whose name can only be a path is there.

    Raises:
        ModelError: it is not.
    """
    if is_local(wanted, settings) and not is_single_file(wanted, settings):
        _local_folder(wanted, settings)


def _local_folder(wanted: Wanted, settings: Settings) -> Path:
    folder = settings.locate(wanted.name)
    if not folder.is_dir():
        kind = "file" if names_weights(wanted.name) else "folder"
        fix = "correct the path, or name a model on the Hub such as owner/name"
        raise ModelError([Problem(str(folder), f"there is no such {kind}", fix)])
    return folder


def _local_record(wanted: Wanted, settings: Settings) -> tuple[Path, Record, bool]:
    """A model's folder, its record, and whether that was made just now and is still to be kept."""
    folder = _local_folder(wanted, settings)
    kept = shipped_record(wanted, folder) or read_record(record_file(wanted, settings, folder))
    if kept is not None:
        return folder, kept, False
    available = files_in(folder)
    _require(unusable(wanted, folder, available))
    hashes = {path: sha256(folder / path) for path in wanted.among(available).select(available)}
    sizes = {path: (folder / path).stat().st_size for path in hashes}
    return folder, Record(model=wanted.name, files=hashes, num_bytes=sizes), True


def _keep_first_use(wanted: Wanted, folder: Path, record: Record, settings: Settings) -> None:
    """Hold a folder to the files that it has: only when they are good, or what mends them would count as damage."""
    place = record_file(wanted, settings, folder)
    keep_record(place, record)
    log.info("%s came without a manifest: its hashes are recorded in %s", folder, place)


def _hub_record(wanted: Wanted, settings: Settings) -> tuple[Path, Record, bool]:
    """The same of a model of the Hub, all of whose files are here then; what is missing is downloaded."""
    place = record_file(wanted, settings)
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):  # one process downloads, another waits for it
        kept = read_record(place)
        if kept is None:
            record = _first_download(wanted, settings)
            keep_record(place, record)
            return _downloaded_to(wanted, str(record.commit), settings), record, True
        folder = _downloaded_to(wanted, str(kept.commit), settings)
        missing = [path for path in kept.files if not (folder / path).is_file()]
        if missing:
            announced = _known_first(announce(wanted.name, kept.commit))
            _require_announced(wanted, announced, missing)
            require_space(announced, missing, folder)
            download(announced, missing, folder)
        return folder, kept, False


def _first_download(wanted: Wanted, settings: Settings) -> Record:
    announced = _known_first(announce(wanted.name, wanted.revision))
    folder = _downloaded_to(wanted, announced.commit, settings)
    paths = wanted.among(announced.files).select(announced.files)
    require_space(announced, paths, folder)
    # the configs tell another architecture, before gigabytes of weights are on their way
    configs = [path for path in paths if not path.endswith(".safetensors")]
    download(announced, configs, folder)
    available = list(announced.files)
    _require(unusable(wanted, folder, available) + missing_shards(wanted, folder, available))
    download(announced, paths, folder)
    sources = {path: _source(announced, path) for path in paths}
    return Record(
        model=wanted.name,
        revision=wanted.revision,
        commit=announced.commit,
        files={path: announced.files[path].sha256 or sha256(folder / path) for path in paths},
        sources=sources,
        num_bytes={path: announced.files[path].size for path in paths},
    )


def _source(announced: Announcement, path: str) -> str:
    is_known = path in KNOWN_HASHES.get(announced.commit, {})
    return "the project's manifest" if is_known else announced.files[path].source


def _known_first(announced: Announcement) -> Announcement:
    """The announcement, when it agrees with what the project knows of the commit.

    Raises:
        ModelError: it does not: what answers serves other files under the same commit.
    """
    known = KNOWN_HASHES.get(announced.commit, {})
    wrong = [
        path for path, digest in known.items() if path in announced.files and announced.files[path].sha256 != digest
    ]
    if wrong:
        fix = "check HF_ENDPOINT: this server does not serve the published model"
        text = "is announced with another SHA-256 than the published file has"
        raise ModelError([Problem(f"{announced.name}/{path}", text, fix) for path in wrong])
    return announced


def _require_announced(wanted: Wanted, announced: Announcement, paths: Sequence[str]) -> None:
    gone = [path for path in paths if path not in announced.files]
    if gone:
        fix = "restore it, or name another revision of the model"
        raise ModelError([Problem(f"{wanted.name}/{path}", "is on the Hub no more", fix) for path in gone])


def _downloaded_to(wanted: Wanted, commit: str, settings: Settings) -> Path:
    variant = f"-{wanted.variant}" if wanted.variant else ""
    return settings.models / f"{wanted.name.replace('/', '--')}-{commit[:12]}{variant}"


def _require(problems: Sequence[Problem]) -> None:
    if problems:
        raise ModelError(problems)


def _damage(wanted: Wanted, folder: Path, files: Sequence[FileCheck], settings: Settings) -> list[Problem]:
    fix = "restore it from where the folder came from"
    if is_single_file(wanted, settings):
        fix = "`shoes model fetch` converts the file again"
    elif not is_local(wanted, settings):
        fix = "`shoes model fetch` downloads what is damaged again, and nothing else"
    texts = {"missing": "is missing", "damaged": "has other bytes than it should have"}
    problems = [Problem(str(folder / file.path), texts[file.status], fix) for file in files if file.status != "OK"]
    is_weight_missing = any(file.status == "missing" and file.path.endswith(".safetensors") for file in files)
    return problems + (pickles(wanted, files_in(folder)) if is_weight_missing else [])


def _look_inside(
    wanted: Wanted, folder: Path, record: Record, settings: Settings, *, most_bytes: float = float("inf")
) -> Contents:
    files = contents.Files(wanted.kind, folder, record.files)
    return contents.Inspection(files, findings_file(wanted, settings, folder), most_bytes).run()


def _defects(wanted: Wanted, folder: Path, inside: Contents, settings: Settings) -> list[Problem]:
    came_alone = is_single_file(wanted, settings)
    origin: contents.Origin = "file" if came_alone else "folder" if is_local(wanted, settings) else "Hub"
    return contents.problems(folder, inside.defects, origin)


def _report(wanted: Wanted, folder: Path, record: Record, *, is_new: bool, seconds: float) -> ModelReport:
    return ModelReport(
        name=wanted.name,
        path=folder,
        fingerprint=record.fingerprint,
        num_files=len(record.files),
        num_bytes=sum((folder / name).stat().st_size for name in record.files),
        verified_against=_verified_against(record, is_new),
        seconds=seconds,
        commit=record.commit,
        notes=_notes(wanted, record),
    )


def _verified_against(record: Record, is_new: bool) -> str:
    if not record.sources:
        return _FIRST_USE if is_new else "what was recorded at the first use"
    if record.commit is None or is_new:
        return record.summary()
    return f"the record of the first download: {record.summary()}"


def _notes(wanted: Wanted, record: Record) -> tuple[str, ...]:
    if record.notes:
        return record.notes
    if record.commit is None or record.revision == record.commit:
        return ()
    asked = wanted.revision or "main"
    return (
        f"{asked} of {wanted.name} was commit {record.commit} when it was first downloaded, and is so from now on; "
        f"name a commit as the revision to change it",
    )

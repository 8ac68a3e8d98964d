"""A model's files: found or downloaded, and equal to what they should be before anything loads them.

The expected hashes come from the project (`known`), from what the Hub announces for the commit, from the
manifest beside a shipped model, or, for a folder that has none, from its first use. They are kept in the data
folder, every later start compares with them, and no later start asks the Hub.
"""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from shoes.errors import ModelError, Problem
from shoes.model import architecture
from shoes.model.download import download, require_space
from shoes.model.hub import Announcement, announce
from shoes.model.known import KNOWN_HASHES
from shoes.model.record import Record, check_file, keep_record, read_record, record_file, shipped_record
from shoes.model.single import place as single
from shoes.model.single.conversion import require_plan
from shoes.model.wanted import Wanted, clip_files, diffusion_files, files_in, is_local, is_single_file
from shoes.reports import FileCheck, ModelCheck, ModelReport
from shoes.settings import Settings
from shoes.spec.names import PICKLES, names_weights
from shoes.storage import damage, remove_path, sha256

__all__ = ["Wanted", "check", "clip_files", "diffusion_files", "fetch", "is_local", "repair"]

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
    _require(_damage(wanted, folder, files, settings) or _unusable(wanted, folder, list(record.files)))
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
        ModelError: a manifest or record can't be read, or there is no such folder.
    """
    wanted = _as_kept(wanted, settings)
    if is_single_file(wanted, settings):
        place = single.place_of(wanted, settings)
        if place.source is None:
            return _unconverted(wanted, place)
        folder, record = place.folder, single.record_of(place, wanted)
    elif is_local(wanted, settings):
        folder, record, _ = _local_record(wanted, settings)
    else:
        kept = read_record(record_file(wanted, settings))
        if kept is None:
            text = f"{wanted.name} is not here yet: `shoes model fetch` downloads it"
            return ModelCheck(name=wanted.name, path=None, files=(), problems=(text,))
        record, folder = kept, _downloaded_to(wanted, str(kept.commit), settings)
    files = tuple(check_file(record, folder, path) for path in sorted(record.files))
    problems = _damage(wanted, folder, files, settings) or _unusable(wanted, folder, list(record.files))
    return ModelCheck(name=wanted.name, path=folder, files=files, problems=tuple(map(str, problems)))


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


def _local_folder(wanted: Wanted, settings: Settings) -> Path:
    folder = settings.locate(wanted.name)
    if not folder.is_dir():
        kind = "file" if names_weights(wanted.name) else "folder"
        fix = "correct the path, or name a model on the Hub such as owner/name"
        raise ModelError([Problem(str(folder), f"there is no such {kind}", fix)])
    return folder


def _local_record(wanted: Wanted, settings: Settings) -> tuple[Path, Record, bool]:
    """A model's folder, its record, and whether that was made just now."""
    folder = _local_folder(wanted, settings)
    place = record_file(wanted, settings, folder)
    kept = shipped_record(wanted, folder) or read_record(place)
    if kept is not None:
        return folder, kept, False
    _require(_unusable(wanted, folder, files_in(folder)))
    hashes = {path: sha256(folder / path) for path in wanted.select(files_in(folder))}
    sizes = {path: (folder / path).stat().st_size for path in hashes}
    record = Record(model=wanted.name, files=hashes, num_bytes=sizes)
    keep_record(place, record)
    log.info("%s came without a manifest: its hashes are recorded in %s", folder, place)
    return folder, record, True


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
    paths = wanted.select(announced.files)
    require_space(announced, paths, folder)
    # the configs tell another architecture, before gigabytes of weights are on their way
    configs = [path for path in paths if path not in wanted.weights or path.endswith(".json")]
    download(announced, configs, folder)
    _require(_unusable(wanted, folder, list(announced.files)))
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


def _unusable(wanted: Wanted, folder: Path, available: Sequence[str]) -> list[Problem]:
    """Why these files are no model that can be used: another architecture, or files that are not there.

    Args:
        available: files that are in the folder, or that the Hub has.
    """
    if wanted.kind == "clip":
        problems = architecture.clip_problems(folder)
    elif wanted.kind == "vision":
        problems = architecture.vision_problems(folder)
    elif "model_index.json" in available:
        problems = architecture.pipeline_problems(folder)
        if _is_another_class(folder):  # then which files it lacks is no news
            return problems
    else:
        problems = []
    return problems + _missing(wanted, available) + _ambiguous(wanted, folder)


def _ambiguous(wanted: Wanted, folder: Path) -> list[Problem]:
    """Weights that would be loaded in place of those that were verified: fp16 goes first where it is there."""
    if wanted.kind != "diffusion" or wanted.variant is not None:
        return []
    weights = [name for name in wanted.weights if name.endswith(".safetensors")]
    others = [name.replace(".safetensors", ".fp16.safetensors") for name in weights]
    fix = "use --model.variant fp16, or remove the fp16 files"
    text = "lies beside the weights in full precision, and would be loaded in their place"
    return [Problem(str(folder / name), text, fix) for name in others if (folder / name).is_file()]


def _is_another_class(folder: Path) -> bool:
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return not isinstance(index, dict) or index.get("_class_name") != "StableDiffusionPipeline"


def _missing(wanted: Wanted, available: Sequence[str]) -> list[Problem]:
    missing = [name for name in wanted.weights if name not in available]
    if not missing:
        return []
    problems = [Problem(f"{wanted.name}/{name}", "is missing", _fix_missing(name, available)) for name in missing]
    return problems + _pickles(wanted, available)


def _pickles(wanted: Wanted, available: Sequence[str]) -> list[Problem]:
    """What lies there in place of safetensors."""
    text = "is a pickle, which can run code when it is loaded"
    fix = (
        "name a model with safetensors; or, where you trust the file, convert it once with diffusers: "
        "`from_pretrained(…, use_safetensors=False)` (a single file: `from_single_file(…)`), then "
        "`save_pretrained(FOLDER)`, and give that folder"
    )
    return [Problem(f"{wanted.name}/{path}", text, fix) for path in available if path.endswith(PICKLES)]


def _fix_missing(name: str, available: Sequence[str]) -> str:
    plain = name.replace(".fp16.", ".")
    other = name.replace(".safetensors", ".fp16.safetensors")
    if plain != name and plain in available:
        return "the model has no fp16 weights: use --model.variant none"
    if other in available:
        return "the model has these weights in fp16: use --model.variant fp16"
    return f"give a model in diffusers' format with {name}"


def _damage(wanted: Wanted, folder: Path, files: Sequence[FileCheck], settings: Settings) -> list[Problem]:
    fix = "restore it from where the folder came from"
    if is_single_file(wanted, settings):
        fix = "`shoes model fetch` converts the file again"
    elif not is_local(wanted, settings):
        fix = "`shoes model fetch` downloads what is damaged again, and nothing else"
    texts = {"missing": "is missing", "damaged": "has other bytes than it should have"}
    problems = [Problem(str(folder / file.path), texts[file.status], fix) for file in files if file.status != "OK"]
    is_weight_missing = any(file.status == "missing" and file.path in wanted.weights for file in files)
    return problems + (_pickles(wanted, files_in(folder)) if is_weight_missing else [])


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

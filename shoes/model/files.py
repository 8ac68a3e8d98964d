"""A model's files: found or downloaded, and equal to what they should be before anything loads them.

The expected hashes come from the project (`known`), from what the Hub announces for the commit, from the
manifest beside a shipped model, or, for a folder that has none, from its first use. They are kept in the data
folder, every later start compares with them, and no later start asks the Hub.
"""

import json
import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from filelock import FileLock

from shoes.errors import ModelError, Problem
from shoes.model import architecture, contents
from shoes.model.contents import PARTS, Contents, Unreadable
from shoes.model.download import download, require_space
from shoes.model.hub import Announcement, announce
from shoes.model.known import KNOWN_HASHES
from shoes.model.record import (
    Record,
    check_file,
    findings_file,
    keep_record,
    read_record,
    record_file,
    shipped_record,
)
from shoes.model.wanted import PICKLES, Wanted, clip_files, diffusion_files, files_in, is_local
from shoes.reports import FileCheck, ModelCheck, ModelReport
from shoes.settings import Settings
from shoes.storage import sha256

__all__ = ["Wanted", "check", "clip_files", "diffusion_files", "fetch", "inspect", "is_local", "repair"]

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
    find = _local_record if is_local(wanted, settings) else _hub_record
    folder, record, is_new = find(wanted, settings)
    files = [check_file(record, folder, path) for path in record.files]
    _require(_damage(wanted, folder, files, settings) or _unusable(wanted, folder, list(record.files)))
    _require(_defects(wanted, folder, _look_inside(wanted, folder, record, settings), settings))
    if is_new and record.commit is None:
        _keep_first_use(wanted, folder, record, settings)
    return _report(wanted, folder, record, is_new=is_new, seconds=time.monotonic() - started)


def repair(wanted: Wanted, settings: Settings) -> ModelReport:
    """As `fetch`, after removing those files of a downloaded model that are damaged; folders are never changed."""
    if not is_local(wanted, settings):
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
    found = _kept_record(wanted, settings)
    if found is None:
        text = f"{wanted.name} is not here yet: `shoes model fetch` downloads it"
        return ModelCheck(name=wanted.name, path=None, files=(), problems=(text,))
    folder, record, _ = found
    files = tuple(check_file(record, folder, path) for path in sorted(record.files))
    problems = _damage(wanted, folder, files, settings) or _unusable(wanted, folder, list(record.files))
    return ModelCheck(name=wanted.name, path=folder, files=files, problems=tuple(map(str, problems)))


def inspect(checked: ModelCheck, wanted: Wanted, settings: Settings, *, most_bytes: float = float("inf")) -> ModelCheck:
    """What `check` found, and what is wrong with the content of files that are whole: looked for once, then remembered.

    Args:
        most_bytes: the values in larger files are not read.
    """
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
    if is_local(wanted, settings):
        return _local_record(wanted, settings)
    kept = read_record(record_file(wanted, settings))
    return None if kept is None else (_downloaded_to(wanted, str(kept.commit), settings), kept, False)


def _local_folder(wanted: Wanted, settings: Settings) -> Path:
    folder = settings.locate(wanted.name)
    if not folder.is_dir():
        fix = "correct the path, or name a model on the Hub such as owner/name"
        raise ModelError([Problem(str(folder), "there is no such folder", fix)])
    return folder


def _local_record(wanted: Wanted, settings: Settings) -> tuple[Path, Record, bool]:
    """A model's folder, its record, and whether that was made just now and is still to be kept."""
    folder = _local_folder(wanted, settings)
    kept = shipped_record(wanted, folder) or read_record(record_file(wanted, settings, folder))
    if kept is not None:
        return folder, kept, False
    available = files_in(folder)
    _require(_unusable(wanted, folder, available))
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
    _require(_unusable(wanted, folder, available) + _missing_shards(wanted, folder, available))
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
    return problems + _missing(wanted, available) + _ambiguous(wanted, folder, available)


def _ambiguous(wanted: Wanted, folder: Path, available: Sequence[str]) -> list[Problem]:
    """Weights that would be loaded in place of those that are verified: fp16 and shards can go first."""
    if not folder.is_dir():
        return []
    there, problems = files_in(folder), []
    chosen = contents.offered(wanted.kind, available, wanted.variant)
    for part in PARTS[wanted.kind]:
        loaded = part.loaded(there)
        if part in chosen and loaded not in (None, chosen[part]):
            fix = "use --model.variant fp16, or remove the fp16 files" if ".fp16." in loaded else "remove one of them"
            usual = Path(chosen[part]).name
            text = f"lies beside the weights that are asked for, {usual}, and would be loaded in their place"
            problems.append(Problem(str(folder / loaded), text, fix))
        if (folder / part.name / "adapter_config.json").is_file():
            text = "would have the weights of another model loaded in place of those beside it"
            problems.append(Problem(str(folder / part.name / "adapter_config.json"), text, "remove it"))
    return problems


def _is_another_class(folder: Path) -> bool:
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return not isinstance(index, dict) or index.get("_class_name") != "StableDiffusionPipeline"


def _missing(wanted: Wanted, available: Sequence[str]) -> list[Problem]:
    missing = [name for name in wanted.among(available).weights if name not in available]
    if not missing:
        return []
    fix = partial(_fix_missing, wanted, available=available)
    problems = [Problem(f"{wanted.name}/{name}", "is missing", fix(name)) for name in missing]
    return problems + _pickles(wanted, available)


def _missing_shards(wanted: Wanted, folder: Path, available: Sequence[str]) -> list[Problem]:
    """Shards that an index lists and the Hub has not; an index that can't be read."""
    problems = []
    for part, name in contents.offered(wanted.kind, available, wanted.variant).items():
        if not (name.endswith(".json") and (folder / name).is_file()):
            continue
        try:
            shards = [part.path(shard) for shard in contents.read_shards(folder / name)]
        except Unreadable as error:
            fix = "name another model, or another revision of it"
            problems.append(Problem(str(folder / name), str(error), fix))
        else:
            fix = "name a revision that has all shards, or a model with its weights in one file"
            lacking = [shard for shard in shards if shard not in available]
            problems += [Problem(f"{wanted.name}/{path}", f"is missing; {name} lists it", fix) for path in lacking]
    return problems


def _pickles(wanted: Wanted, available: Sequence[str]) -> list[Problem]:
    """What lies there in place of safetensors."""
    text = "is a pickle, which can run code when it is loaded"
    fix = (
        "name a model with safetensors; or, where you trust the file, convert it once with diffusers: "
        "`from_pretrained(…, use_safetensors=False)` (a single file: `from_single_file(…)`), then "
        "`save_pretrained(FOLDER)`, and give that folder"
    )
    return [Problem(f"{wanted.name}/{path}", text, fix) for path in available if path.endswith(PICKLES)]


def _fix_missing(wanted: Wanted, name: str, available: Sequence[str]) -> str:
    part = next((part for part in PARTS[wanted.kind] if part.usual(wanted.variant) == name), None)
    if part is not None and wanted.variant and part.weights(available, None) is not None:
        return "the model has no fp16 weights: use --model.variant none"
    others = part.variants(available) if part is not None else []
    if "fp16" in others and wanted.kind == "diffusion":
        return "the model has these weights in fp16: use --model.variant fp16"
    if others:
        return (
            f"the model has these weights only as {', '.join(others)}: give another model, or, where that is what you "
            f"want, a folder in which they have the usual name, {Path(name).name}"
        )
    return f"give a model in diffusers' format with {name}"


def _damage(wanted: Wanted, folder: Path, files: Sequence[FileCheck], settings: Settings) -> list[Problem]:
    fix = "restore it from where the folder came from"
    if not is_local(wanted, settings):
        fix = "`shoes model fetch` downloads what is damaged again, and nothing else"
    texts = {"missing": "is missing", "damaged": "has other bytes than it should have"}
    problems = [Problem(str(folder / file.path), texts[file.status], fix) for file in files if file.status != "OK"]
    is_weight_missing = any(file.status == "missing" and file.path.endswith(".safetensors") for file in files)
    return problems + (_pickles(wanted, files_in(folder)) if is_weight_missing else [])


def _look_inside(
    wanted: Wanted, folder: Path, record: Record, settings: Settings, *, most_bytes: float = float("inf")
) -> Contents:
    files = contents.Files(wanted.kind, folder, record.files)
    return contents.Inspection(files, findings_file(wanted, settings, folder), most_bytes).run()


def _defects(wanted: Wanted, folder: Path, inside: Contents, settings: Settings) -> list[Problem]:
    return contents.problems(folder, inside.defects, is_local=is_local(wanted, settings))


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
    if record.commit is None or record.revision == record.commit:
        return ()
    asked = wanted.revision or "main"
    return (
        f"{asked} of {wanted.name} was commit {record.commit} when it was first downloaded, and is so from now on; "
        f"name a commit as the revision to change it",
    )

"""What a model's files were when they were first used: kept in the data folder, and held to at every start."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from shoes.errors import ModelError, Problem
from shoes.model.wanted import Wanted
from shoes.reports import FileCheck, Report
from shoes.settings import Settings
from shoes.storage import MANIFEST, fingerprint, pretty_json, sha256, write_text


class Record(Report):
    """The expected files of one model."""

    model: str
    revision: str | None = None
    """What was asked for."""
    commit: str | None = None
    """What that was then, for a model of the Hub."""
    files: Mapping[str, str]
    """SHA-256 by path."""
    sources: Mapping[str, str] = {}
    """What each file was compared with when it was recorded."""
    num_bytes: Mapping[str, int] = {}
    """Sizes by path."""
    notes: tuple[str, ...] = ()
    """What was decided when the files were made, for people."""

    @property
    def fingerprint(self) -> str:
        """Hash over the SHA-256 of every file."""
        return fingerprint(dict(self.files))

    def summary(self) -> str:
        """What the files were compared with, and how many with each."""
        counts = Counter(self.sources[path] for path in self.files if path in self.sources)
        texts = [f"{source} ({n} file{'s' * (n > 1)})" for source, n in sorted(counts.items(), key=lambda c: c[1])]
        return " and ".join(texts)


def record_file(wanted: Wanted, settings: Settings, folder: Path | None = None) -> Path:
    """Where a model's record is kept: by its folder, or by its name and revision on the Hub."""
    who = str(folder) if folder is not None else [wanted.kind, wanted.name, wanted.revision]
    return settings.models / "manifests" / f"{fingerprint(who, wanted.patterns)}.json"


def findings_file(wanted: Wanted, settings: Settings, folder: Path) -> Path:
    """Where it is kept what was found in the files, beside the record."""
    return record_file(wanted, settings, folder).with_suffix(".contents.json")


def read_record(file: Path) -> Record | None:
    """A record that was kept earlier.

    Raises:
        ModelError: the file is there, but is none.
    """
    if not file.is_file():
        return None
    try:
        return Record.model_validate_json(file.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        fix = "delete it; the model is then compared with what the Hub announces, or recorded anew"
        raise ModelError([Problem(str(file), "the record of a model can't be read", fix)]) from error


def keep_record(file: Path, record: Record) -> None:
    """Write a record."""
    write_text(file, pretty_json(record))


def shipped_record(wanted: Wanted, folder: Path) -> Record | None:
    """The manifest that lies beside a model, if one does.

    Raises:
        ModelError: it can't be read.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return None
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        source = f"{MANIFEST} beside the model"
        return Record(model=wanted.name, files=files, sources=dict.fromkeys(files, source))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError([Problem(str(manifest), f"can't be read: {error}", "restore it, or delete it")]) from error


def check_file(record: Record, folder: Path, path: str) -> FileCheck:
    """Compare one file with its record."""
    file, source = folder / path, record.sources.get(path, "the record of its first use")
    if not file.is_file():
        return FileCheck(path=path, status="missing", num_bytes=0, compared_with=source)
    is_equal = sha256(file) == record.files[path]
    status = "OK" if is_equal else "damaged"
    return FileCheck(path=path, status=status, num_bytes=file.stat().st_size, compared_with=source)

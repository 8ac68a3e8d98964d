"""What was found in a model's files: looked for once for files of one hash, and kept beside the models' records."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from shoes.model.contents import header, layout, values, vocabulary
from shoes.model.contents.header import Unreadable
from shoes.model.contents.parts import PARTS, Kind, Part
from shoes.reports import Defect, Report
from shoes.storage import fingerprint, pretty_json, write_text

_FORMAT = 1  # raise it when a change of this package finds something else in the same files
FINDINGS = "contents"
"""Folder of what was found, beside the records."""
Kept = TypeVar("Kept", bound=Report)
_SEEN: dict[str, Report] = {}
"""What this process found, by the names of the files that keep it, which say all that it depends on."""


class LayoutFindings(Report):
    """What is wrong with the tensors of a part, or with a tokenizer, but for the tensors' values."""

    defects: tuple[Defect, ...] = ()


class ValueFindings(Report):
    """Which tensors of a file hold values that are no numbers."""

    not_finite: Mapping[str, int] = {}
    """Values that are NaN or infinite by tensor."""
    num_tensors: int


@dataclass(frozen=True)
class Files:
    """A model's files, whose bytes were compared with their hashes."""

    kind: Kind
    folder: Path
    hashes: Mapping[str, str]
    """SHA-256 by path."""


@dataclass(frozen=True)
class Contents:
    """What is wrong with the content of a model's files."""

    defects: tuple[Defect, ...] = ()
    values_read: bool = True
    """NaN and infinity were looked for in all of them."""


@dataclass
class Inspection:
    """Looks into a model's files, or remembers what it saw in them."""

    files: Files
    memory: Path
    """Folder of the records."""
    most_bytes: float = float("inf")
    """Weights in larger files are not read; what is remembered of them counts."""
    _unread: list[str] = field(default_factory=list)

    def run(self) -> Contents:
        """Every part and the tokenizer."""
        defects = [defect for part in PARTS[self.files.kind] for defect in self._part(part)]
        return Contents((*defects, *self._tokenizer(defects)), not self._unread)

    def _part(self, part: Part) -> list[Defect]:
        where = part.loaded(self.files.hashes)
        if where is None:  # whoever looks for files says so
            return []
        try:
            weights = self._weight_files(part, where)
        except Unreadable as error:
            return [Defect(kind="unreadable", where=where, detail=str(error))]
        lacking = [name for name in weights if name not in self.files.hashes]
        if lacking:
            names = [Path(name).name for name in lacking]
            return list(layout.some("shards", where, names, len(weights)))
        found = self._remember(
            [part.config, where, *weights], LayoutFindings, lambda: self._look_at_layout(part, where, weights)
        )
        if any(defect.kind == "unreadable" for defect in found.defects):
            return list(found.defects)
        return [*found.defects, *self._values(part, weights)]

    def _weight_files(self, part: Part, where: str) -> list[str]:
        if not where.endswith(".json"):
            return [where]
        prefix = f"{part.name}/" if part.name else ""
        return [f"{prefix}{shard}" for shard in header.read_shards(self.files.folder / where)]

    def _look_at_layout(self, part: Part, where: str, weights: Iterable[str]) -> LayoutFindings:
        tensors, unreadable = {}, []
        for path in weights:
            try:
                tensors.update(header.read_header(self.files.folder / path))
            except Unreadable as error:
                unreadable.append(Defect(kind="unreadable", where=path, detail=str(error)))
        if unreadable:
            return LayoutFindings(defects=tuple(unreadable))
        try:
            return LayoutFindings(defects=tuple(layout.compare(part, self.files.folder, where, tensors)))
        except Unreadable as error:
            return LayoutFindings(defects=(Defect(kind="unreadable", where=part.config, detail=str(error)),))

    def _values(self, part: Part, weights: Iterable[str]) -> Iterable[Defect]:
        for path in weights:
            found = self._values_of(path)
            if found is None:
                self._unread.append(path)
            else:
                names = layout.used(part, found.not_finite)
                yield from layout.some("not finite", path, names, found.num_tensors)

    def _values_of(self, path: str) -> ValueFindings | None:
        file, place = self.files.folder / path, self._place([path], ValueFindings)
        kept = _read(place, ValueFindings)
        if kept is not None or file.stat().st_size > self.most_bytes:
            return kept
        return _keep(place, _look_at_values(file))

    def _tokenizer(self, before: list[Defect]) -> Iterable[Defect]:
        """The tokenizer, where there is a text encoder to compare it with."""
        folder = vocabulary.folder_of(self.files.kind)
        if folder is None or any(defect.where.endswith("config.json") for defect in before):
            return ()
        prefix = f"{folder}/" if folder else ""
        there = [name for name in vocabulary.FILES if f"{prefix}{name}" in self.files.hashes]
        config = PARTS[self.files.kind][-1].config
        paths = [f"{prefix}{name}" for name in there] + ([config] if config in self.files.hashes else [])

        def look() -> LayoutFindings:
            try:
                vocabulary.require_words(there)
                vocabulary.require_tokenizer(self.files.kind, self.files.folder)
            except Unreadable as error:
                return LayoutFindings(defects=(Defect(kind="words", where=folder or ".", detail=str(error)),))
            return LayoutFindings()

        return self._remember(paths, LayoutFindings, look).defects

    def _remember(self, paths: Iterable[str], kind: type[Kept], look: Callable[[], Kept]) -> Kept:
        place = self._place(paths, kind)
        return _read(place, kind) or _keep(place, look())

    def _place(self, paths: Iterable[str], kind: type[Report]) -> Path:
        """Named by all that the finding depends on: the files' bytes, the code that looks, the libraries."""
        hashes = {path: self.files.hashes.get(path) for path in paths}
        libraries = [version(name) for name in ("diffusers", "transformers")] if kind is LayoutFindings else []
        return self.memory / FINDINGS / f"{fingerprint(_FORMAT, kind.__name__, hashes, libraries)}.json"


def _look_at_values(file: Path) -> ValueFindings:
    return ValueFindings(not_finite=values.count_non_finite(file), num_tensors=len(header.read_header(file)))


def _read(place: Path, kind: type[Kept]) -> Kept | None:
    """What was found earlier; nothing where it can't be read, for it can be found again."""
    seen = _SEEN.get(place.name)
    if isinstance(seen, kind):
        return seen if place.is_file() else _keep(place, seen)
    try:
        return kind.model_validate_json(place.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def _keep(place: Path, found: Kept) -> Kept:
    _SEEN[place.name] = found
    with suppress(OSError):  # it is found again then
        write_text(place, pretty_json(found))
    return found

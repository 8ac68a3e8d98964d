"""What is wrong with the content of a model's files: looked for once in files of one hash, and remembered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shoes.model.contents import header, layout, values, vocabulary
from shoes.model.contents.header import Unreadable
from shoes.model.contents.memory import Memory, Values
from shoes.model.contents.parts import PARTS, Kind, Part
from shoes.model.single.header import Tensor
from shoes.reports import Defect


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


class Inspection:
    """A look into a model's files, or a memory of what was in them."""

    def __init__(self, files: Files, memory: Path, most_bytes: float = float("inf")) -> None:
        """Prepare to look.

        Args:
            memory: file that keeps what is found.
            most_bytes: the values in larger files are not read; what is remembered of them counts.
        """
        self._files = files
        self._memory = Memory(memory, files.hashes)
        self._most_bytes = most_bytes
        self._values_read = True

    def run(self) -> Contents:
        """Every part and the tokenizer."""
        defects = [defect for part in PARTS[self._files.kind] for defect in self._part(part)]
        defects += self._tokenizer(defects)
        self._memory.save()
        return Contents(tuple(defects), self._values_read)

    def _part(self, part: Part) -> Sequence[Defect]:
        where = part.loaded(self._files.hashes)
        if where is None:  # whoever looks for files says so
            return ()
        try:
            weights = self._weight_files(part, where)
        except Unreadable as error:
            return [_unreadable(where, error)]
        if lacking := [Path(name).name for name in weights if name not in self._files.hashes]:
            return list(layout.some("shards", where, lacking, len(weights)))
        paths = [*dict.fromkeys([part.config, where, *weights])]
        defects = self._memory.layout(paths, lambda: tuple(self._look_at_layout(part, where, weights)))
        is_readable = not any(defect.kind == "unreadable" for defect in defects)
        return [*defects, *(self._not_finite(part, weights) if is_readable else ())]

    def _weight_files(self, part: Part, where: str) -> list[str]:
        if not where.endswith(".json"):
            return [where]
        return [part.path(shard) for shard in header.read_shards(self._files.folder / where)]

    def _look_at_layout(self, part: Part, where: str, weights: Iterable[str]) -> Iterable[Defect]:
        tensors: dict[str, Tensor] = {}
        unreadable = []
        for path in weights:
            try:
                tensors.update(header.read_header(self._files.folder / path))
            except Unreadable as error:
                unreadable.append(_unreadable(path, error))
        if unreadable:
            return unreadable
        try:
            return layout.compare(part, self._files.folder, where, tensors)
        except Unreadable as error:
            return [_unreadable(part.config, error)]

    def _not_finite(self, part: Part, weights: Iterable[str]) -> Iterable[Defect]:
        for path in weights:
            found = self._memory.values(path, partial(self._look_at_values, path))
            if found is None:
                self._values_read = False
            else:
                yield from layout.some("not finite", path, layout.used(part, found.not_finite), found.num_tensors)

    def _look_at_values(self, path: str) -> Values | None:
        file = self._files.folder / path
        if file.stat().st_size > self._most_bytes:
            return None
        return Values(not_finite=values.count_non_finite(file), num_tensors=len(header.read_header(file)))

    def _tokenizer(self, before: Iterable[Defect]) -> Iterable[Defect]:
        """The tokenizer, where there is a text encoder's config to compare it with."""
        folder, config = vocabulary.folder_of(self._files.kind), PARTS[self._files.kind][-1].config
        if folder is None or config not in self._files.hashes or any(defect.where == config for defect in before):
            return ()
        prefix = f"{folder}/" if folder else ""
        there = [name for name in vocabulary.FILES if f"{prefix}{name}" in self._files.hashes]

        def look() -> tuple[Defect, ...]:
            try:
                vocabulary.require_words(there)
                vocabulary.require_tokenizer(self._files.kind, self._files.folder)
            except Unreadable as error:
                return (Defect(kind="words", where=folder or ".", detail=str(error)),)
            return ()

        return self._memory.layout([config, *(f"{prefix}{name}" for name in there)], look)


def _unreadable(where: str, error: Unreadable) -> Defect:
    return Defect(kind="unreadable", where=where, detail=str(error))

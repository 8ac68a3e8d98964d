"""What was found in a model's files, kept beside the model's record, by all that it depends on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from shoes.reports import Defect, Report
from shoes.storage import fingerprint, pretty_json, write_text

_FORMAT = 1  # raise it when a change of this package finds something else in the same files


class Values(Report):
    """Which tensors of a file hold values that are no numbers."""

    not_finite: Mapping[str, int] = {}
    """How many values are NaN or infinite, by tensor."""
    num_tensors: int


class Findings(Report):
    """All that was found in a model's files."""

    layouts: Mapping[str, tuple[Defect, ...]] = {}
    """What is wrong with the tensors of a part, or with a tokenizer, but for the tensors' values."""
    values: Mapping[str, Values] = {}
    """By the file's own SHA-256."""


_IS_KEPT = ContextVar("findings are kept on the disk", default=True)
_LAYOUTS: dict[str, tuple[Defect, ...]] = {}
_VALUES: dict[str, Values] = {}
"""What this process found, in whatever model."""


@contextmanager
def only_in_memory() -> Iterator[None]:
    """What is found inside the block is known to this process, and nothing is written: the run may not begin at all."""
    before = _IS_KEPT.set(False)
    try:
        yield
    finally:
        _IS_KEPT.reset(before)


@dataclass
class Memory:
    """Findings by the hashes of the files that they were made in."""

    file: Path
    hashes: Mapping[str, str]
    """SHA-256 by path, of the model's files."""

    def __post_init__(self) -> None:
        self._kept = _read(self.file)
        self._layouts: dict[str, tuple[Defect, ...]] = {}
        self._values: dict[str, Values] = {}

    def layout(self, paths: Sequence[str], look: Callable[[], tuple[Defect, ...]]) -> tuple[Defect, ...]:
        """What was found in these files, or is found now; the libraries' versions count as well.

        That a file can't be read is not remembered: the machine may be the reason.
        """
        key = fingerprint(_FORMAT, {path: self.hashes.get(path) for path in paths}, _libraries())
        known = self._kept.layouts if key in self._kept.layouts else _LAYOUTS
        found = known[key] if key in known else look()
        if not any(defect.kind in ("unreadable", "words") for defect in found):
            _LAYOUTS[key] = self._layouts[key] = found
        return found

    def values(self, path: str, look: Callable[[], Values | None]) -> Values | None:
        """What was found in a file's values, or is found now; nothing where `look` finds nothing."""
        key = self.hashes[path]
        found = self._kept.values.get(key) or _VALUES.get(key) or look()
        if found is not None:
            _VALUES[key] = self._values[key] = found
        return found

    def save(self) -> None:
        """Keep what was asked for since the beginning; what can't be kept is found again."""
        now = Findings(layouts=self._layouts, values=self._values)
        if now != self._kept and _IS_KEPT.get():
            with suppress(OSError):
                write_text(self.file, pretty_json(now))


def _read(file: Path) -> Findings:
    """What was kept; nothing where it can't be read."""
    try:
        return Findings.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return Findings()


@lru_cache
def _libraries() -> tuple[str, ...]:
    """They decide which tensors a part has, and which older names they understand."""
    return tuple(version(name) for name in ("diffusers", "transformers"))

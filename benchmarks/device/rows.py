"""What a part of the kit finds: rows, one fact each."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["done", "failed", "does not fit", "not run"]
Value = float | int | str | bool | None | list[Any] | dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One fact, for people and for machines."""

    part: str
    what: str
    """What was measured: ours, micro-batch 4."""
    figure: str = ""
    """The fact with its unit: 12.3 images/s."""
    note: str = ""
    """What the figure is to be compared with, or why there is none."""
    status: Status = "done"
    """failed: it raised or is wrong; does not fit: into the device's memory; not run: there was no time, or no need."""
    values: dict[str, Value] = field(default_factory=dict)
    """The bare numbers, in seconds, bytes, images a second."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def failed(part: str, what: str, error: BaseException | str) -> Row:
    """A row for what went wrong, with the first line of the error."""
    return Row(part, what, "failed", one_line(error), status="failed")


def no_time(part: str, what: str, seconds: float | None = None) -> Row:
    """A row for what was left out, or left, for time."""
    note = "time" if seconds is None else f"time: it was left after {seconds:.0f} s"
    return Row(part, what, "not run", note, status="not run")


def one_line(error: BaseException | str, most: int = 300) -> str:
    """An error's kind and its first line."""
    words = str(error).strip().splitlines()
    first = words[0] if words else "no reason given"
    text = first if isinstance(error, str) else f"{type(error).__name__}: {first}"
    return text if len(text) <= most else text[: most - 1] + "…"

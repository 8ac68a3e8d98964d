"""Defects as problems for people."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from shoes.errors import Problem
from shoes.model.contents.parts import PARTS
from shoes.reports import Defect

_WHATS: Mapping[str, Callable[[Defect], str]] = {
    "missing": lambda d: f"lacks {d.count} of the {d.total} tensors of {_network(d)}: {_named(d)}",
    "left over": lambda d: f"holds {_count(d)} that {_network(d)} has no place for: {_named(d)}",
    "misshapen": lambda d: f"holds {_count(d)} of another shape than {_network(d)} has by its config: {_named(d)}",
    "whole numbers": lambda d: f"holds {_count(d)} of whole numbers, as quantised weights are: {_named(d)}",
    "not finite": lambda d: f"holds NaN or infinity in {d.count} of its {d.total} tensors: {_named(d)}",
    "shards": lambda d: f"lists {d.total} shards, of which {d.count} {_are(d)} missing: {_named(d)}",
    "unreadable": lambda d: d.detail,
    "words": lambda d: d.detail,
}


Origin = Literal["folder", "file", "Hub"]
"""Where a model came from: a person's own folder, a checkpoint in one file, a download."""
_SOURCES: Mapping[Origin, str] = {
    "folder": "restore the file from where the folder came from, or save the model again with `save_pretrained`",
    "file": "download the single file that this was converted from again, or give another one",
    "Hub": "the Hub has the file as it is here: name another model, or another revision of it",
}


def problems(folder: Path, defects: Sequence[Defect], origin: Origin) -> list[Problem]:
    """Each defect with what to do about it."""
    return [Problem(str(folder / defect.where), what(defect), _fix(defect, defects, origin)) for defect in defects]


def what(defect: Defect) -> str:
    """The defect in a sentence, without the file."""
    return _WHATS[defect.kind](defect)


def _fix(defect: Defect, all_of_them: Sequence[Defect], origin: Origin) -> str:
    kinds = {other.kind for other in all_of_them if other.where == defect.where}
    if {"missing", "left over"} <= kinds and defect.kind in kinds:
        return (
            "give the model in diffusers' format, with the names that `save_pretrained` writes; what another program "
            "wrote is converted by diffusers' `from_single_file`"
        )
    if defect.kind in {"misshapen", "left over"}:
        return "put the config beside it that belongs to these weights, or the weights that belong to the config"
    if defect.kind == "whole numbers":
        return "give the model in half or full precision"
    return _SOURCES[origin]


def _network(defect: Defect) -> str:
    names = {part.name: part.network for parts in PARTS.values() for part in parts if part.name}
    return f"the {names.get(Path(defect.where).parts[0], 'network')}"


def _count(defect: Defect) -> str:
    return f"{defect.count} tensor{'s' * (defect.count > 1)}"


def _are(defect: Defect) -> str:
    return "are" if defect.count > 1 else "is"


def _named(defect: Defect) -> str:
    rest = defect.count - len(defect.names)
    return ", ".join(defect.names) + (f" and {rest} more" if rest else "")

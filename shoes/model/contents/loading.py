"""What a library says, or raises, when it loads a part, as problems for people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shoes.errors import Problem
from shoes.model.contents import layout, words
from shoes.model.contents.header import Unreadable, read_part, read_shards
from shoes.model.contents.parts import Part
from shoes.reports import Defect


def lost(model: Path, part: Part, info: Mapping[str, Any], num_tensors: int) -> list[Problem]:
    """What of a loaded part is not what its files hold.

    Args:
        info: what `from_pretrained(…, output_loading_info=True)` gave, in either library.
    """
    where = part.loaded(part.files_in(model)) or part.usual(None)
    found = layout.from_loading_info(info, num_tensors)
    return words.problems(model, found.defects(part, where), "folder")


def unloadable(model: Path, part: Part, error: Exception) -> list[Problem]:
    """Why the library could not load a part: what the files themselves say, or else what it says."""
    if part.loaded(part.files_in(model)) is None:
        fix = f"give a folder with {part.config} and {part.usual(None)}: weights are loaded from safetensors files only"
        return [Problem(str(model / part.usual(None)), "is missing", fix)]
    defects = _look(model, part)
    if not defects:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        defects = [Defect(kind="unreadable", where=part.config, detail=f"could not be loaded: {reason}")]
    return words.problems(model, defects, "folder")


def _look(model: Path, part: Part) -> list[Defect]:
    where = part.loaded(part.files_in(model)) or part.usual(None)
    try:
        shards = read_shards(model / where) if where.endswith(".json") else ()
        lacking = [shard for shard in shards if not (model / part.path(shard)).is_file()]
        if lacking:
            return list(layout.some("shards", where, lacking, len(shards)))
        tensors = read_part(model, part)
    except Unreadable as unreadable:
        return [Defect(kind="unreadable", where=where, detail=str(unreadable))]
    try:
        return layout.compare(part, model, where, tensors)
    except Unreadable as unreadable:
        return [Defect(kind="unreadable", where=part.config, detail=str(unreadable))]

"""What a safetensors file says that it holds, read from its header alone."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from shoes.model.contents.parts import Part

_POINTER = b"version https://git-lfs"
_LARGEST_HEADER = 100_000_000
"""Bytes that the format allows."""


class Unreadable(Exception):  # noqa: N818
    """A file of a model that can't be read; the message says why."""


class Tensor(NamedTuple):
    """What a header says about a tensor."""

    shape: tuple[int, ...]
    dtype: str
    """The format's own name, F16 say."""


def read_header(file: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file by its name.

    Raises:
        Unreadable: it is cut off, or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        entries = _entries(file)
        with safe_open(file, "np"):  # the library's own look at what we do not check: gaps, overlaps, unknown types
            pass
    except (SafetensorError, OSError) as error:
        raise Unreadable(f"is no whole safetensors file: {str(error).partition(chr(10))[0]}") from error
    return {name: Tensor(tuple(entry["shape"]), str(entry["dtype"])) for name, entry in entries.items()}


def read_part(model: Path, part: Part) -> dict[str, Tensor]:
    """Every tensor of the files that a part of a model is loaded from.

    Raises:
        Unreadable: they can't be read, or there are none.
    """
    where = part.loaded(part.files_in(model))
    if where is None:
        raise Unreadable("has no weights in safetensors files")
    shards = read_shards(model / where) if where.endswith(".json") else (Path(where).name,)
    return {name: found for shard in shards for name, found in read_header(model / part.path(shard)).items()}


def read_shards(index: Path) -> tuple[str, ...]:
    """Names of the shards that an index lists, in order.

    Raises:
        Unreadable: it is no index.
    """
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"is no index of shards: {error}") from error
    strange = [shard for shard in shards if not isinstance(shard, str) or "/" in shard or "\\" in shard]
    if strange or not shards:
        raise Unreadable(f"lists {strange[0]!r}, which is no file beside it" if strange else "lists no shards")
    return tuple(sorted(shards))


def _entries(file: Path) -> dict[str, Any]:
    """The header without its metadata."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(len(_POINTER))
        if start == _POINTER:
            raise Unreadable("is a pointer of Git LFS, not the weights: run `git lfs pull` in the folder")
        length = int.from_bytes(start[:8], "little")
        if len(start) < 8 or not 0 < length < _LARGEST_HEADER:
            raise Unreadable("is no safetensors file")
        if 8 + length > size:
            raise Unreadable("is cut off within its header, or no safetensors file")
        opened.seek(8)
        text = opened.read(length)
    try:
        entries = {name: entry for name, entry in json.loads(text).items() if name != "__metadata__"}
        whole = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
        raise Unreadable("is no safetensors file: its header can't be read") from error
    if size < whole:
        raise Unreadable(f"is cut off: it has {size:,} of the {whole:,} bytes that its header announces")
    return entries

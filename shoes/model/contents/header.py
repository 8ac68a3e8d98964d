"""What a safetensors file says that it holds, read from its header alone."""

import json
from collections.abc import Mapping
from pathlib import Path

from shoes.errors import ModelError
from shoes.model.contents.parts import Part
from shoes.model.single import header as single
from shoes.model.single.header import Tensor


class Unreadable(Exception):  # noqa: N818
    """A file of a model that can't be read; the message says why."""


def read_header(file: Path) -> Mapping[str, Tensor]:
    """Every tensor of a safetensors file by its name.

    Raises:
        Unreadable: it is cut off, or no safetensors file.
    """
    try:
        _require_length(file)
        return single.read_header(file).tensors
    except OSError as error:
        raise Unreadable(f"can't be read: {error.strerror or error}") from error
    except ModelError as error:
        raise Unreadable("; ".join(f"{one.what}; {one.fix}" for one in error.problems)) from error


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


def _require_length(file: Path) -> None:
    """The file is as long as its header says; one whose header can't be read is left to the library."""
    size = file.stat().st_size
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            tensors = json.loads(opened.read(min(length, size)))
        whole = 8 + length + max(entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__")
    except (ValueError, AttributeError, KeyError, TypeError, IndexError):
        return
    if size < whole:
        raise Unreadable(f"is cut off: it has {size:,} of the {whole:,} bytes that its header announces")

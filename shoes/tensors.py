"""Tensors in safetensors files whose bytes depend on nothing but the tensors and the metadata.

The library writes the header's metadata in a random order; here the header is sorted, so that equal weights
make equal files and hashes can be compared.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from shoes.storage import write_bytes

if TYPE_CHECKING:
    import torch


def write_tensors(path: Path, tensors: "Mapping[str, torch.Tensor]", metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file, atomically."""
    from safetensors.torch import save

    blob = save({name: tensor.contiguous() for name, tensor in tensors.items()}, dict(metadata or {"format": "pt"}))
    size = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8 : 8 + size])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants the data aligned to 8 bytes
    write_bytes(path, len(text).to_bytes(8, "little") + text + blob[8 + size :])


def read_tensors(path: Path) -> "dict[str, torch.Tensor]":
    """All tensors of a safetensors file, on the CPU."""
    from safetensors.torch import load_file

    return load_file(path)

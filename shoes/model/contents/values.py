"""Whether weights are numbers."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_AT_ONCE = 1 << 22
"""Values that are looked at together: what is computed on the way stays small."""


def count_non_finite(file: Path) -> dict[str, int]:
    """NaN and infinite values of each tensor that has any, by the tensor's name.

    Raises:
        OSError, SafetensorError: the file can't be read.
    """
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        counts = {name: _count(opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118
    return {name: count for name, count in counts.items() if count}


def _count(tensor: "torch.Tensor") -> int:
    import torch

    if not tensor.is_floating_point():
        return 0
    flat = tensor.reshape(-1)
    # types of 8 bits have no `isfinite`
    widen = tensor.element_size() == 1
    pieces = (flat[start : start + _AT_ONCE] for start in range(0, flat.numel(), _AT_ONCE))
    return sum(int((~torch.isfinite(piece.float() if widen else piece)).sum()) for piece in pieces)

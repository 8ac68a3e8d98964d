"""Whether products of fp32 are really computed in fp32: PyTorch may take fewer bits where it is allowed to."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FEWER_BITS = {"tf32", "bf16"}


def computes_in_tf32(device: str) -> bool:
    """Whether a device may round the inputs of products of fp32: CUDA by default does in convolutions."""
    from torch.backends import cuda, cudnn

    if device != "cuda":
        return False
    if not hasattr(cudnn, "conv"):  # PyTorch before 2.9; later ones raise where both forms of the setting were used
        return bool(cudnn.allow_tf32 or cuda.matmul.allow_tf32)
    return bool({cudnn.conv.fp32_precision, cuda.matmul.fp32_precision} & FEWER_BITS)


@contextmanager
def in_full_fp32() -> Iterator[None]:
    """Inside the block the CPU computes products of fp32 in fp32, whatever the process allows otherwise."""
    parts = _parts_of_the_cpu()
    before = [part.fp32_precision for part in parts]
    for part in parts:
        part.fp32_precision = "ieee"
    try:
        yield
    finally:
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision


def _parts_of_the_cpu() -> list[Any]:
    """oneDNN's kinds of products that can be set; none where this PyTorch has no such setting."""
    from torch.backends import mkldnn

    found = [getattr(mkldnn, name, None) for name in ("matmul", "conv", "rnn")]
    return [part for part in found if hasattr(part, "fp32_precision")]

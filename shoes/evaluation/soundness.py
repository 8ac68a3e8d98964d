"""Does a judge see on the device what it sees on the CPU? Looked at whenever one is loaded: it takes two pictures."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from shoes.device.memory import is_out_of_memory, release
from shoes.device.parity import Tolerance, fault_of, worst_error
from shoes.device.tf32 import computes_in_tf32, in_full_fp32
from shoes.evaluation.clip import ClipScorer
from shoes.evaluation.encoders import DinoEncoder, embed_files
from shoes.evaluation.inputs import Photos

if TYPE_CHECKING:
    import torch

Encoder = TypeVar("Encoder", ClipScorer, DinoEncoder)
CPU = "cpu"
NUM_PHOTOS = 2
# Vectors have the length 1, and a score is 100 × their product: 0.2 % are at most 0.2 points, and less than a tenth of
# that on average over pictures. The demo's CLIP is off by 0.02 % where products are rounded as TF32 rounds them.
TOLERANCE = Tolerance(fp32=0.002, tf32=0.005)


def placed(encoder: Encoder, device: str, photos: Photos, batch_size: int) -> tuple[Encoder, str]:
    """A judge on the device if it sees there what it sees on the CPU, else on the CPU; and what its sight is, in words.

    Args:
        encoder: on the CPU.
        photos: a split; its first photos are looked at.
    """
    if device == CPU:
        return encoder, ""
    with in_full_fp32():
        expected = _look(encoder, photos, batch_size)
    try:
        moved = _moved(encoder, device)
        error = worst_error(_look(moved, photos, batch_size), expected)
        fault = fault_of(error, TOLERANCE.limit("no", is_tf32=computes_in_tf32(device)))
    except (RuntimeError, NotImplementedError, TypeError) as error:  # a kernel or a dtype that the device lacks
        if is_out_of_memory(error):
            raise
        fault = f"fails ({type(error).__name__}: {(str(error) or 'no reason given').splitlines()[0]})"
    if not fault:
        return moved, ""
    back = _moved(encoder, CPU)
    release(device)
    return back, fault


def _look(encoder: Encoder, photos: Photos, batch_size: int) -> "list[torch.Tensor]":
    """Unit vectors of some photos, one by one, and of their captions where the judge reads."""
    import torch

    records = photos.records[:NUM_PHOTOS]
    seen = list(embed_files(encoder, [record.image for record in records], batch_size=batch_size))
    if isinstance(encoder, ClipScorer):
        seen += list(encoder.embed_captions([record.caption for record in records]))
    return [torch.from_numpy(vector) for vector in seen]


def _moved(encoder: Encoder, device: str) -> Encoder:
    model: Any = encoder.model.to(device)
    return replace(encoder, model=model, device=device)

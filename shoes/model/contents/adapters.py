"""Whether every tensor of an adapter's file is in the networks that it was loaded into.

The loaders drop what they have no layer for, and what they can't read, with a warning at most.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoes.errors import ModelError, Problem
from shoes.model.contents.header import read_header

if TYPE_CHECKING:
    from torch.nn import Module

_KIND = re.compile(r"[._](lora|hada|lokr|oft|ia3|dora|diff|alpha|b_norm|w_norm)(?=[._]|$).*")
_PLAIN = re.compile(r".*lora[._](A|B|up|down)(\.\w+)?(\.weight|\.bias)?")
_PREFIX = re.compile(r"^(base_model_model_|lora_unet_|lora_te1?_|unet_|text_encoder_)")
_SHOWN = 3


def require_applied(pipeline: Any, file: Path, adapter: str) -> None:
    """Every tensor of an adapter's file was loaded, but for those that only scale others.

    Args:
        pipeline: holds the adapter, in its UNet and text encoder.
        adapter: its name there.

    Raises:
        ModelError: some were not; it names the first.
    """
    tensors = [name for name in read_header(file) if not name.endswith("alpha")]
    networks: list[Module] = [pipeline.unet, pipeline.text_encoder]
    own = re.compile(rf".*\.{re.escape(adapter)}(\..*)?")
    loaded = [name for network in networks for name, _ in network.named_parameters() if own.fullmatch(name)]
    if len(loaded) >= len(tensors):
        return
    lost = _lost(tensors, loaded)
    shown = ", ".join(lost[:_SHOWN])
    names = f": {shown}{', …' if len(lost) > _SHOWN else ''}" if lost else ""
    what = f"holds {len(tensors)} tensors, of which {len(tensors) - len(loaded)} would not be applied{names}"
    fix = "give a LoRA that was trained on a model of this kind, without layers or methods (DoRA, say) that it has not"
    raise ModelError([Problem(str(file), what, fix)])


def draw_with_all(pipeline: Any) -> None:
    """No adapter drops a part of its input out any more: diffusers gives a loaded one the dropout of its training, and
    leaves that on (`Module.training` of new layers)."""
    networks: list[Module] = [pipeline.unet, pipeline.text_encoder]
    for network in networks:
        network.eval()


def _lost(tensors: Iterable[str], loaded: Collection[str]) -> list[str]:
    """Tensors of a file whose layer has fewer than the file holds, as far as their names tell."""
    there = Counter(_layer(name) for name in loaded)
    wanted = Counter(_layer(name) for name in tensors)
    return sorted(
        name
        for name in tensors
        if not there[_layer(name)] or (there[_layer(name)] < wanted[_layer(name)] and not _PLAIN.fullmatch(name))
    )


def _layer(tensor: str) -> str:
    """A layer's name in one spelling, whether dots or underscores part it."""
    flat = _KIND.sub("", tensor).replace(".processor", "").replace(".", "_")
    return _PREFIX.sub("", flat)

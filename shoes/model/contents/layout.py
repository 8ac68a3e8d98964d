"""The tensors of a part's files against those that its config asks for.

The library that loads them says which those are, and understands the names of older layouts: it is given the tensors'
shapes alone, on PyTorch's meta device, and loads them as it would load the weights.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shoes.model.contents.header import Unreadable
from shoes.model.contents.parts import Part
from shoes.model.single.header import Tensor
from shoes.reports import Defect

_FLOATS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
"""Types of weights, by the name in the file's format."""
_NAMES_SHOWN = 3
_UNUSED: Mapping[str, str] = {
    "CLIPTextModel": r"(.*\.)?position_ids|logit_scale|(text_projection|visual_projection|vision_model)\..*",
    "CLIPModel": r".*\.position_ids",
    "Dinov2Model": r"(.*\.)?mask_token|(classifier|head)\..*",
}
"""Tensors, by whole name, that published files hold and the network does not compute with: places that are counted
now, the other half of a CLIP, heads for other tasks, what masks patches in training."""


@dataclass(frozen=True)
class Loaded:
    """What a library says about a part that it has loaded."""

    missing: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    misshapen: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    """Shapes in the file and in the network."""
    num_tensors: int = 0
    """Tensors of the network."""

    def defects(self, part: Part, where: str) -> list[Defect]:
        """What of that means that the network is not the one in the files."""
        shapes = [f"{name} ({_by(there)} for {_by(wanted)})" for name, (there, wanted) in self.misshapen.items()]
        counted: dict[Any, Iterable[str]] = {
            "missing": used(part, self.missing),
            "left over": used(part, self.left_over),
            "misshapen": shapes,
        }
        return [defect for kind, names in counted.items() for defect in some(kind, where, names, self.num_tensors)]


def used(part: Part, names: Iterable[str]) -> list[str]:
    """Those tensors that the network computes with, sorted."""
    unused = re.compile(_UNUSED.get(part.network, r"(?!)"))
    return sorted(name for name in names if not unused.fullmatch(name))


def some(kind: Any, where: str, names: Iterable[str], total: int) -> Iterator[Defect]:
    """One defect of several tensors or files; none if there are no names."""
    found = tuple(names)
    if found:
        yield Defect(kind=kind, where=where, count=len(found), total=total, names=found[:_NAMES_SHOWN])


def compare(part: Part, folder: Path, where: str, tensors: Mapping[str, Tensor]) -> list[Defect]:
    """What does not fit between the config in a model's folder and the tensors of the part's files.

    Args:
        where: the weight file, or the index of its shards, within `folder`.

    Raises:
        Unreadable: the library can't make the part from its config.
    """
    whole = [name for name, tensor in tensors.items() if tensor.dtype not in _FLOATS]
    found = load_shapes(part, folder, tensors, is_sharded=where.endswith(".json"))
    integers = [name for name in used(part, whole) if not name.endswith("num_batches_tracked")]
    return [*found.defects(part, where), *some("whole numbers", where, integers, len(tensors))]


def load_shapes(part: Part, folder: Path, tensors: Mapping[str, Tensor], *, is_sharded: bool) -> Loaded:
    """What the library says when it loads tensors of these shapes into the part.

    Raises:
        Unreadable: it can't make the part from its config.
    """
    import torch

    from shoes.model.load import quiet_libraries

    quiet_libraries()
    import accelerate  # transformers loads nothing onto the meta device without it, and says so in words of its own

    del accelerate
    state = {
        name: torch.empty(tensor.shape, dtype=getattr(torch, _FLOATS.get(tensor.dtype, "int64")), device="meta")
        for name, tensor in tensors.items()
    }
    load = _by_diffusers if part.library == "diffusers" else _by_transformers
    try:
        return load(part, folder, state, is_sharded)
    except (Unreadable, ImportError):
        raise
    except Exception as error:  # what a class raises for a config that it can't be made of is not for us to list
        reason = (str(error).strip().splitlines() or [""])[0]
        raise Unreadable(f"does not describe a {part.network}: {type(error).__name__}: {reason[:200]}") from error


def from_loading_info(info: Mapping[str, Any], num_tensors: int) -> Loaded:
    """The same from what `from_pretrained(…, output_loading_info=True)` gives, in either library."""
    return Loaded(
        tuple(info["missing_keys"]),
        tuple(info["unexpected_keys"]),
        {name: (tuple(there), tuple(wanted)) for name, there, wanted in sorted(info["mismatched_keys"])},
        num_tensors,
    )


def _by_transformers(part: Part, folder: Path, state: dict[str, Any], is_sharded: bool) -> Loaded:
    del is_sharded  # it reads shards as it reads one file
    import torch
    import transformers

    network = getattr(transformers, part.network)
    config = network.config_class.from_pretrained(folder / part.name, local_files_only=True)
    _require_plain(config.to_dict())
    model, info = network.from_pretrained(
        None,
        config=config,
        state_dict=state,
        dtype=torch.float32,
        device_map="meta",
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    return from_loading_info(info, len(model.state_dict()))


def _by_diffusers(part: Part, folder: Path, state: dict[str, Any], is_sharded: bool) -> Loaded:
    import diffusers
    import torch

    network = getattr(diffusers, part.network)
    with torch.device("meta"):
        model = network.from_config(network.load_config(folder / part.name, local_files_only=True))
    _require_plain(model.config)
    if not is_sharded:  # as diffusers does it: shards are younger than the old names
        model._fix_state_dict_keys_on_load(state)
    wanted = model.state_dict()
    ignored = network._keys_to_ignore_on_load_unexpected or []
    left_over = [name for name in state if name not in wanted and not any(re.search(p, name) for p in ignored)]
    pairs = {name: (tuple(state[name].shape), tuple(wanted[name].shape)) for name in sorted(wanted.keys() & state)}
    shapes = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    return Loaded(tuple(wanted.keys() - state.keys()), tuple(left_over), shapes, len(wanted))


def _require_plain(config: Mapping[str, Any]) -> None:
    """The config names no other weights than those in the usual files, and leaves them as they are."""
    if config.get("quantization_config") is not None:
        raise Unreadable("is of a quantised model (quantization_config); give its weights in half or full precision")
    if other := config.get("transformers_weights"):
        raise Unreadable(f"has the weights read from {other} (transformers_weights); take that field out")


def _by(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape)) or "one number"

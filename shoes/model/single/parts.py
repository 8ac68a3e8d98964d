"""A checkpoint's tensors under the names of diffusers, by diffusers' own converter; and whether they are all there.

The converter sees names and shapes, so what it will make of a file can be told from the header alone, with tensors
that have no values.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

from shoes.errors import Problem
from shoes.model.single.header import DOWNLOAD_AGAIN, Header
from shoes.model.single.kinds import EMA, TEXT, UNET, VAE
from shoes.model.single.layout import OPEN_CLIP, Layout, open_clip_layers

if TYPE_CHECKING:
    import torch

PARTS: tuple[str, ...] = ("unet", "vae", "text_encoder")
TITLES = {"unet": "UNet", "vae": "VAE", "text_encoder": "text encoder"}
_PREFIXES = {"unet": UNET, "vae": VAE, "text_encoder": TEXT}
_MODULES = {
    "unet": ("",),
    "vae": ("encoder.", "decoder.", "quant_conv.", "post_quant_conv."),
    "text_encoder": ("transformer.", "model."),
}
"""What a part consists of; what else lies below its name, the VAE's own losses say, is left aside."""
_SCHEDULE = re.compile(r"(betas|logvar|v_pred|ztsnr|scale_factor|(alphas|sqrt|log|posterior|lvlb)_.*|model_ema\..*)$")
_NO_WEIGHT = re.compile(r".*(position_ids|attn_mask|text_projection|logit_scale)$")
_MOST_NAMES = 5


@dataclass(frozen=True)
class Plan:
    """Which tensors of a file make up each part, by the names that the converter knows, and which are left aside."""

    layout: Layout
    sources: Mapping[str, Mapping[str, str]]
    """By part: the converter's name for a tensor → its name in the file."""
    left_aside: tuple[str, ...]
    """Names in the file that belong to no part, without the noise schedule and EMA weights."""


def plan_parts(header: Header, layout: Layout) -> Plan:
    """Divide a file's tensors among the parts."""
    last = open_clip_layers(header)
    sources: dict[str, dict[str, str]] = {part: {} for part in PARTS}
    left_aside: list[str] = []
    for name in header.tensors:
        part = next((part for part in PARTS if name.startswith(_PREFIXES[part])), None)
        if part is None:
            left_aside += [] if _SCHEDULE.match(name) else [name]
        elif not name.removeprefix(_PREFIXES[part]).startswith(_MODULES[part]):
            left_aside.append(name)
        elif not _NO_WEIGHT.match(name) and not _is_unused_layer(name, last):
            sources[part][_modern(name)] = name
    return Plan(layout, sources, tuple(left_aside))


def _is_unused_layer(name: str, num_layers: int) -> bool:
    found = re.match(rf"{re.escape(OPEN_CLIP)}transformer\.resblocks\.(\d+)\.", name)
    return found is not None and int(found[1]) >= num_layers


def _modern(name: str) -> str:
    """Text encoders of old programs lack `text_model.` in their names."""
    return re.sub(
        rf"^({re.escape(TEXT)}transformer\.)(?=embeddings\.|encoder\.|final_layer_norm\.)", r"\1text_model.", name
    )


def ema_count(header: Header) -> int:
    """How many EMA weights lie beside the plain ones."""
    return sum(1 for _ in header.below(EMA))


def convert(part: str, tensors: "Mapping[str, torch.Tensor]", layout: Layout) -> "dict[str, torch.Tensor]":
    """A part's tensors under the names that its published files have."""
    from diffusers.loaders import single_file_utils as diffusers

    given = dict(tensors)
    if part == "unet":
        found = diffusers.convert_ldm_unet_checkpoint(given, layout.unet)
    elif part == "vae":
        found = diffusers.convert_ldm_vae_checkpoint(given, layout.vae)
    elif any(name.startswith(OPEN_CLIP) for name in given):
        width = SimpleNamespace(config=SimpleNamespace(hidden_size=layout.text_encoder["hidden_size"]))
        found = diffusers.convert_open_clip_checkpoint(width, given)
    else:
        found = diffusers.convert_ldm_clip_checkpoint(given)
    return {name: tensor.contiguous() for name, tensor in found.items()}


def converted_shapes(header: Header, plan: Plan) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes of every part after the conversion, by name, told from the header."""
    import torch

    found = {}
    for part, sources in plan.sources.items():
        empty = {new: torch.empty(header.tensors[old].shape, device="meta") for new, old in sources.items()}
        found[part] = {name: tuple(tensor.shape) for name, tensor in convert(part, empty, plan.layout).items()}
    return found


def misfits(header: Header, plan: Plan, where: str) -> list[Problem]:
    """Tensors that the model needs and the file lacks, that have other shapes, or that the model does not know."""
    try:
        converted = converted_shapes(header, plan)
        models = {part: _model_shapes(part, plan.layout) for part in PARTS}
    except (ValueError, KeyError, IndexError, AttributeError, ZeroDivisionError, RuntimeError) as error:
        text = f"is not built like {plan.layout.title} ({type(error).__name__}: {error})"
        return [Problem(where, text, DOWNLOAD_AGAIN)]
    problems = []
    for part in PARTS:
        for what in _differences(converted[part], models[part], _unread(part, header, plan)):
            problems.append(Problem(where, f"the {TITLES[part]} {what}", DOWNLOAD_AGAIN))
    return problems


def _differences(
    found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], unread: list[str]
) -> Iterator[str]:
    plain = {name.removeprefix("text_model."): shape for name, shape in found.items()}
    misshapen = [
        f"{name} {plain[name]} for {shape}" for name, shape in wanted.items() if plain.get(name, shape) != shape
    ]
    for names, text in (
        (sorted(wanted.keys() - plain.keys()), "lacks"),
        (sorted(misshapen), "has other shapes than it should in"),
        (sorted((plain.keys() - wanted.keys()) | set(unread)), "does not know"),
    ):
        if names:
            more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
            yield f"{text} {len(names):,} tensor{'s' * (len(names) > 1)}: {', '.join(names[:_MOST_NAMES])}{more}"


def _unread(part: str, header: Header, plan: Plan) -> list[str]:
    """Tensors of a part that the converter leaves out without a word."""
    import torch

    empty = {new: torch.empty(header.tensors[old].shape, device="meta") for new, old in plan.sources[part].items()}
    used = {id(tensor) for tensor in convert(part, empty, plan.layout).values()}
    is_remade = re.compile(r".*(\.attn_1\.(q|k|v|proj_out)\.weight|\.in_proj_(weight|bias))$").match
    return [plan.sources[part][name] for name, one in empty.items() if id(one) not in used and not is_remade(name)]


def _model_shapes(part: str, layout: Layout) -> dict[str, tuple[int, ...]]:
    """What a part's model has, without its weights."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    make: dict[str, Callable[[], torch.nn.Module]] = {
        "unet": lambda: UNet2DConditionModel.from_config(layout.unet),
        "vae": lambda: AutoencoderKL.from_config(layout.vae),
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**layout.text_encoder)),
    }
    # of this thread alone: accelerate's context changes every network that is made meanwhile
    with torch.device("meta"):
        model = make[part]()
    return {name.removeprefix("text_model."): tuple(t.shape) for name, t in model.state_dict().items()}

"""Which published model a checkpoint is built like: its parts' configs, which a single file leaves out.

A UNet as wide as the published ones belongs to their very configs. Narrower ones are those of tests: their widths and
numbers of layers are in the shapes. The number of attention heads is in no shape; it is eight in a UNet like Stable
Diffusion 1's, and one for 32 channels in one like 2's.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shoes.model.single.header import Header
from shoes.model.single.kinds import TEXT, UNET, VAE

Family = Literal["stable-diffusion-v1-5", "stable-diffusion-2-1-base"]
PUBLISHED = Path(__file__).parents[1] / "published"
"""Configs and tokenizers of the families, by their names."""
OPEN_CLIP = f"{TEXT}model."
"""Stable Diffusion 2's text encoder, under OpenCLIP's names."""
OPEN_CLIP_LAYERS = 24
"""Of OpenCLIP ViT-H; Stable Diffusion 2 takes what comes out of the last but one."""
_PUBLISHED_WIDTH, _HEAD_WIDTH, _NARROW_HEAD_WIDTH = 320, 64, 32
_SD2_TEXT_WIDTH = 1024
Config = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """A family, and the configs of UNet, VAE and text encoder as diffusers and transformers read them."""

    family: Family
    unet: Config
    vae: Config
    text_encoder: Config

    @property
    def title(self) -> str:
        """What people call it."""
        return f"Stable Diffusion {'2.x' if self.family == 'stable-diffusion-2-1-base' else '1.x'}"


def layout_of(header: Header) -> Layout:
    """The layout of a checkpoint that `kinds.refusals` has nothing against."""
    context = next((header.shape(name)[-1] for name in header.below(UNET) if name.endswith("attn2.to_k.weight")), 0)
    is_v2 = header.has(OPEN_CLIP) or context == _SD2_TEXT_WIDTH
    family: Family = "stable-diffusion-2-1-base" if is_v2 else "stable-diffusion-v1-5"
    unet, vae, text = (read_config(family, part) for part in ("unet", "vae", "text_encoder"))
    if header.shape(f"{UNET}input_blocks.0.0.weight")[:1] != (_PUBLISHED_WIDTH,):
        unet |= _unet_sizes(header, context, is_v2=is_v2)
        vae |= _vae_sizes(header)
        text |= _text_sizes(header)
    return Layout(family, unet, vae, text)


def read_config(family: Family, part: str) -> Config:
    """A published config."""
    found: Config = json.loads((PUBLISHED / family / part / "config.json").read_text(encoding="utf-8"))
    return found


def open_clip_layers(header: Header) -> int:
    """How many of OpenCLIP's layers are used. Files with the whole encoder have one more, which has no part in it."""
    found = _count(header.tensors, rf"{re.escape(OPEN_CLIP)}transformer\.resblocks\.(\d+)\.")
    is_whole = f"{OPEN_CLIP}text_projection" in header.tensors or found == OPEN_CLIP_LAYERS
    return found - 1 if is_whole else found


def _count(names: Iterable[str], pattern: str) -> int:
    """One more than the highest number that the pattern finds in a name; 0 where it finds none."""
    return max((int(found[1]) + 1 for name in names if (found := re.match(pattern, name))), default=0)


def _unet_sizes(header: Header, context: int, *, is_v2: bool) -> Config:
    widths: list[int] = []
    has_attention: list[bool] = []
    per_level, level = 0, 0
    for number in range(1, _count(header.tensors, rf"{re.escape(UNET)}input_blocks\.(\d+)\.")):
        block = f"{UNET}input_blocks.{number}"
        if f"{block}.0.op.weight" in header.tensors:
            level += 1
            continue
        per_level += level == 0
        width = (*header.shape(f"{block}.0.out_layers.3.weight"), 0)[0]
        widths, has_attention = widths[:level], has_attention[:level]
        widths.append(width)
        has_attention.append(header.has(f"{block}.1."))
    sizes: Config = {
        "block_out_channels": widths,
        "layers_per_block": per_level,
        "cross_attention_dim": context,
        "down_block_types": [f"{'CrossAttn' * attends}DownBlock2D" for attends in has_attention],
        "up_block_types": [f"{'CrossAttn' * attends}UpBlock2D" for attends in reversed(has_attention)],
    }
    if is_v2:
        sizes["attention_head_dim"] = [max(1, width // _NARROW_HEAD_WIDTH) for width in widths]
    return sizes


def _vae_sizes(header: Header) -> Config:
    down = rf"{re.escape(VAE)}encoder\.down\."
    levels = range(_count(header.tensors, rf"{down}(\d+)\."))
    widths = [(*header.shape(f"{VAE}encoder.down.{level}.block.0.conv1.weight"), 0)[0] for level in levels]
    return {
        "block_out_channels": widths,
        "layers_per_block": _count(header.tensors, rf"{down}0\.block\.(\d+)\."),
        "latent_channels": (*header.shape(f"{VAE}decoder.conv_in.weight")[1:2], 4)[0],
        "down_block_types": ["DownEncoderBlock2D"] * len(levels),
        "up_block_types": ["UpDecoderBlock2D"] * len(levels),
    }


def _text_sizes(header: Header) -> Config:
    if header.has(OPEN_CLIP):
        table, layers = f"{OPEN_CLIP}token_embedding.weight", open_clip_layers(header)
        wide = f"{OPEN_CLIP}transformer.resblocks.0.mlp.c_fc.bias"
    else:
        stem = f"{TEXT}transformer.{'text_model.' * header.has(f'{TEXT}transformer.text_model.')}"
        table, wide = f"{stem}embeddings.token_embedding.weight", f"{stem}encoder.layers.0.mlp.fc1.bias"
        layers = _count(header.tensors, rf"{re.escape(stem)}encoder\.layers\.(\d+)\.")
    width = (*header.shape(table)[1:], 0)[0]
    return {
        "hidden_size": width,
        "intermediate_size": (*header.shape(wide), 0)[0],
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
    }

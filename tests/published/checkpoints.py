"""Checkpoints in a single file, made of folders in diffusers' format.

The names are those of Stability AI's code, as diffusers' scripts/convert_diffusers_to_original_stable_diffusion.py
writes them; nothing here knows the converter that reads them.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.resnets.1": "middle_block.2",
}
VAE_ATTENTION = {
    "query": "q",
    "key": "k",
    "value": "v",
    "proj_attn": "proj_out",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    "group_norm": "norm",
}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
Tensors = dict[str, torch.Tensor]


def write_checkpoint(
    folder: Path,
    file: Path,
    change: Callable[[Tensors], object] = lambda tensors: None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """One file with all parts of the model in `folder`; `change` may spoil its tensors before they are written."""
    tensors = checkpoint_tensors(folder)
    change(tensors)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file, dict(metadata or {}))
    return file


def checkpoint_tensors(folder: Path) -> Tensors:
    """All tensors by the names that they have in a single file."""
    return named(*(load_part(folder / part) for part in ("unet", "vae", "text_encoder")))


def named(unet: Tensors, vae: Tensors, text: Tensors) -> Tensors:
    """The parts' tensors by the names that they have in a single file."""
    found = {f"model.diffusion_model.{unet_name(name)}": tensor for name, tensor in unet.items()}
    for name, tensor in vae.items():
        new = vae_name(name)
        is_matrix = ".attn_1." in new and new.endswith(".weight") and tensor.ndim == 2
        found[f"first_stage_model.{new}"] = tensor[:, :, None, None] if is_matrix else tensor
    text = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in text.items()}
    is_v2 = unet["mid_block.attentions.0.proj_in.weight"].ndim == 2
    clip = open_clip(text) if is_v2 else {f"transformer.{name}": tensor for name, tensor in text.items()}
    return found | {f"cond_stage_model.{name}": tensor for name, tensor in clip.items()}


def load_part(folder: Path) -> Tensors:
    return load_file(next(iter(sorted(folder.glob("*.safetensors")))))


def unet_name(name: str) -> str:
    for new, old in UNET.items():
        name = re.sub(rf"^{re.escape(new)}\.", f"{old}.", name)
    name = re.sub(r"^down_blocks\.(\d)\.resnets\.(\d)\.", lambda m: f"input_blocks.{down(m)}.0.", name)
    name = re.sub(r"^down_blocks\.(\d)\.attentions\.(\d)\.", lambda m: f"input_blocks.{down(m)}.1.", name)
    name = re.sub(
        r"^down_blocks\.(\d)\.downsamplers\.0\.conv\.", lambda m: f"input_blocks.{3 * int(m[1]) + 3}.0.op.", name
    )
    name = re.sub(r"^up_blocks\.(\d)\.resnets\.(\d)\.", lambda m: f"output_blocks.{up(m)}.0.", name)
    name = re.sub(r"^up_blocks\.(\d)\.attentions\.(\d)\.", lambda m: f"output_blocks.{up(m)}.1.", name)
    # the first level has no attention before its upsampler
    name = re.sub(
        r"^up_blocks\.(\d)\.upsamplers\.0\.",
        lambda m: f"output_blocks.{3 * int(m[1]) + 2}.{1 if m[1] == '0' else 2}.",
        name,
    )
    if re.match(r"(input_blocks\.\d+\.0|middle_block\.[02]|output_blocks\.\d+\.0)\.", name):
        for new, old in RESNET.items():
            name = re.sub(rf"\.{new}\.", f".{old}.", name)
    return name


def down(found: re.Match[str]) -> int:
    return 3 * int(found[1]) + int(found[2]) + 1


def up(found: re.Match[str]) -> int:
    return 3 * int(found[1]) + int(found[2])


def vae_name(name: str) -> str:
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)\.", r"down.\1.block.\2.", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample.", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)\.", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}.", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"up.{3 - int(m[1])}.upsample.", name)
    name = re.sub(r"mid_block\.resnets\.(\d)\.", lambda m: f"mid.block_{int(m[1]) + 1}.", name)
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    if "mid_block.attentions.0." in name:
        name = name.replace("mid_block.attentions.0.", "mid.attn_1.")
        for new, old in VAE_ATTENTION.items():
            name = name.replace(f"attn_1.{new}.", f"attn_1.{old}.")
    return name


def open_clip(text: Tensors) -> Tensors:
    """Stable Diffusion 2's text encoder under OpenCLIP's names, with the last layer that it makes no use of."""
    found: Tensors = {}
    for name, tensor in text.items():
        if match := re.match(r"text_model\.encoder\.layers\.(\d+)\.(.*)", name):
            if re.search(r"\.[qkv]_proj\.", name):
                continue
            rest = match[2]
            for new, old in OPEN_CLIP.items():
                rest = rest.replace(new, old)
            found[f"transformer.resblocks.{match[1]}.{rest}"] = tensor
    layers = sorted({int(name.split(".")[3]) for name in text if ".layers." in name})
    for layer in layers:
        stem = f"text_model.encoder.layers.{layer}.self_attn."
        for kind in ("weight", "bias"):
            joined = torch.cat([text[f"{stem}{part}_proj.{kind}"] for part in "qkv"])
            found[f"transformer.resblocks.{layer}.attn.in_proj_{kind}"] = joined
    last = f"transformer.resblocks.{layers[-1]}."
    unused = {
        name.replace(last, f"transformer.resblocks.{layers[-1] + 1}."): t for name, t in found.items() if last in name
    }
    width = text["text_model.embeddings.token_embedding.weight"].shape[1]
    found |= {name: torch.full_like(tensor, 7.0) for name, tensor in unused.items()}
    found |= {
        "token_embedding.weight": text["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": text["text_model.embeddings.position_embedding.weight"],
        "ln_final.weight": text["text_model.final_layer_norm.weight"],
        "ln_final.bias": text["text_model.final_layer_norm.bias"],
        "text_projection": text["text_model.final_layer_norm.bias"].new_ones(width, width),
        "logit_scale": torch.tensor(1.0),
    }
    return {f"model.{name}": tensor for name, tensor in found.items()}

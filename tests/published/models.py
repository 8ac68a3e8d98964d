"""Models with a published layout: its configs, tokenizer, file names and tensor names; only the weights are random."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.published.layouts import SHIPPED, Fields, configs

TENSORS = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""Names of the VAE's attention today, and before diffusers 0.18."""


@dataclass(frozen=True)
class Size:
    """How much narrower than published, and the width of the text encoder; the defaults are the published sizes."""

    narrower: int = 1
    text_width: int | None = None


FULL, NARROW = Size(), Size(10, 64)
PUBLISHED_TEXT = Size(10)
"""Narrow, and as wide as published where a width tells Stable Diffusion 1.x from 2.x."""


@dataclass(frozen=True)
class Recipe:
    """What a model is made of."""

    name: str
    size: Size = NARROW
    variant: str | None = None
    """fp16, or nothing for full precision."""
    seed: int = 0
    changes: Mapping[str, Fields] = field(default_factory=dict)
    """Other fields than the published ones, by file."""


def make_model(folder: Path, recipe: Recipe) -> Path:
    """Write a base model or a judge into a folder that is made for it."""
    found = configs(recipe.name)
    for file, fields in found.items():
        written = _narrowed(fields | recipe.changes.get(file, {}), recipe.size)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(written, indent=2), encoding="utf-8")
    for place in folder.rglob("tokenizer_config.json"):
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(SHIPPED / "stable-diffusion-v1-5/tokenizer" / name, place.with_name(name))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        for file in sorted(found):
            if file == "config.json" or file.split("/")[0] in ("unet", "vae", "text_encoder"):
                _write_weights((folder / file).parent, found[file], recipe.variant)
    return folder


def _narrowed(config: Fields, size: Size) -> Fields:
    """Narrower, with the same fields as before and no others."""
    if size.narrower == 1:
        return config
    new = dict(config)
    if "block_out_channels" in config:
        groups = config.get("norm_num_groups", 32)
        widths = [max(groups, c // size.narrower // groups * groups) for c in config["block_out_channels"]]
        new["block_out_channels"] = widths
        if isinstance(config.get("attention_head_dim"), list):  # it means the number of heads
            new["attention_head_dim"] = [width // 32 for width in widths]
    if "num_hidden_layers" in config:
        new["num_hidden_layers"] = max(2, config["num_hidden_layers"] // size.narrower)
    if size.text_width is not None:
        _narrow_transformer(new, size.text_width)
    for part in ("text_config", "vision_config"):
        if isinstance(config.get(part), dict):
            new[part] = _narrowed(config[part], size)
    for part in ("text_config_dict", "vision_config_dict"):  # what an old config holds here goes first
        if isinstance(config.get(part), dict):
            new[part] = {name: new[part.removesuffix("_dict")][name] for name in config[part]}
    return new


def _narrow_transformer(config: Fields, width: int) -> None:
    new = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_attention_heads": 1,
        "projection_dim": width,
        "cross_attention_dim": width,
    }
    config.update({name: value for name, value in new.items() if name in config})


def _write_weights(folder: Path, published: Fields, variant: str | None) -> None:
    model = _build(folder, published)
    model = model.half() if variant == "fp16" else model.float()
    stem = "diffusion_pytorch_model" if "_class_name" in published else "model"
    name = f"{stem}.{variant}.safetensors" if variant else f"{stem}.safetensors"
    save_file(_tensors(model, folder.name, published), folder / name, {"format": "pt"})


def _build(folder: Path, published: Fields) -> Any:
    import diffusers
    import transformers

    if "_class_name" in published:
        kind = getattr(diffusers, published["_class_name"])
        return kind.from_config(kind.load_config(folder))
    kind = getattr(transformers, (published.get("architectures") or ["CLIPTextModel"])[0])
    return kind(kind.config_class.from_pretrained(folder))


def _tensors(model: Any, part: str, published: Fields) -> dict[str, torch.Tensor]:
    """The weights under the names that they are published with."""
    if "_class_name" in published:
        tensors = model.state_dict()
        if part == "vae" and _version(published["_diffusers_version"]) < (0, 18):
            for new, old in TENSORS.items():
                tensors = {
                    n.replace(f".{new}.", f".{old}.") if ".attentions." in n else n: t for n, t in tensors.items()
                }
        return {name: tensor.contiguous() for name, tensor in tensors.items()}
    with tempfile.TemporaryDirectory() as place:  # transformers renames its tensors when it writes them
        model.save_pretrained(place)
        tensors = load_file(Path(place) / "model.safetensors")
    if part == "text_encoder":
        tensors = {f"text_model.{name}": tensor for name, tensor in tensors.items()}
    if _version(published.get("transformers_version") or "4.16") < (4, 31):  # from then on they were no longer saved
        tensors |= _positions(model)
    return tensors


def _positions(model: Any) -> dict[str, torch.Tensor]:
    """The numbers of the places, which old models have among their weights."""
    found = {}
    for name, module in model.named_modules():
        if name.endswith("embeddings") and hasattr(module, "position_embedding"):
            path = name if name.startswith(("text_model.", "vision_model.")) else f"text_model.{name}"
            found[f"{path}.position_ids"] = torch.arange(module.position_embedding.num_embeddings)[None]
    return found


def _version(text: str) -> tuple[int, ...]:
    """0.10.0.dev0 as (0, 10)."""
    return tuple(int(part) for part in text.split(".")[:2])

"""Models on disk as the demo ships them: weights in fp16, and nothing about the machine that made them."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from shoes import storage

_SHIPPED = {".json", ".safetensors"}
# What libraries write about the place a model was loaded from.
_PLACES = {"_name_or_path", "is_local", "local_files_only"}


def copy_in_half_precision(source: Path, target: Path) -> None:
    """Copy a folder in diffusers' or transformers' format into `target`, its weights cast to fp16.

    The dtype that a config names is left as it was: `from_pretrained` with an explicit dtype casts anyway.
    """
    for file in sorted(path for path in source.rglob("*") if path.suffix in _SHIPPED):
        if file.name == storage.MANIFEST:
            continue
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        _store_file(file, copy)


def _store_file(file: Path, copy: Path) -> None:
    if file.suffix == ".safetensors":
        tensors = {name: _half(tensor) for name, tensor in narrow_posterior(load_file(file)).items()}
        save_file(tensors, copy, metadata={"format": "pt"})
        copy.chmod(0o644)  # safetensors makes files that only their owner can read
    elif file.suffix == ".json" and file.name != "tokenizer.json":
        storage.write_text(copy, _without_places(json.loads(file.read_text(encoding="utf-8"))))
    else:
        shutil.copyfile(file, copy)


def narrow_posterior(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A VAE whose posterior is as narrow as Stable Diffusion's: the variance head says exp(-12) everywhere.

    The diffusion model learns from the posterior's means. A tiny VAE's own variance is half of the latents' spread,
    which whoever samples the posterior (as trainers do) would have to predict as well. Other models pass unchanged.
    """
    if "quant_conv.weight" not in tensors:
        return tensors
    weight, bias = tensors["quant_conv.weight"].clone(), tensors["quant_conv.bias"].clone()
    half = weight.shape[0] // 2  # means first, then log variances
    weight[half:], bias[half:] = 0.0, -12.0
    return {**tensors, "quant_conv.weight": weight, "quant_conv.bias": bias}


def _half(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in fp16, which must be able to hold it."""
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    if not torch.isfinite(half).all():
        raise ValueError("a weight is too large for fp16")
    return half.contiguous()


def _without_places(config: dict[str, object]) -> str:
    return json.dumps({k: v for k, v in config.items() if k not in _PLACES}, indent=2) + "\n"

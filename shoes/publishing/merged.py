"""The base with the adapter in its weights: a pipeline of its own, in fp16, for what can't load adapters."""

import gc
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoes.errors import ExportError
from shoes.model.load import load_pipeline, quiet_libraries
from shoes.publishing.proof import mean_difference, updates_of
from shoes.spec import SchedulerName
from shoes.tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline
    from PIL.Image import Image

_ONE_STEP_OF_FP16 = 2.0**-10
_SMALLEST_FP16 = 2.0**-24

Draw = Callable[["StableDiffusionPipeline"], "Image"]


@dataclass(frozen=True)
class Difference:
    """Between two pictures: mean over pixels and channels, in grey levels of 255."""

    from_adapter: float
    """The loaded pipeline's from the adapter's on the base in fp32."""
    by_rounding: float
    """What rounding all weights to fp16 makes of the adapter's, measured in memory."""
    from_rounded: float
    """The loaded pipeline's from that rounded one: 0 where it computes what was saved."""


def write_merged(
    target: Path, base: Path, adapter_dir: Path, *, device: str, scheduler: SchedulerName, draw: Draw
) -> Difference:
    """Write a pipeline with the adapter merged, load it back as its users will, and compare.

    It loads with `StableDiffusionPipeline.from_pretrained(target, variant="fp16")`; it has no safety checker.

    Args:
        target: a folder that is not there yet.
        base: the base model, in diffusers' format.
        scheduler: what to draw with; the merged pipeline keeps the base's own.
        draw: draws one picture with a pipeline.

    Raises:
        ExportError: the merged weights are not what base and adapter add up to.
    """
    import torch

    pipeline = load_pipeline(base, device=device, dtype=torch.float32, scheduler=scheduler, adapter_dir=adapter_dir)
    sampler, expected, weights = pipeline.scheduler, draw(pipeline), _merged_weights(pipeline.unet)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    pipeline.scheduler = _own_scheduler(base)
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(target, variant="fp16", safe_serialization=True)
    _write_as_published(target, base)
    _tidy(target)
    rounded = _draw_in_fp32(pipeline, sampler, draw)
    del pipeline
    gc.collect()  # 4 GB in fp32, before they are loaded again
    loaded = _load(target, device)
    _require_weights(target, loaded.unet, weights)
    found = _draw_in_fp32(loaded, sampler, draw)
    return Difference(
        from_adapter=mean_difference(expected, found),
        by_rounding=mean_difference(expected, rounded),
        from_rounded=mean_difference(rounded, found),
    )


def _draw_in_fp32(pipeline: "StableDiffusionPipeline", sampler: Any, draw: Draw) -> "Image":
    """What the CPU does in fp16 is no measure of the weights."""
    import torch

    pipeline.to(dtype=torch.float32)
    pipeline.scheduler = sampler
    return draw(pipeline)


def _merged_weights(unet: "torch.nn.Module") -> "dict[str, torch.Tensor]":
    """What each adapted layer's weight is to be in fp16, computed apart from the library that merges."""
    layers = dict(unet.named_modules())
    found = {}
    for name, update in updates_of(unet).items():
        weight = layers[name].base_layer.weight.detach()
        found[name] = (weight.float() + update.weight.reshape(weight.shape)).half().cpu()
    return found


def _load(folder: Path, device: str) -> "StableDiffusionPipeline":
    """As its users load it, in fp32."""
    quiet_libraries()
    import torch
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, variant="fp16", dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _require_weights(folder: Path, unet: "torch.nn.Module", expected: "dict[str, torch.Tensor]") -> None:
    import torch

    layers = dict(unet.named_modules())
    for name, weight in expected.items():
        found = layers[name].weight.detach().float().cpu()
        # the sum may be rounded to either neighbour, by the order of its terms
        if not torch.allclose(found, weight.float(), rtol=_ONE_STEP_OF_FP16, atol=_SMALLEST_FP16):
            raise ExportError(
                f"The merged pipeline in {folder} has other weights in {name} than base and adapter add up to. It is "
                "not kept; please report this as a bug."
            )


def _own_scheduler(base: Path) -> Any:
    """The scheduler that the base names in its index; DDIM where this diffusers knows no such class."""
    import diffusers

    index = json.loads((base / "model_index.json").read_text(encoding="utf-8"))
    _, name = index.get("scheduler") or (None, None)
    kind = getattr(diffusers, str(name), diffusers.DDIMScheduler)
    return kind.from_pretrained(base, subfolder="scheduler", local_files_only=True)


def _write_as_published(folder: Path, base: Path) -> None:
    """Undo what transformers 5 writes in a way of its own.

    Earlier releases, and tools that read the files themselves, know the text encoder's weights as `text_model.…` only:
    of others they take none, and random ones in their place. Their tokenizer reads vocab.json and merges.txt.
    """
    weights = folder / "text_encoder/model.fp16.safetensors"
    tensors = {name.removeprefix("text_model."): tensor for name, tensor in read_tensors(weights).items()}
    write_tensors(weights, {f"text_model.{name}": tensor for name, tensor in tensors.items()})
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(base / "tokenizer", folder / "tokenizer", ignore=shutil.ignore_patterns(".*"))


def _tidy(folder: Path) -> None:
    """Take the folder that the base was loaded from out of the configs, and let weights be read by who reads those."""
    for file in folder.rglob("[!.]*.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict) and (content.pop("_name_or_path", None) or content.pop("name_or_path", None)):
            file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for file in folder.rglob("[!.]*.safetensors"):
        shutil.copymode(folder / "model_index.json", file)

"""The proof that an export is the adapter: each form is loaded as its users load it, and drawn with.

A picture alone would let much pass where an adapter has learned little: without its alpha it draws almost the
base's picture then, and so does the real one. The update of every layer is compared as well.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoes.errors import ExportError
from shoes.publishing.export import DIFFUSERS_FILE, KOHYA_FILE, PEFT_FOLDER

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from PIL.Image import Image

LARGEST_DIFFERENCE = 1.0
"""Mean over all pixels and channels, in grey levels of 255, that rounding may make between two pictures."""
LARGEST_UPDATE_ERROR = 0.02
"""Of one layer's update, relative (Frobenius norms): rounding both factors to bf16 makes it 0.8 % at most."""

Draw = Callable[["StableDiffusionPipeline"], "Image"]


@dataclass(frozen=True)
class Update:
    """What an adapter adds to one layer's weights, in its small factors."""

    up: "torch.Tensor"
    """B: outputs × rank, and the kernel of a convolution."""
    down: "torch.Tensor"
    """A: rank × inputs, and the kernel of a convolution."""
    scale: float

    @property
    def weight(self) -> "torch.Tensor":
        """scale × B·A in fp32, outputs × inputs (with the kernel)."""
        return self.scale * (self.up.float().flatten(1) @ self.down.float().flatten(1))


Updates = Mapping[str, Update]


def updates_of(unet: "torch.nn.Module") -> dict[str, Update]:
    """What the active adapter adds to each layer, by the layer's name."""
    from peft.tuners.lora import LoraLayer

    return {
        name.removeprefix("base_model.model."): Update(
            layer.lora_B[adapter].weight.detach(), layer.lora_A[adapter].weight.detach(), layer.scaling[adapter]
        )
        for name, layer in unet.named_modules()
        if isinstance(layer, LoraLayer)
        for adapter in layer.active_adapters
    }


def prove(
    folder: Path, pipeline: "StableDiffusionPipeline", *, updates: Updates, expected: "Image", draw: Draw
) -> dict[str, float]:
    """Load each form of an exported adapter on the base model, and compare it with the adapter in memory.

    The pipeline's UNet is the base's at the beginning, and again at the end.

    Args:
        folder: the exported adapter.
        pipeline: with the UNet of the base, no adapter on it.
        updates: `updates_of` the UNet with the adapter in memory, in the precision of the pipeline's UNet.
        expected: what the adapter in memory draws.
        draw: draws that picture with a pipeline.

    Returns:
        The mean difference of each form's picture, in grey levels of 255.

    Raises:
        ExportError: with the name of the form that is not the adapter.
    """
    return {form: _prove_one(form, load, folder, pipeline, updates, draw, expected) for form, load in FORMS.items()}


def mean_difference(one: "Image", other: "Image") -> float:
    """Mean over all pixels and channels of the absolute difference of two pictures of one size, in 0…255."""
    import numpy as np

    first, second = (np.asarray(image, dtype=np.float32) for image in (one, other))
    return float(np.abs(first - second).mean())


def _prove_one(
    form: str,
    load: "Load",
    folder: Path,
    pipeline: "StableDiffusionPipeline",
    updates: Updates,
    draw: Draw,
    expected: "Image",
) -> float:
    base = pipeline.unet
    try:
        take_off = load(pipeline, folder)
    except Exception as error:
        raise ExportError(_failed(form, folder, f"can't be loaded: {error}")) from error
    try:
        if wrong := _wrong_layer(updates, updates_of(pipeline.unet)):
            raise ExportError(_failed(form, folder, wrong))
        difference = mean_difference(expected, draw(pipeline))
    finally:
        take_off()
        pipeline.unet = base
    if not difference < LARGEST_DIFFERENCE:
        text = (
            f"draws another picture than the adapter in memory: they differ by {difference:.2f} grey levels of 255 in "
            f"the mean, and rounding explains less than {LARGEST_DIFFERENCE:.0f}"
        )
        raise ExportError(_failed(form, folder, text))
    return difference


def _failed(form: str, folder: Path, what: str) -> str:
    return f"The {form} in {folder} {what}. Nothing was published; please report this as a bug."


def _wrong_layer(expected: Updates, found: Updates) -> str | None:
    """What is wrong with the updates of a loaded form; nothing when each layer has its own."""
    if missing := sorted(expected.keys() - found.keys()):
        return f"has no update for {_some(missing)}"
    if strange := sorted(found.keys() - expected.keys()):
        return f"has updates for {_some(strange)}, which the adapter has not"
    errors = {name: _relative_error(expected[name], found[name]) for name in expected}
    worst = max(errors, key=errors.__getitem__, default="")
    if not worst or errors[worst] <= LARGEST_UPDATE_ERROR:
        return None
    return f"is another adapter than the one in memory: its update of {worst} is off by {errors[worst]:.0%}"


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - 1} other layers" if len(names) > 1 else ""
    return f"{names[0]}{rest}"


def _relative_error(expected: Update, found: Update) -> float:
    """|found − expected| / |expected|; infinite where the shapes differ, only one is zero, or one is not finite."""
    from torch.linalg import vector_norm

    first, second = expected.weight, found.weight.to(expected.up.device)
    if first.shape != second.shape:
        return math.inf
    size, error = vector_norm(first).item(), vector_norm(second - first).item()
    if size == 0:
        return 0.0 if error == 0 else math.inf
    return error / size if math.isfinite(error) else math.inf


Load = Callable[["StableDiffusionPipeline", Path], Callable[[], Any]]
"""Puts a form of the adapter in a folder on a pipeline; what it returns takes it off again."""


def _load_diffusers(pipeline: "StableDiffusionPipeline", folder: Path) -> Callable[[], Any]:
    pipeline.load_lora_weights(folder, weight_name=DIFFUSERS_FILE)
    return pipeline.unload_lora_weights


def _load_kohya(pipeline: "StableDiffusionPipeline", folder: Path) -> Callable[[], Any]:
    file = folder / KOHYA_FILE
    pipeline.load_lora_weights(file.parent, weight_name=file.name)
    return pipeline.unload_lora_weights


def _load_peft(pipeline: "StableDiffusionPipeline", folder: Path) -> Callable[[], Any]:
    from peft import PeftModel

    base: UNet2DConditionModel = pipeline.unet
    # in the base's precision, as the other forms are loaded
    wrapped = PeftModel.from_pretrained(base, folder / PEFT_FOLDER, autocast_adapter_dtype=False)
    pipeline.unet = wrapped
    return wrapped.unload


FORMS: Mapping[str, Load] = {
    "diffusers file": _load_diffusers,
    "PEFT folder": _load_peft,
    "kohya file": _load_kohya,
}
"""How people load an adapter: each form, by its name."""

"""The proof that an export is the adapter: each form is loaded as its users load it, compared, and drawn with.

The weights decide. A picture alone would let much pass where an adapter has learned little: without its alpha it draws
almost the base's picture then, and so does the real one. The update of every layer is compared, with both sides rounded
alike, so that the comparison is as sharp in half precision as in fp32. A picture finds what the weights can't show, a
loader that does not use them, and what two pictures of the same weights may differ by is measured, not assumed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoes.errors import ExportError
from shoes.model.contents.adapters import draw_with_all
from shoes.publishing.export import DIFFUSERS_FILE, KOHYA_FILE, PEFT_FOLDER

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from PIL.Image import Image

LARGEST_UPDATE_ERROR = 1e-4
"""Of one layer's update, relative (Frobenius norms). The factors are equal after the same rounding; what is left is how
a format writes the scale: kohya's alpha is a number in fp32, and √rank is in it for rank-stabilised adapters."""

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


def updates_of(model: "torch.nn.Module") -> dict[str, Update]:
    """What the active adapter adds to each layer of a UNet or text encoder, by the layer's name."""
    return {
        name.removeprefix("base_model.model."): Update(
            layer.lora_B[adapter].weight.detach(), layer.lora_A[adapter].weight.detach(), layer.scaling[adapter]
        )
        for name, layer in _adapted(model).items()
        for adapter in layer.active_adapters
    }


def _adapted(model: "torch.nn.Module") -> dict[str, Any]:
    from peft.tuners.lora import LoraLayer

    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}


def prove(folder: Path, pipeline: "StableDiffusionPipeline", *, updates: Updates, draw: Draw) -> "dict[str, Image]":
    """Load each form of an exported adapter on the base model, compare it with the trained adapter, and draw with it.

    The pipeline's UNet is the base's at the beginning, and again at the end.

    Args:
        folder: the exported adapter.
        pipeline: with the UNet of the base, no adapter on it.
        updates: `updates_of` the UNet with the trained adapter, in fp32.
        draw: draws a picture with a pipeline.

    Returns:
        Each form's picture.

    Raises:
        ExportError: with the name of the form that is not the adapter.
    """
    return {form: _prove_one(form, load, folder, pipeline, updates, draw) for form, load in FORMS.items()}


def doubts(differences: Mapping[str, float], rounding: float | None) -> tuple[str, ...]:
    """What speaks against forms whose weights are right, one sentence each: pictures that rounding does not explain.

    Args:
        differences: of each form's picture from that of the trained adapter, as `mean_difference` gives them.
        rounding: the same of two pictures of the trained adapter that are rounded in different orders.
    """
    explained = rounding or 0.0
    return tuple(
        f"the {form} has the right weights, but draws another picture than the trained adapter: they differ by "
        f"{difference:.2g} grey levels of 255 in the mean, and rounding explains {explained:.2g} here"
        for form, difference in differences.items()
        if not difference <= explained
    )


def mean_difference(one: "Image", other: "Image") -> float:
    """Mean over all pixels and channels of the absolute difference of two pictures of one size, in 0…255."""
    import numpy as np

    first, second = (np.asarray(image, dtype=np.float32) for image in (one, other))
    return float(np.abs(first - second).mean())


def _prove_one(
    form: str, load: "Load", folder: Path, pipeline: "StableDiffusionPipeline", updates: Updates, draw: Draw
) -> "Image":
    base = pipeline.unet
    try:
        take_off = load(pipeline, folder)
    except Exception as error:
        pipeline.unload_lora_weights()  # what was put on it before the error
        raise ExportError(_failed(form, folder, f"can't be loaded: {error}")) from error
    try:
        if wrong := _wrong_layer(updates, updates_of(pipeline.unet)) or _surplus(pipeline):
            raise ExportError(_failed(form, folder, wrong))
        return draw(pipeline)
    finally:
        take_off()
        pipeline.unet = base


def _surplus(pipeline: "StableDiffusionPipeline") -> str | None:
    """What a loaded form has beside the two factors of each of the UNet's layers; our adapters have nothing else."""
    if strange := sorted(_adapted(pipeline.text_encoder)):
        return f"has updates for {_some(strange)} of the text encoder, which the adapter has not"
    layers = _adapted(pipeline.unet).items()
    more = sorted(name for name, layer in layers if layer.lora_magnitude_vector or any(layer.lora_bias.values()))
    return f"has a magnitude or a bias for {_some(more)}, which the adapter has not" if more else None


def _failed(form: str, folder: Path, what: str) -> str:
    rest = "Nothing was published, and what was trained is kept; please report this as a bug."
    return f"The {form} in {folder} {what}. {rest}"


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
    return f"is another adapter than the trained one: its update of {worst} is off by {errors[worst]:.2g} of its size"


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - 1} other layers" if len(names) > 1 else ""
    return f"{names[0]}{rest}"


def _relative_error(expected: Update, found: Update) -> float:
    """|found − expected| / |expected|, with the expected factors rounded as the found ones are.

    Infinite where the shapes differ, only one is zero, or one is not finite.
    """
    from torch.linalg import vector_norm

    first = _rounded(expected, found.up).weight
    second = found.weight.to(first.device)
    if first.shape != second.shape:
        return math.inf
    size, error = vector_norm(first).item(), vector_norm(second - first).item()
    if size == 0:
        return 0.0 if error == 0 else math.inf
    return error / size if math.isfinite(error) else math.inf


def _rounded(update: Update, like: "torch.Tensor") -> Update:
    """An update with its factors on the device and in the precision of a tensor."""
    return Update(update.up.to(like), update.down.to(like), update.scale)


Load = Callable[["StableDiffusionPipeline", Path], Callable[[], Any]]
"""Puts a form of the adapter in a folder on a pipeline; what it returns takes it off again."""


def _load_diffusers(pipeline: "StableDiffusionPipeline", folder: Path) -> Callable[[], Any]:
    pipeline.load_lora_weights(folder, weight_name=DIFFUSERS_FILE)
    draw_with_all(pipeline)
    return pipeline.unload_lora_weights


def _load_kohya(pipeline: "StableDiffusionPipeline", folder: Path) -> Callable[[], Any]:
    file = folder / KOHYA_FILE
    pipeline.load_lora_weights(file.parent, weight_name=file.name)
    draw_with_all(pipeline)
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

"""How a picture is made, inside its PNG: all of it as JSON for us, and as the text that other programs show.

shoes        iTXt, canonical JSON: a `PictureRecipe`
parameters   the text that AUTOMATIC1111 writes, which most programs can read
"""

import io
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from shoes.errors import ConfigurationError, Problem
from shoes.generation.formats import AdapterFile
from shoes.generation.plan import Base, DrawnPrecision, Plan, Sampling
from shoes.reports import Report
from shoes.storage import canonical_json, write_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

KEY = "shoes"
FORMAT = 1
_SAMPLERS = {"dpm-solver": "DPM++ 2M", "ddim": "DDIM", "euler": "Euler", "pndm": "PLMS"}
"""Samplers by the names that other programs have for them."""


class AdapterRecipe(Report):
    """An adapter by its content, and how strongly it was applied; no place on a disk."""

    name: str
    kind: Literal["diffusers", "kohya", "peft"]
    sha256: str
    config_sha256: str | None
    weight: float


class Computation(Report):
    """What changes no more than rounding, on one type of device."""

    batch_size: int
    """Pictures that were drawn at once."""
    batch_position: int
    """Which of them this one was, from 0."""
    attention: Literal["sdpa", "sliced", "xformers"]
    vae_slicing: bool
    offload: Literal["none", "model"]
    versions: dict[str, str]
    """Of the libraries that drew it."""


class PictureRecipe(Report):
    """All that makes a picture."""

    format: Literal[1] = 1
    prompt: str
    seed: int
    sampling: Sampling
    base: Base
    adapters: tuple[AdapterRecipe, ...]
    device: str
    precision: DrawnPrecision
    vae_tiling: bool
    computation: Computation

    @property
    def deciding(self) -> dict[str, object]:
        """What decides the picture beside the precision: contents, and no names."""
        return {
            **self.model_dump(include={"prompt", "seed", "sampling", "device", "vae_tiling"}),
            "base": self.base.fingerprint,
            "adapters": [(one.sha256, one.config_sha256, one.weight) for one in self.adapters],
        }

    def is_of(self, plan: Plan, number: int) -> bool:
        """Whether the picture with this recipe is picture `number` of a plan, perhaps drawn in fp32 instead."""
        planned = recipe_of(plan, number, precision=self.precision, batch=(1, 0))
        return self.deciding == planned.deciding and self.precision in (plan.precision, "no")


def recipe_of(plan: Plan, number: int, *, precision: DrawnPrecision, batch: tuple[int, int]) -> PictureRecipe:
    """The recipe of picture `number` of a plan.

    Args:
        plan: of the run.
        number: from 0.
        precision: that it is drawn in.
        batch: how many are drawn at once, and which of them it is.
    """
    adapters = [AdapterRecipe(**one.model_dump(exclude={"path"})) for one in plan.adapters]
    return PictureRecipe(
        prompt=plan.pictures[number].prompt,
        seed=plan.pictures[number].seed,
        sampling=plan.sampling,
        base=plan.base,
        adapters=tuple(adapters),
        device=plan.device,
        precision=precision,
        vae_tiling=plan.inference.vae_tiling,
        computation=Computation(
            batch_size=batch[0],
            batch_position=batch[1],
            attention=plan.inference.attention,
            vae_slicing=plan.inference.vae_slicing,
            offload=plan.inference.offload,
            versions=versions(),
        ),
    )


def versions() -> dict[str, str]:
    """Versions of what draws."""
    found = {}
    for package in ("shoes", "torch", "diffusers", "peft", "transformers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # used from a checkout that is not installed
            found[package] = "unknown"
    return found


def write_picture(path: Path, image: "Image", recipe: PictureRecipe) -> None:
    """Write a PNG with its recipe, atomically."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", parameters(recipe))  # iTXt where Latin-1 does not hold it
    info.add_itxt(KEY, canonical_json(recipe))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info)
    write_bytes(path, buffer.getvalue())


def read_picture(path: Path) -> "tuple[Image, PictureRecipe]":
    """A picture in RGB, read to its last byte, and its recipe.

    Raises:
        ConfigurationError: it can't be read, or holds no recipe that this version understands.
    """
    from PIL import Image

    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
            text = getattr(opened, "text", {}).get(KEY)
    except (OSError, SyntaxError) as error:  # SyntaxError: what Pillow raises for a broken chunk
        what = "there is no such file" if isinstance(error, FileNotFoundError) else f"is no whole picture: {error}"
        raise ConfigurationError([Problem(str(path), what, "name a PNG that `shoes generate` made")]) from error
    if text is None:
        fix = "name a PNG as `shoes generate` wrote it: copies through other programs and chats lose it"
        raise ConfigurationError([Problem(str(path), "does not say how it was made", fix)])
    return image, _understand(path, text)


def _understand(path: Path, text: str) -> PictureRecipe:
    try:
        fields = json.loads(text)
        if isinstance(fields, dict) and fields.get("format") != FORMAT:
            what = f"was made by another version of this program (format {fields.get('format')}, here {FORMAT})"
            raise ConfigurationError([Problem(str(path), what, "make it again with that version")])
        return PictureRecipe.model_validate(fields)
    except (ValueError, ValidationError) as error:
        what = "has a recipe that can't be understood"
        raise ConfigurationError([Problem(str(path), what, "name a PNG that `shoes generate` made")]) from error


def parameters(recipe: PictureRecipe) -> str:
    """The recipe as AUTOMATIC1111 writes it: prompt, negative prompt, and a line of settings."""
    sampling = recipe.sampling
    negative = [f"Negative prompt: {sampling.negative_prompt}"] if sampling.negative_prompt else []
    settings = {
        "Steps": sampling.num_inference_steps,
        "Sampler": _SAMPLERS[sampling.scheduler],
        "CFG scale": f"{sampling.guidance_scale:g}",
        "Seed": recipe.seed,
        "Size": f"{sampling.resolution}x{sampling.resolution}",
        "Model hash": recipe.base.fingerprint[:10],
        "Model": Path(recipe.base.name).name,
    }
    if recipe.adapters:
        names = [one.name.replace(",", " ").replace(":", " ") for one in recipe.adapters]
        hashes = [f"{name}: {one.sha256[:12]}" for name, one in zip(names, recipe.adapters, strict=True)]
        weights = [f"{name}: {one.weight:g}" for name, one in zip(names, recipe.adapters, strict=True)]
        settings |= {"Lora hashes": f'"{", ".join(hashes)}"', "Lora weights": f'"{", ".join(weights)}"'}
    settings["Version"] = f"shoes {recipe.computation.versions['shoes']}"
    return "\n".join([recipe.prompt, *negative, ", ".join(f"{name}: {value}" for name, value in settings.items())])


def matches(recipe: AdapterRecipe, file: AdapterFile) -> bool:
    """A file here is the adapter that a recipe names."""
    return (recipe.sha256, recipe.config_sha256) == (file.sha256, file.config_sha256)

"""A part's config as its library reads it: what the file says, over the defaults of the library's class.

Published configs lack fields that newer libraries write: the VAE of Stable Diffusion 1.5 has no `scaling_factor`. The
defaults are read from the source of the installed class, without importing it: a model is judged within milliseconds,
and where PyTorch is not installed yet.
"""

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LibraryClass:
    """A class of an installed library that reads configs, by where its source lies."""

    package: str
    module: str
    """Path of the source file inside the package."""
    name: str
    nested: str = ""
    """Field under which its config lies in that of a larger model."""


UNET = LibraryClass("diffusers", "models/unets/unet_2d_condition.py", "UNet2DConditionModel")
VAE = LibraryClass("diffusers", "models/autoencoders/autoencoder_kl.py", "AutoencoderKL")
NOISE_SCHEDULE = LibraryClass("diffusers", "schedulers/scheduling_ddpm.py", "DDPMScheduler")
DPM_SOLVER = LibraryClass("diffusers", "schedulers/scheduling_dpmsolver_multistep.py", "DPMSolverMultistepScheduler")
TEXT_ENCODER = LibraryClass("transformers", "models/clip/configuration_clip.py", "CLIPTextConfig", "text_config")
CLIP = LibraryClass("transformers", "models/clip/configuration_clip.py", "CLIPConfig")


@dataclass(frozen=True)
class ModelGeometry:
    """The sizes of a Stable Diffusion 1.x or 2.x model that its configs give."""

    latent_channels: int
    downscale: int
    """Pixels per latent, along one side."""
    scaling_factor: float
    """What the VAE's latents are multiplied by before the UNet sees them."""
    text_tokens: int
    """Places of the text encoder; a tokenizer may use fewer."""
    text_width: int


def geometry(folder: Path) -> ModelGeometry:
    """Geometry of a model in diffusers' format.

    Raises:
        OSError, ValueError: a config can't be read.
    """
    vae = read_config(folder / "vae/config.json", VAE)
    text = read_config(folder / "text_encoder/config.json", TEXT_ENCODER)
    return ModelGeometry(
        latent_channels=vae["latent_channels"],
        downscale=2 ** (len(vae["block_out_channels"]) - 1),
        scaling_factor=vae["scaling_factor"],
        text_tokens=text["max_position_embeddings"],
        text_width=text["hidden_size"],
    )


def read_config(file: Path, reader: LibraryClass) -> dict[str, Any]:
    """A config's fields over the defaults of the class that reads it.

    Raises:
        OSError, ValueError: the file can't be read, or holds no object.
    """
    value = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"{file} holds no object")
    return with_defaults(value, reader)


def with_defaults(config: Mapping[str, Any], reader: LibraryClass) -> dict[str, Any]:
    """The fields of a config that was read, over the defaults of the class that reads it.

    A field that is null stays so: for the libraries that is a value.
    """
    inner = config.get(reader.nested)
    own = inner if isinstance(inner, Mapping) else config
    # diffusers names the fields here that were at their default when it wrote the file, and takes today's for them
    unused = own.get("_use_default_values", [])
    return {**defaults(reader), **{name: value for name, value in own.items() if name not in unused}}


@cache
def defaults(reader: LibraryClass) -> Mapping[str, Any]:
    """What a field is that a config does not have; without the few fields whose default is computed.

    Raises:
        ModuleNotFoundError: the library is not installed.
    """
    spec = find_spec(reader.package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {reader.package!r}", name=reader.package)
    source = Path(spec.submodule_search_locations[0]) / reader.module
    tree = ast.parse(source.read_text(encoding="utf-8"))
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == reader.name)
    return {name: ast.literal_eval(value) for name, value in _fields(found) if not _is_computed(value)}


def _is_computed(value: ast.expr) -> bool:
    """Such as -float("inf")."""
    return any(isinstance(part, ast.Call) for part in ast.walk(value))


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    """diffusers' defaults are arguments of `__init__`, those of transformers' dataclasses annotated attributes."""
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value is not None:
            yield line.target.id, line.value
        elif isinstance(line, ast.FunctionDef) and line.name == "__init__":
            given = line.args
            named = [argument.arg for argument in (*given.posonlyargs, *given.args)]
            yield from zip(named[len(named) - len(given.defaults) :], given.defaults, strict=True)
            pairs = zip(given.kwonlyargs, given.kw_defaults, strict=True)
            yield from ((argument.arg, value) for argument, value in pairs if value is not None)

"""The networks of a model, and which files their weights are loaded from."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shoes.litter import visible

Kind = Literal["diffusion", "clip", "vision"]
Library = Literal["diffusers", "transformers"]
_ANY_WEIGHTS = r"(?:\.(?P<variant>\w+))?(?:-\d+-of-\d+)?\.safetensors"


@dataclass(frozen=True)
class Part:
    """One network of a model: its folder, and the class that reads its config and weights."""

    name: str
    """Folder within the model; empty for a judge, which is one network."""
    library: Library
    network: str
    """Name of the library's class."""
    stem: str
    """What the library calls the file with the weights."""

    @property
    def config(self) -> str:
        """Path of the config within the model."""
        return self.path("config.json")

    def usual(self, variant: str | None) -> str:
        """Path of the weights where they are in one file."""
        return self.path(f"{self.stem}{_dot(variant)}.safetensors")

    def index(self, variant: str | None) -> str:
        """Path of the file that says which shard holds which tensor."""
        return self.path(f"{self.stem}.safetensors.index{_dot(variant)}.json")

    def shards(self, variant: str | None) -> str:
        """Pattern of the shards' paths."""
        return self.path(f"{self.stem}{_dot(variant)}-*-of-*.safetensors")

    def path(self, name: str) -> str:
        """Path of a file of the part within the model."""
        return f"{self.name}/{name}" if self.name else name

    def weights(self, files: Collection[str], variant: str | None) -> str | None:
        """Which of `files` the library begins with: the weights, or the index of their shards; None: neither is there.

        Where both are there, diffusers takes the index and transformers the single file.
        """
        names = (self.index(variant), self.usual(variant))
        order = names if self.library == "diffusers" else names[::-1]
        return next((name for name in order if name in files), None)

    def variants(self, files: Collection[str]) -> list[str]:
        """The variants that these files offer beside full precision."""
        pattern = re.compile(re.escape(self.path(self.stem)) + _ANY_WEIGHTS)
        found = (pattern.fullmatch(file) for file in files)
        return sorted({match["variant"] for match in found if match and match["variant"]})

    def loaded(self, files: Collection[str]) -> str | None:
        """What is loaded of a folder that holds `files`: half precision first where it is there."""
        return self.weights(files, self.loaded_variant(files))

    def loaded_variant(self, files: Collection[str]) -> str | None:
        """The variant that is loaded of a folder that holds `files`."""
        return "fp16" if self.weights(files, "fp16") is not None else None

    def files_in(self, model: Path) -> list[str]:
        """Paths of the files in the part's folder, within the model."""
        folder = model / self.name
        return [self.path(file.name) for file in visible(folder.iterdir(), model)] if folder.is_dir() else []


def _dot(variant: str | None) -> str:
    return f".{variant}" if variant else ""


UNET = Part("unet", "diffusers", "UNet2DConditionModel", "diffusion_pytorch_model")
VAE = Part("vae", "diffusers", "AutoencoderKL", "diffusion_pytorch_model")
TEXT_ENCODER = Part("text_encoder", "transformers", "CLIPTextModel", "model")
CLIP = Part("", "transformers", "CLIPModel", "model")
DINO = Part("", "transformers", "Dinov2Model", "model")

PARTS: Mapping[Kind, tuple[Part, ...]] = {
    "diffusion": (UNET, VAE, TEXT_ENCODER),
    "clip": (CLIP,),
    "vision": (DINO,),
}
"""The networks of each kind of model."""


def offered(kind: Kind, files: Collection[str], variant: str | None) -> dict[Part, str]:
    """The weight file, or the index of its shards, of every part that has one in the variant.

    As diffusers has it, a part comes in full precision where only others have the variant.
    """
    found = {part: part.weights(files, variant) for part in PARTS[kind]}
    if any(found.values()):
        found = {part: name or part.weights(files, None) for part, name in found.items()}
    return {part: name for part, name in found.items() if name is not None}

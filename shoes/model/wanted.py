"""Which files of a repository or folder make up a model; everything else there is left alone."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from shoes.litter import visible
from shoes.model.contents import PARTS, Kind, offered
from shoes.settings import Settings
from shoes.spec import Recipe
from shoes.spec.names import is_path


@dataclass(frozen=True)
class Wanted:
    """Which files of a repository a model consists of."""

    kind: Kind
    name: str
    """A model id on the Hub, or a folder."""
    revision: str | None
    """Commit, tag or branch on the Hub; nothing means its main branch. Folders have none."""
    patterns: tuple[str, ...]
    weights: tuple[str, ...]
    """Files that must be there for the model to load."""
    variant: str | None = None
    """Which of several weight files of a part, by diffusers' word; fp16 say."""

    def select(self, paths: Iterable[str]) -> list[str]:
        """Those of `paths` (POSIX, relative) that belong to the model, sorted."""
        return sorted(path for path in paths if any(_matches(path, pattern) for pattern in self.patterns))

    def among(self, files: Collection[str]) -> "Wanted":
        """The same with the weights that `files` offer: shards with their index, and full precision for a part that
        lacks the variant which others have. A part without weights keeps the usual names.
        """
        found = offered(self.kind, files, self.variant)
        swaps = {part.usual(self.variant): name for part, name in found.items()}
        shards = [
            part.shards(variant)
            for part in PARTS[self.kind]
            for variant in (self.variant, None)
            if found.get(part) == part.index(variant)
        ]
        patterns = (*(swaps.get(name, name) for name in self.patterns), *dict.fromkeys(shards))
        return replace(self, patterns=patterns, weights=tuple(swaps.get(name, name) for name in self.weights))


def _matches(path: str, pattern: str) -> bool:
    """As a shell does: a star ends at the next slash."""
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and ".." not in parts and all(map(fnmatchcase, parts, patterns))


def diffusion_files(name: str, revision: str | None, variant: str | None) -> Wanted:
    """The files of a Stable Diffusion 1.x pipeline (13 for 1.5), without safety checker and single-file weights."""
    dot = f".{variant}" if variant else ""
    weights = (
        f"unet/diffusion_pytorch_model{dot}.safetensors",
        f"vae/diffusion_pytorch_model{dot}.safetensors",
        f"text_encoder/model{dot}.safetensors",
    )
    configs = ("model_index.json", "scheduler/*.json", "tokenizer/*", "feature_extractor/*.json")
    parts = ("unet/config.json", "vae/config.json", "text_encoder/config.json")
    required = ("model_index.json", "scheduler/scheduler_config.json", *parts, *weights)
    return Wanted("diffusion", name, revision, (*configs, *parts, *weights), required, variant)


def clip_files(name: str, revision: str | None) -> Wanted:
    """The files of a CLIP model with its tokenizer and image processor."""
    patterns = (
        "config.json",
        "model.safetensors",
        "*processor*.json",
        "tokenizer*",
        "vocab.json",
        "merges.txt",
        "special_tokens_map.json",
    )
    return Wanted("clip", name, revision, patterns, ("config.json", "model.safetensors"))


def vision_files(name: str, revision: str | None) -> Wanted:
    """The files of a model that sees pictures only, DINOv2, with its image processor."""
    patterns = ("config.json", "model.safetensors", "*processor*.json")
    return Wanted("vision", name, revision, patterns, ("config.json", "model.safetensors", "preprocessor_config.json"))


def is_local(wanted: Wanted, settings: Settings) -> bool:
    """The name is a folder or a file here, or can only be one."""
    return is_path(wanted.name) or settings.locate(wanted.name).exists()


def is_single_file(wanted: Wanted, settings: Settings) -> bool:
    """The name is a file here: a checkpoint that holds all parts of a model."""
    return settings.locate(wanted.name).is_file()


def files_in(folder: Path) -> list[str]:
    """Every file below a folder by POSIX path, without hidden ones."""
    files = (file for file in visible(folder.rglob("*"), folder) if file.is_file())
    return sorted(file.relative_to(folder).as_posix() for file in files)


def wanted_models(recipe: Recipe) -> tuple[Wanted, Wanted]:
    """What a recipe needs: the base model, and the CLIP that scores it."""
    model, spec = recipe.model, recipe.eval
    return (
        diffusion_files(model.pretrained_model_name_or_path, model.revision, model.variant),
        clip_files(spec.clip_model_name_or_path, spec.clip_revision),
    )


def further_judges(recipe: Recipe) -> dict[str, Wanted]:
    """What a recipe likes to have beside that, by its name in `ModelsReport`: a second CLIP, and DINOv2."""
    spec = recipe.eval
    found = {}
    if spec.second_clip_model_name_or_path is not None:
        found["second_clip"] = clip_files(spec.second_clip_model_name_or_path, spec.second_clip_revision)
    if spec.dino_model_name_or_path is not None:
        found["dino"] = vision_files(spec.dino_model_name_or_path, spec.dino_revision)
    return found


def all_models(recipe: Recipe) -> tuple[Wanted, ...]:
    """What a recipe needs and likes to have."""
    return (*wanted_models(recipe), *further_judges(recipe).values())

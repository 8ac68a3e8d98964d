"""Which of a model's files are there, which are lacking, and which would be loaded in place of those."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from shoes.errors import Problem
from shoes.model import architecture, contents
from shoes.model.contents import PARTS, Unreadable
from shoes.model.wanted import Wanted, files_in
from shoes.spec.names import PICKLES


def unusable(wanted: Wanted, folder: Path, available: Sequence[str]) -> list[Problem]:
    """Why these files are no model that can be used: another architecture, or files that are not there.

    Args:
        available: files that are in the folder, or that the Hub has.
    """
    if wanted.kind == "clip":
        problems = architecture.clip_problems(folder)
    elif wanted.kind == "vision":
        problems = architecture.vision_problems(folder)
    elif "model_index.json" in available:
        problems = architecture.pipeline_problems(folder)
        if _is_another_class(folder):  # then which files it lacks is no news
            return problems
    else:
        problems = []
    return problems + _missing(wanted, available) + _ambiguous(wanted, folder, available)


def _ambiguous(wanted: Wanted, folder: Path, available: Sequence[str]) -> list[Problem]:
    """Weights that would be loaded in place of those that are verified: fp16 and shards can go first."""
    if not folder.is_dir():
        return []
    there, problems = files_in(folder), []
    chosen = contents.offered(wanted.kind, available, wanted.variant)
    for part in PARTS[wanted.kind]:
        loaded = part.loaded(there)
        if part in chosen and loaded not in (None, chosen[part]):
            fix = "use --model.variant fp16, or remove the fp16 files" if ".fp16." in loaded else "remove one of them"
            usual = Path(chosen[part]).name
            text = f"lies beside the weights that are asked for, {usual}, and would be loaded in their place"
            problems.append(Problem(str(folder / loaded), text, fix))
        if (folder / part.name / "adapter_config.json").is_file():
            text = "would have the weights of another model loaded in place of those beside it"
            problems.append(Problem(str(folder / part.name / "adapter_config.json"), text, "remove it"))
    return problems


def _is_another_class(folder: Path) -> bool:
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return not isinstance(index, dict) or index.get("_class_name") != "StableDiffusionPipeline"


def _missing(wanted: Wanted, available: Sequence[str]) -> list[Problem]:
    missing = [name for name in wanted.among(available).weights if name not in available]
    if not missing:
        return []
    fix = partial(_fix_missing, wanted, available=available)
    problems = [Problem(f"{wanted.name}/{name}", "is missing", fix(name)) for name in missing]
    return problems + pickles(wanted, available)


def missing_shards(wanted: Wanted, folder: Path, available: Sequence[str]) -> list[Problem]:
    """Shards that an index lists and the Hub has not; an index that can't be read."""
    problems = []
    for part, name in contents.offered(wanted.kind, available, wanted.variant).items():
        if not (name.endswith(".json") and (folder / name).is_file()):
            continue
        try:
            shards = [part.path(shard) for shard in contents.read_shards(folder / name)]
        except Unreadable as error:
            fix = "name another model, or another revision of it"
            problems.append(Problem(str(folder / name), str(error), fix))
        else:
            fix = "name a revision that has all shards, or a model with its weights in one file"
            lacking = [shard for shard in shards if shard not in available]
            problems += [Problem(f"{wanted.name}/{path}", f"is missing; {name} lists it", fix) for path in lacking]
    return problems


def pickles(wanted: Wanted, available: Sequence[str]) -> list[Problem]:
    """What lies there in place of safetensors."""
    text = "is a pickle, which can run code when it is loaded"
    fix = (
        "name a model with safetensors; or, where you trust the file, convert it once with diffusers: "
        "`from_pretrained(…, use_safetensors=False)` (a single file: `from_single_file(…)`), then "
        "`save_pretrained(FOLDER)`, and give that folder"
    )
    return [Problem(f"{wanted.name}/{path}", text, fix) for path in available if path.endswith(PICKLES)]


def _fix_missing(wanted: Wanted, name: str, available: Sequence[str]) -> str:
    part = next((part for part in PARTS[wanted.kind] if part.usual(wanted.variant) == name), None)
    if part is not None and wanted.variant and part.weights(available, None) is not None:
        return "the model has no fp16 weights: use --model.variant none"
    others = part.variants(available) if part is not None else []
    if "fp16" in others and wanted.kind == "diffusion":
        return "the model has these weights in fp16: use --model.variant fp16"
    if others:
        return (
            f"the model has these weights only as {', '.join(others)}: give another model, or, where that is what you "
            f"want, a folder in which they have the usual name, {Path(name).name}"
        )
    return f"give a model in diffusers' format with {name}"

"""Is this a model that can be trained here? Told from its configs and the headers of its weights alone."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from shoes.errors import Problem
from shoes.litter import visible
from shoes.model import contents
from shoes.model.configs import CLIP, NOISE_SCHEDULE, TEXT_ENCODER, UNET, VAE, with_defaults

FINE = "Stable Diffusion 1.x and 2.x models in diffusers' format are fine, for example"
EXAMPLE = "stable-diffusion-v1-5/stable-diffusion-v1-5"
_FIX = f"{FINE} {EXAMPLE}"
OTHER_PIPELINES = {
    "StableDiffusionXL": "is Stable Diffusion XL, which has two text encoders and takes image sizes as input",
    "StableDiffusion3": "is Stable Diffusion 3, a flow-matching transformer without a UNet",
    "Flux": "is Flux, a flow-matching transformer without a UNet",
    "StableDiffusionInpaint": "is an inpainting model, whose UNet wants a mask and a picture as well",
    "StableDiffusionInstructPix2Pix": "is InstructPix2Pix, whose UNet wants a picture as well",
    "StableDiffusionUpscale": "is an upscaler, whose UNet wants a small picture as well",
    "StableDiffusionLatentUpscale": "is an upscaler, whose UNet wants a small picture as well",
    "StableDiffusionDepth2Img": "is a depth-to-image model, whose UNet wants a depth map as well",
    "LatentConsistencyModel": "is a latent consistency model, whose UNet takes the guidance as input",
    "StableCascade": "is Stable Cascade, which has no UNet of this kind",
}
"""Why other models can't be trained here, by how the names of their pipelines begin."""
_READERS = {
    "unet/config.json": UNET,
    "vae/config.json": VAE,
    "text_encoder/config.json": TEXT_ENCODER,
    "scheduler/scheduler_config.json": NOISE_SCHEDULE,
}


def pipeline_problems(folder: Path) -> list[Problem]:
    """Why the text-to-image model in `folder` can't be trained; an empty list when it can.

    A pipeline of another class is one problem; otherwise all that its parts' configs say. Parts that are not
    there are left to whoever looks for files.
    """
    index = _config(folder / "model_index.json")
    if isinstance(index, Problem):
        return [index]
    kind = str(index.get("_class_name", "nothing"))
    if kind != "StableDiffusionPipeline":
        return [Problem(str(folder / "model_index.json"), _another_class(kind), _FIX)]
    parts: dict[str, dict[str, Any]] = {}
    problems: list[Problem] = []
    for name, reader in _READERS.items():
        config = _config(folder / name)
        if isinstance(config, Problem):
            problems += [config] if (folder / name).is_file() else []
        else:
            parts[name.partition("/")[0]] = with_defaults(config, reader)
    return problems + [Problem(str(folder / where), what, _FIX) for where, what in _mismatches(parts)]


def clip_problems(folder: Path) -> list[Problem]:
    """Why the model in `folder` can't score pictures against captions; an empty list when it can."""
    config = _config(folder / "config.json")
    fix = "give a CLIP model with both encoders, for example openai/clip-vit-base-patch32"
    if isinstance(config, Problem):
        return [config] if (folder / "config.json").is_file() else []
    where = str(folder / "config.json")
    kind, classes = str(config.get("model_type", "clip")), config.get("architectures") or ["CLIPModel"]
    if kind != "clip" or "CLIPModel" not in classes:
        text = f"is a {kind} model ({', '.join(map(str, classes))}), not a CLIPModel"
        return [Problem(where, text, fix)]
    problems = []
    if not with_defaults(config, CLIP)["projection_dim"]:
        problems.append(Problem(where, "has no projection_dim: pictures and captions can't be compared", fix))
    has_words = (folder / "tokenizer.json").is_file() or (folder / "vocab.json").is_file()
    if not has_words:
        problems.append(Problem(str(folder), "has no tokenizer (tokenizer.json, or vocab.json and merges.txt)", fix))
    if not any(visible(folder.glob("*processor*.json"), folder)):
        problems.append(Problem(str(folder), "has no image processor (preprocessor_config.json)", fix))
    return problems


def vision_problems(folder: Path) -> list[Problem]:
    """Why the model in `folder` can't compare pictures as DINOv2 does; an empty list when it can."""
    config = _config(folder / "config.json")
    if isinstance(config, Problem):
        return [config] if (folder / "config.json").is_file() else []
    kind = str(config.get("model_type", "dinov2"))
    if kind == "dinov2":
        return []
    fix = "give a DINOv2 model, for example facebook/dinov2-base, or none"
    return [Problem(str(folder / "config.json"), f"is a {kind} model, not DINOv2", fix)]


def target_problems(folder: Path, targets: Sequence[str]) -> list[Problem]:
    """Adapter targets that name no layer of the UNet, told from its weights' header."""
    unet = contents.UNET
    if unet.loaded(unet.files_in(folder)) is None:
        return []
    try:
        keys = contents.read_part(folder, unet)
    except contents.Unreadable as error:
        return [Problem(str(folder / unet.name), str(error), "run `shoes model fetch`, or restore it")]
    return layer_problems(keys, targets)


def layer_problems(keys: Iterable[str], targets: Sequence[str]) -> list[Problem]:
    """Adapter targets that name no layer of a UNet whose tensors have the names `keys`."""
    layers = {key.removesuffix(".weight") for key in keys if key.endswith(".weight")}
    known = sorted({layer for layer in ("to_q", "to_k", "to_v", "to_out.0", "proj_in") if _ends(layers, layer)})
    fix = f"name layers by the end of their names, for example {', '.join(known)}"
    where = "train.lora_target_modules"
    return [Problem(where, f"this UNet has no layer {t}", fix) for t in targets if not _ends(layers, t)]


def _ends(layers: set[str], target: str) -> bool:
    return any(layer == target or layer.endswith(f".{target}") for layer in layers)


def _another_class(kind: str) -> str:
    for start, text in OTHER_PIPELINES.items():
        if kind.startswith(start):
            return text
    return f"is a {kind}, not a StableDiffusionPipeline"


def _mismatches(parts: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """What does not fit in the configs that are there."""
    found: list[tuple[str, str]] = []
    if "unet" in parts:
        found += [("unet/config.json", what) for what in _unet_mismatches(parts["unet"])]
    if "vae" in parts:
        found += [("vae/config.json", what) for what in _another_kind(parts["vae"], "_class_name", VAE.name)]
    if "text_encoder" in parts:
        kinds = _another_kind(parts["text_encoder"], "model_type", "clip_text_model", "clip")
        found += [("text_encoder/config.json", what) for what in kinds]
    if "unet" in parts and "vae" in parts:
        found += [("unet/config.json", what) for what in _channel_mismatches(parts["unet"], parts["vae"])]
    if "unet" in parts and "text_encoder" in parts:
        wide, hidden = parts["unet"]["cross_attention_dim"], parts["text_encoder"]["hidden_size"]
        if wide != hidden:
            text = f"cross_attention_dim is {wide} and the text encoder's hidden_size is {hidden}"
            found.append(("unet/config.json", text))
    if "scheduler" in parts:
        found += [("scheduler/scheduler_config.json", what) for what in _scheduler_mismatches(parts["scheduler"])]
    return found


def _another_kind(config: dict[str, Any], field: str, *expected: str) -> list[str]:
    """A config that says nothing of its kind is taken for the expected one, as the libraries do."""
    kind = config.get(field, expected[0])
    return [] if kind in expected else [f"is a {kind}, not a {expected[0]}"]


def _channel_mismatches(unet: dict[str, Any], vae: dict[str, Any]) -> list[str]:
    latent = vae["latent_channels"]
    return [
        f"{name} is {unet[name]} and the VAE has {latent} latent channels{hint}"
        for name, hint in (("in_channels", _extra_input(unet["in_channels"])), ("out_channels", ""))
        if unet[name] != latent
    ]


def _unet_mismatches(unet: dict[str, Any]) -> list[str]:
    inputs = {
        "time_cond_proj_dim": "takes the guidance as input: a latent consistency model",
        "addition_embed_type": "takes more than a caption as input, as Stable Diffusion XL does",
        "class_embed_type": "takes a class or picture as input",
        "encoder_hid_dim_type": "takes another text encoder's states as input",
    }
    more = [f"{text} ({name} = {unet[name]})" for name, text in inputs.items() if unet[name] is not None]
    return _another_kind(unet, "_class_name", UNET.name) + _size_mismatch(unet) + more


def _extra_input(channels: int) -> str:
    return {9: ": an inpainting model", 8: ": a model that edits pictures", 5: ": a depth-to-image model"}.get(
        channels, ""
    )


def _size_mismatch(unet: dict[str, Any]) -> list[str]:
    """Only square pictures are trained.

    The VAE's own sample_size is not compared with the UNet's: it only says where tiling begins, and good models
    keep the 256 px at which their VAE was trained.
    """
    side = unet["sample_size"]
    is_square = not isinstance(side, list) or len(set(side)) == 1
    return [] if is_square else [f"sample_size is {side}: only square pictures are trained"]


def _scheduler_mismatches(scheduler: dict[str, Any]) -> list[str]:
    kind = str(scheduler.get("_class_name", ""))
    if kind.startswith("FlowMatch"):
        return [f"is {kind}: a flow-matching model, which learns another thing than noise"]
    predicts = scheduler["prediction_type"]
    if predicts not in {"epsilon", "v_prediction"}:
        return [f"the model predicts {predicts}; only epsilon and v_prediction are trained"]
    return []


def _config(file: Path) -> dict[str, Any] | Problem:
    """A config's fields, or what is wrong with the file."""
    fix = "restore it from where the model came from"
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Problem(str(file), "is missing", f"give a folder in diffusers' format; {_FIX}")
    except (OSError, ValueError) as error:
        return Problem(str(file), f"can't be read: {error}", fix)
    return value if isinstance(value, dict) else Problem(str(file), "holds no object", fix)

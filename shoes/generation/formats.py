"""Adapter files in the formats that the field uses: which one it is, and into the pipeline with it.

diffusers   pytorch_lora_weights.safetensors, `unet.….lora_A.weight`
kohya       one .safetensors file, `lora_unet_….lora_down.weight`
peft        adapter_model.safetensors with adapter_config.json, which holds alpha
"""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shoes.device import is_out_of_memory
from shoes.errors import ModelError, Problem
from shoes.litter import visible
from shoes.model.contents.adapters import draw_with_all, require_applied
from shoes.publishing.export import DIFFUSERS_FILE
from shoes.reports import Report
from shoes.spec.names import PICKLES
from shoes.storage import sha256
from shoes.tensors import read_tensors

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PEFT_PREFIX = "base_model.model."
_EXPECTED = "give a .safetensors file of diffusers or kohya, or a folder that `shoes train`, diffusers or PEFT wrote"


class AdapterFile(Report):
    """An adapter on this machine, and how strongly it is applied."""

    name: str
    """For people: what it was asked for by."""
    kind: Literal["diffusers", "kohya", "peft"]
    path: Path
    sha256: str
    """Of the file with the weights."""
    config_sha256: str | None = None
    """Of PEFT's configuration, which decides the scale."""
    weight: float = 1.0


def find_adapter(path: Path, *, name: str | None = None, weight: float = 1.0) -> AdapterFile:
    """The adapter in a folder or file.

    Raises:
        ModelError: there is none, it is a pickle, or no adapter.
    """
    file = _weights_in(path) if path.is_dir() else path
    if file.suffix.lower() in PICKLES:
        what = f"{file.name} is a pickle, which can run any code when it is loaded"
        raise ModelError([Problem(str(path), what, "convert it to safetensors, or get it in that format")])
    if not file.is_file():
        raise ModelError([Problem(str(path), "there is no such file or folder", _EXPECTED)])
    kind = _kind(file)
    config = file.with_name(PEFT_CONFIG)
    if kind == "peft":
        _require_config(config)
    return AdapterFile(
        name=name or (path.name if path.is_dir() else path.stem),
        kind=kind,
        path=file.absolute(),
        sha256=sha256(file),
        config_sha256=sha256(config) if kind == "peft" else None,
        weight=weight,
    )


def _weights_in(folder: Path) -> Path:
    """The one file of weights in a folder; a pickle only if there is nothing else."""
    for name in (DIFFUSERS_FILE, PEFT_FILE):
        if (folder / name).is_file():
            return folder / name
    files = sorted(path for path in visible(folder.iterdir(), folder) if path.is_file())
    good = [path for path in files if path.suffix.lower() == ".safetensors"]
    found = good or [path for path in files if path.suffix.lower() in PICKLES]
    if len(good) > 1:
        names = ", ".join(path.name for path in good)
        raise ModelError([Problem(str(folder), f"holds several adapters: {names}", "name one of the files")])
    if not found:
        raise ModelError([Problem(str(folder), "holds no adapter", _EXPECTED)])
    return found[0]


def _kind(file: Path) -> Literal["diffusers", "kohya", "peft"]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            names = list(opened.keys())
    except (SafetensorError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError([Problem(str(file), f"is no whole safetensors file: {reason}", _EXPECTED)]) from error
    if names and all(name.startswith(_PEFT_PREFIX) for name in names):
        return "peft"
    if names and all(name.startswith("lora_") for name in names):
        return "kohya"
    if names and all("lora" in name or name.endswith(".alpha") for name in names):
        return "diffusers"
    raise ModelError([Problem(str(file), "holds no adapter (LoRA), but other weights", _EXPECTED)])


def _require_config(config: Path) -> None:
    try:
        if isinstance(json.loads(config.read_text(encoding="utf-8")), dict):
            return
        reason = "is no JSON object"
    except (OSError, ValueError) as error:
        reason = f"can't be read: {error}"
    fix = "keep both files of PEFT together: without it the adapter's scale is not known"
    raise ModelError([Problem(str(config), reason, fix)])


def apply_adapters(pipeline: "StableDiffusionPipeline", adapters: Sequence[AdapterFile], model: str) -> None:
    """Load adapters into a pipeline whose parts are on their device, each with its weight.

    Raises:
        ModelError: one does not fit the model.
    """
    for number, adapter in enumerate(adapters):
        _load(pipeline, adapter, f"adapter_{number}", model)
    if adapters:
        names = [f"adapter_{number}" for number in range(len(adapters))]
        pipeline.set_adapters(names, adapter_weights=[adapter.weight for adapter in adapters])
        draw_with_all(pipeline)


def _load(pipeline: "StableDiffusionPipeline", adapter: AdapterFile, name: str, model: str) -> None:
    from safetensors import SafetensorError

    try:
        with _quiet_loader():
            if adapter.kind == "peft":
                _load_peft(pipeline, adapter.path, name)
            else:
                pipeline.load_lora_weights(
                    adapter.path.parent, weight_name=adapter.path.name, adapter_name=name, use_safetensors=True
                )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        raise ModelError([_misfit(adapter, f"does not fit {model}: {reason}")]) from error
    if name not in {one for names in pipeline.get_list_adapters().values() for one in names}:
        raise ModelError([_misfit(adapter, f"has no layer of {model}")])
    require_applied(pipeline, adapter.path, name)


@contextmanager
def _quiet_loader() -> Iterator[None]:
    """Without the loader's page about what we say in a line, and its doubts about a second adapter.

    What it warns of, tensors that it drops, `require_applied` finds.
    """
    logger = logging.getLogger("diffusers.loaders.peft")
    was, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
            yield
    finally:
        logger.disabled = was


def _load_peft(pipeline: "StableDiffusionPipeline", file: Path, name: str) -> None:
    weights = {f"unet.{key.removeprefix(_PEFT_PREFIX)}": tensor for key, tensor in read_tensors(file).items()}
    config = json.loads(file.with_name(PEFT_CONFIG).read_text(encoding="utf-8"))
    pipeline.load_lora_into_unet(
        weights,
        network_alphas=None,
        unet=pipeline.unet,
        adapter_name=name,
        metadata={f"unet.{key}": value for key, value in config.items()},
        _pipeline=pipeline,
    )


def _misfit(adapter: AdapterFile, what: str) -> Problem:
    return Problem(str(adapter.path), what, "give an adapter that was trained on this base model")

"""An adapter in the three formats that the field uses, each safetensors.

    pytorch_lora_weights.safetensors    diffusers: StableDiffusionPipeline.load_lora_weights(folder)
    peft/                               PEFT: adapter_model.safetensors and adapter_config.json
    kohya/adapter.safetensors           ComfyUI, AUTOMATIC1111 and others

alpha travels with the weights in every format: without it a loader takes alpha = rank, and draws with an
update of another size.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoes.litter import litter_in, without_litter
from shoes.publishing.kohya import NAME, Provenance, kohya_metadata, network_alpha
from shoes.publishing.licence import public_name
from shoes.spec import TrainSpec
from shoes.storage import MANIFEST, is_whole, new_folder, pretty_json, sha256
from shoes.tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    import torch

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
PEFT_FOLDER = "peft"
KOHYA_FILE = f"kohya/{NAME}.safetensors"


def export(target: Path, weights: "Mapping[str, torch.Tensor]", spec: TrainSpec, provenance: Provenance) -> None:
    """Write the adapter's folder, atomically. Equal arguments make equal files.

    Args:
        weights: as `training.lora.adapter_weights` gives them, `….lora_A.default.weight` in fp32.
        provenance: the model that the adapter belongs to, and what else its metadata tell.
    """
    plain = {name.replace(".default.", "."): weight for name, weight in weights.items()}
    config = _peft_config(spec, public_name(provenance.base_model))
    with new_folder(target) as folder:
        _write_diffusers(folder, plain, config)
        _write_peft(folder / PEFT_FOLDER, plain, config)
        _write_kohya(folder / KOHYA_FILE, plain, spec, provenance)


def copy_export(source: Path, target: Path) -> None:
    """Put a copy of an exported adapter in the place of another, atomically."""
    with new_folder(target) as folder:
        for path in sorted(without_litter(source.iterdir(), source)):
            if path.is_dir():
                shutil.copytree(path, folder / path.name, ignore=litter_in)
            elif path.name != MANIFEST:
                shutil.copyfile(path, folder / path.name)


def adapter_sha256(folder: Path) -> str:
    """Identity of an exported adapter: the SHA-256 of its diffusers file."""
    return sha256(folder / DIFFUSERS_FILE)


def is_exported(folder: Path) -> bool:
    """The folder holds a whole adapter."""
    return is_whole(folder) and (folder / DIFFUSERS_FILE).is_file()


def weights_of(folder: Path) -> "dict[str, torch.Tensor]":
    """An exported adapter's weights, under the names that `training.lora` uses."""
    tensors = read_tensors(folder / DIFFUSERS_FILE)
    names = {name: name.removeprefix("unet.") for name in tensors}
    for matrix in ("lora_A", "lora_B"):
        names = {k: v.replace(f".{matrix}.weight", f".{matrix}.default.weight") for k, v in names.items()}
    return {names[name]: tensor for name, tensor in tensors.items()}


def _peft_config(spec: TrainSpec, base_model: str) -> dict[str, Any]:
    from peft import LoraConfig

    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.lora_alpha,
        lora_dropout=spec.lora_dropout,
        use_rslora=spec.use_rslora,
        target_modules=list(spec.lora_target_modules),
        base_model_name_or_path=base_model,
        inference_mode=True,
    ).to_dict()
    # Sets have no order, and equal adapters must make equal files.
    return {key: sorted(value) if isinstance(value, set) else value for key, value in sorted(config.items())}


def _write_diffusers(folder: Path, plain: "Mapping[str, torch.Tensor]", config: dict[str, Any]) -> None:
    prefixed = {f"unet.{key}": value for key, value in config.items()}
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(prefixed, indent=2, sort_keys=True)}
    write_tensors(folder / DIFFUSERS_FILE, {f"unet.{name}": w for name, w in plain.items()}, metadata)


def _write_peft(folder: Path, plain: "Mapping[str, torch.Tensor]", config: dict[str, Any]) -> None:
    folder.mkdir()
    weights = {f"base_model.model.{name}": weight for name, weight in plain.items()}
    write_tensors(folder / "adapter_model.safetensors", weights, {"format": "pt"})
    (folder / "adapter_config.json").write_text(pretty_json(config), encoding="utf-8")


def _write_kohya(file: Path, plain: "Mapping[str, torch.Tensor]", spec: TrainSpec, provenance: Provenance) -> None:
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for name, weight in plain.items():
        layer, matrix = name.removesuffix(".weight").rsplit(".", 1)
        module = "lora_unet_" + layer.replace(".", "_")
        tensors[f"{module}.{'lora_down' if matrix == 'lora_A' else 'lora_up'}.weight"] = weight
        tensors[f"{module}.alpha"] = torch.tensor(network_alpha(spec))
    file.parent.mkdir()
    write_tensors(file, tensors, kohya_metadata(tensors, spec, provenance))

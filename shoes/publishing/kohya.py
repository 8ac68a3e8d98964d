"""The metadata of a LoRA file as kohya's sd-scripts, AUTOMATIC1111 and ComfyUI read it.

Keys and hashes are those of sd-scripts (`ss_…`, `sshs_…`) and of Stability AI's ModelSpec 1.0.0 (`modelspec.…`).
There is no date, no session id and no host in it, though both schemes have a field for the date: equal trainings
make equal files, so that an adapter can be recognised by its hash, and one that was resumed can be compared with one
that was not.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shoes.publishing.licence import licence_of, public_name
from shoes.spec import TrainSpec

if TYPE_CHECKING:
    import torch

NAME = "adapter"
"""The file's name without its ending."""
MOST_TAGS = 500
"""Tags that are listed, the most frequent ones: captions that are free text have thousands."""
_LEGACY_START, _LEGACY_SIZE = 0x100000, 0x10000


@dataclass(frozen=True)
class Provenance:
    """What an adapter was trained on, and how far."""

    base_model: str
    """Name on the Hub, or folder."""
    step: int = 0
    """Optimizer steps that the weights have seen."""
    num_train_images: int = 0
    precision: str = "no"
    """Of the frozen weights, by its name in the spec."""
    prediction_type: str = "epsilon"
    """What the base predicts, by diffusers' word: epsilon or v_prediction."""
    is_v2: bool = False
    """The base is a Stable Diffusion 2.x."""
    tags: Mapping[str, int] = field(default_factory=dict)
    """How many training photos have a comma-separated part of a caption."""


def count_tags(captions: Mapping[str, int]) -> dict[str, int]:
    """How many photos have each comma-separated part of their caption, the most frequent ones.

    Args:
        captions: different captions, and how many photos have each.
    """
    found: dict[str, int] = {}
    for caption, count in captions.items():
        for tag in dict.fromkeys(part.strip() for part in caption.split(",")):
            if tag:
                found[tag] = found.get(tag, 0) + count
    most = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:MOST_TAGS]
    return dict(most)


def network_alpha(spec: TrainSpec) -> float:
    """alpha as these loaders need it: they know alpha / rank only, rank-stabilised LoRA scales by alpha / √rank."""
    return float(spec.lora_alpha * spec.rank**0.5 if spec.use_rslora else spec.lora_alpha)


def kohya_metadata(tensors: "Mapping[str, torch.Tensor]", spec: TrainSpec, provenance: Provenance) -> dict[str, str]:
    """All metadata of a LoRA file that holds `tensors`, hashes included."""
    trained = {f"ss_{key}": str(value) for key, value in _training(spec, provenance).items()}
    digest = _hashes(tensors, trained)
    described = {f"modelspec.{key}": value for key, value in _model_spec(spec, provenance).items()}
    return {**trained, **digest, **described, "modelspec.hash_sha256": f"0x{digest['sshs_model_hash']}", "format": "pt"}


def _training(spec: TrainSpec, known: Provenance) -> dict[str, object]:
    """As sd-scripts writes it: every value by Python's `str`, and what is unset as None."""
    version = ("sd_v2_v" if known.prediction_type == "v_prediction" else "sd_v2") if known.is_v2 else "sd_v1"
    return {
        "network_module": "networks.lora",
        "network_dim": spec.rank,
        "network_alpha": network_alpha(spec),
        "network_dropout": spec.lora_dropout or None,
        "base_model_version": version,
        "v2": known.is_v2,
        "sd_model_name": public_name(known.base_model),
        "output_name": NAME,
        "resolution": (spec.resolution, spec.resolution),
        "learning_rate": spec.learning_rate,
        "unet_lr": spec.learning_rate,
        "text_encoder_lr": None,
        "lr_scheduler": spec.lr_scheduler,
        "lr_warmup_steps": spec.lr_warmup_steps,
        "optimizer": "torch.optim.adamw.AdamW",
        "max_grad_norm": spec.max_grad_norm,
        "max_train_steps": spec.max_train_steps,
        "steps": known.step,
        "batch_size_per_device": spec.train_batch_size,
        "gradient_accumulation_steps": spec.gradient_accumulation_steps,
        "total_batch_size": spec.effective_batch_size,
        "num_train_images": known.num_train_images,
        "num_reg_images": 0,
        "mixed_precision": known.precision,
        "seed": spec.seed,
        "min_snr_gamma": spec.snr_gamma,
        "noise_offset": spec.noise_offset or None,
        "caption_dropout_rate": spec.caption_dropout,
        "flip_aug": spec.random_flip,
        "clip_skip": None,
        "dataset_dirs": json.dumps({"train": {"n_repeats": 1, "img_count": known.num_train_images}}),
        "tag_frequency": json.dumps({"train": dict(known.tags)}),
    }


def _model_spec(spec: TrainSpec, known: Provenance) -> dict[str, str]:
    """Stability AI's Model Metadata Standard 1.0.0, without the date (see the module)."""
    base, is_v = public_name(known.base_model), known.prediction_type == "v_prediction"
    architecture = (
        ("stable-diffusion-v2-768-v" if is_v else "stable-diffusion-v2-512") if known.is_v2 else ("stable-diffusion-v1")
    )
    photos = f" on {known.num_train_images:,} photos" if known.num_train_images else ""
    return {
        "sai_model_spec": "1.0.0",
        "architecture": f"{architecture}/lora",
        "implementation": "diffusers",
        "title": f"LoRA of rank {spec.rank} for {base}",
        "description": f"A LoRA of rank {spec.rank} for the UNet of {base}, after {known.step:,} steps{photos}.",
        "license": licence_of(known.base_model).name,
        "resolution": f"{spec.resolution}x{spec.resolution}",
        "prediction_type": "v" if is_v else "epsilon",
    }


def _hashes(tensors: "Mapping[str, torch.Tensor]", trained: Mapping[str, str]) -> dict[str, str]:
    """The two hashes by which sd-scripts and the web UIs recognise a LoRA.

    sshs_model_hash is the SHA-256 of everything behind the header; sshs_legacy_hash the first 8 hex digits of that of
    64 KiB at 1 MiB in a file with the `ss_` metadata alone (of nothing at all, for a file that is smaller).
    """
    from safetensors.torch import save

    blob = save({name: tensor.contiguous() for name, tensor in tensors.items()}, dict(trained))
    body = 8 + int.from_bytes(blob[:8], "little")
    return {
        "sshs_model_hash": hashlib.sha256(memoryview(blob)[body:]).hexdigest(),
        "sshs_legacy_hash": hashlib.sha256(blob[_LEGACY_START : _LEGACY_START + _LEGACY_SIZE]).hexdigest()[:8],
    }

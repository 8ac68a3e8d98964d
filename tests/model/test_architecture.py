"""What can't be trained is told from configs, with the reason, before any weight is downloaded or loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shoes.errors import ConfigurationError, ModelError
from shoes.model.architecture import pipeline_problems, target_problems
from shoes.model.files import clip_files, diffusion_files, fetch
from shoes.preflight import preflight
from shoes.settings import PROJECT_ROOT, load_settings
from tests.hub.server import HubServer

MODEL, CLIP = PROJECT_ROOT / "data/demo/model", PROJECT_ROOT / "data/demo/clip"

STABLE_DIFFUSION_15: dict[str, dict[str, Any]] = {
    "model_index.json": {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0"},
    "unet/config.json": {
        "_class_name": "UNet2DConditionModel",
        "block_out_channels": [320, 640, 1280, 1280],
        "cross_attention_dim": 768,
        "in_channels": 4,
        "out_channels": 4,
        "sample_size": 64,
    },
    "vae/config.json": {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [128, 256, 512, 512],
        "latent_channels": 4,
        "sample_size": 512,
    },
    "text_encoder/config.json": {"architectures": ["CLIPTextModel"], "hidden_size": 768},
    "scheduler/scheduler_config.json": {"_class_name": "PNDMScheduler", "num_train_timesteps": 1000},
}
"""The fields that count, as the published configs have them."""


@pytest.fixture
def sd15(tmp_path: Path) -> Path:
    folder = tmp_path / "sd15"
    for name, fields in STABLE_DIFFUSION_15.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(fields))
    return folder


def change(folder: Path, name: str, fields: dict[str, Any]) -> None:
    config = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(config | fields))


def test_stable_diffusion_15_and_the_demo_are_fine(sd15: Path) -> None:
    assert pipeline_problems(sd15) == []
    assert pipeline_problems(MODEL) == []
    change(sd15, "scheduler/scheduler_config.json", {"prediction_type": "v_prediction"})
    assert pipeline_problems(sd15) == []


OTHERS = {
    "SDXL": ("model_index.json", {"_class_name": "StableDiffusionXLPipeline"}, "Stable Diffusion XL"),
    "SD 3": ("model_index.json", {"_class_name": "StableDiffusion3Pipeline"}, "Stable Diffusion 3"),
    "Flux": ("model_index.json", {"_class_name": "FluxPipeline"}, "flow-matching"),
    "inpainting": ("model_index.json", {"_class_name": "StableDiffusionInpaintPipeline"}, "inpainting"),
    "an unknown pipeline": ("model_index.json", {"_class_name": "ElsePipeline"}, "is a ElsePipeline"),
    "nine channels": ("unet/config.json", {"in_channels": 9}, "an inpainting model"),
    "LCM": ("unet/config.json", {"time_cond_proj_dim": 256}, "latent consistency model"),
    "extra inputs": ("unet/config.json", {"addition_embed_type": "text_time"}, "more than a caption"),
    "another text encoder": ("text_encoder/config.json", {"hidden_size": 1024}, "hidden_size is 1024"),
    "another VAE": ("vae/config.json", {"latent_channels": 16}, "16 latent channels"),
    "not square": ("unet/config.json", {"sample_size": [64, 96]}, "square"),
    "flow matching": ("scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "flow"),
    "another target": ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "predicts sample"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_models_are_refused_with_the_reason(sd15: Path, case: str) -> None:
    name, fields, expected = OTHERS[case]
    change(sd15, name, fields)
    problems = pipeline_problems(sd15)
    assert problems
    assert expected in str(problems[0])
    assert "are fine" in problems[0].fix
    assert name in problems[0].where or "unet" in problems[0].where


def test_all_that_does_not_fit_is_said_at_once(sd15: Path) -> None:
    change(sd15, "unet/config.json", {"in_channels": 9, "cross_attention_dim": 1024, "time_cond_proj_dim": 1})
    change(sd15, "scheduler/scheduler_config.json", {"prediction_type": "sample"})
    assert len(pipeline_problems(sd15)) == 4


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_config_that_is_none_is_named(sd15: Path, content: str) -> None:
    (sd15 / "unet/config.json").write_text(content)
    (problem,) = pipeline_problems(sd15)
    assert "unet/config.json" in problem.where


def test_the_weights_of_another_model_are_never_downloaded(hub: HubServer, repository: Path) -> None:
    change(repository, "model_index.json", {"_class_name": "StableDiffusionXLPipeline"})
    (repository / "unet/diffusion_pytorch_model.safetensors").unlink()
    hub.add("owner/xl", repository)
    with pytest.raises(ModelError, match="Stable Diffusion XL") as caught:
        fetch(diffusion_files("owner/xl", None, None), load_settings())
    assert len(caught.value.problems) == 1, "which files it lacks is no news then"
    assert hub.downloads(".safetensors") == []


def test_a_repository_with_pickles_only_is_refused_with_a_way_out(hub: HubServer, repository: Path) -> None:
    for file in repository.rglob("*.safetensors"):
        file.unlink()
    hub.add("owner/old", repository)
    with pytest.raises(ModelError, match="is a pickle") as caught:
        fetch(diffusion_files("owner/old", None, None), load_settings())
    assert "use_safetensors=False" in str(caught.value)
    assert not [request for request in hub.sent if request.path.endswith((".bin", ".ckpt"))]


def test_a_variant_that_is_not_there_is_told_from_one_that_is(hub: HubServer, repository: Path) -> None:
    for file in repository.rglob("*.fp16.safetensors"):
        file.unlink()
    hub.add("owner/name", repository)
    with pytest.raises(ModelError, match=r"--model\.variant none"):
        fetch(diffusion_files("owner/name", None, "fp16"), load_settings())


def test_a_folder_is_checked_before_it_is_recorded(own_world: Path) -> None:
    folder = own_world / "model"
    shutil.copytree(MODEL, folder, ignore=shutil.ignore_patterns("manifest.json"))
    change(folder, "unet/config.json", {"cross_attention_dim": 768})
    with pytest.raises(ModelError, match="cross_attention_dim is 768"):
        fetch(diffusion_files(str(folder), None, None), load_settings())
    assert not (own_world / "data/models/manifests").exists()


def test_weights_that_would_be_loaded_in_place_of_the_verified_ones(repository: Path) -> None:
    with pytest.raises(ModelError, match="would be loaded in their place"):
        fetch(diffusion_files(str(repository), None, None), load_settings())
    assert fetch(diffusion_files(str(repository), None, "fp16"), load_settings()).num_files == 11


CLIPS = {
    "a text encoder": ({"model_type": "clip_text_model", "architectures": ["CLIPTextModel"]}, "not a CLIPModel"),
    "SigLIP": ({"model_type": "siglip", "architectures": ["SiglipModel"]}, "not a CLIPModel"),
    "no projection": ({"projection_dim": None}, "projection_dim"),
}


@pytest.mark.parametrize("case", CLIPS)
def test_what_is_no_clip_is_refused(clip_repository: Path, case: str) -> None:
    fields, expected = CLIPS[case]
    change(clip_repository, "config.json", fields)
    with pytest.raises(ModelError, match=expected):
        fetch(clip_files(str(clip_repository), None), load_settings())


def test_all_that_a_clip_lacks_is_said_at_once(clip_repository: Path) -> None:
    (clip_repository / "tokenizer.json").unlink()
    (clip_repository / "processor_config.json").unlink()
    (clip_repository / "model.safetensors").rename(clip_repository / "pytorch_model.bin")
    with pytest.raises(ModelError) as caught:
        fetch(clip_files(str(clip_repository), None), load_settings())
    for word in ("tokenizer", "image processor", "model.safetensors", "is a pickle"):
        assert word in str(caught.value)


def test_targets_that_name_no_layer(micro: Callable[..., Any]) -> None:
    assert target_problems(MODEL, ("to_q", "to_out.0", "proj_in")) == []
    with pytest.raises(ConfigurationError, match="this UNet has no layer to_z") as caught:
        preflight(micro({"train.lora_target_modules": "to_q,to_z,q"}))
    assert len(caught.value.problems) == 2, "q is the end of a word, not of a name"

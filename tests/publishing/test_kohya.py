"""What other programs read in the header of a LoRA file."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from shoes.publishing.export import KOHYA_FILE, export
from shoes.publishing.kohya import MOST_TAGS, Provenance, count_tags, kohya_metadata
from shoes.publishing.licence import licence_of, public_name
from shoes.spec import TrainSpec

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
TRAINED = Provenance(SD15, step=1500, num_train_images=420, precision="bf16", tags={"men": 3})


def weights(width: int = 8) -> dict[str, torch.Tensor]:
    numbers = torch.Generator().manual_seed(0)
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    return {
        f"{layer}.lora_A.default.weight": torch.randn(4, width, generator=numbers),
        f"{layer}.lora_B.default.weight": torch.randn(width, 4, generator=numbers),
    }


def header(folder: Path, provenance: Provenance = TRAINED, spec: TrainSpec | None = None, width: int = 8):
    export(folder, weights(width), spec or TrainSpec(rank=4, lora_alpha=12), provenance)
    with safe_open(folder / KOHYA_FILE, "pt") as file:
        return file.metadata()


def test_what_sd_scripts_writes(tmp_path: Path) -> None:
    found = header(tmp_path / "adapter", spec=TrainSpec(rank=4, lora_alpha=12, snr_gamma=5, noise_offset=0.05))
    expected = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "12.0",
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "ss_sd_model_name": SD15,
        "ss_output_name": "adapter",
        "ss_resolution": "(512, 512)",
        "ss_learning_rate": "0.0001",
        "ss_unet_lr": "0.0001",
        "ss_text_encoder_lr": "None",
        "ss_lr_scheduler": "constant_with_warmup",
        "ss_lr_warmup_steps": "500",
        "ss_max_train_steps": "3000",
        "ss_steps": "1500",
        "ss_num_train_images": "420",
        "ss_total_batch_size": "16",
        "ss_mixed_precision": "bf16",
        "ss_seed": "42",
        "ss_min_snr_gamma": "5.0",
        "ss_noise_offset": "0.05",
    }
    assert expected.items() <= found.items()
    assert json.loads(found["ss_tag_frequency"]) == {"train": {"men": 3}}
    assert json.loads(found["ss_dataset_dirs"])["train"]["img_count"] == 420


def test_the_model_spec(tmp_path: Path) -> None:
    found = header(tmp_path / "adapter")
    expected = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": f"LoRA of rank 4 for {SD15}",
        "modelspec.description": f"A LoRA of rank 4 for the UNet of {SD15}, after 1,500 steps on 420 photos.",
        "modelspec.license": "CreativeML OpenRAIL-M",
        "modelspec.resolution": "512x512",
        "modelspec.prediction_type": "epsilon",
    }
    assert expected.items() <= found.items()
    assert not [key for key in found if "date" in key or "session" in key or "started" in key]


def test_a_base_of_the_second_generation(tmp_path: Path) -> None:
    other = Provenance("stabilityai/stable-diffusion-2-1", prediction_type="v_prediction", is_v2=True)
    found = header(tmp_path / "adapter", other)
    assert found["ss_base_model_version"] == "sd_v2_v"
    assert found["ss_v2"] == "True"
    assert found["modelspec.architecture"] == "stable-diffusion-v2-768-v/lora"
    assert found["modelspec.prediction_type"] == "v"
    assert found["modelspec.license"] == "CreativeML Open RAIL++-M"


def test_hashes_are_those_of_the_bytes_behind_the_header(tmp_path: Path) -> None:
    """The definition that AUTOMATIC1111 computes from the file itself where the header says nothing."""
    found = header(tmp_path / "adapter")
    blob = (tmp_path / "adapter" / KOHYA_FILE).read_bytes()
    digest = hashlib.sha256(blob[8 + int.from_bytes(blob[:8], "little") :]).hexdigest()
    assert found["sshs_model_hash"] == digest
    assert found["modelspec.hash_sha256"] == f"0x{digest}"
    assert found["sshs_legacy_hash"] == hashlib.sha256(b"").hexdigest()[:8], "the file is smaller than 1 MiB"
    other = header(tmp_path / "other", Provenance(SD15, step=2))
    assert other["sshs_model_hash"] == digest, "the header is no part of it"


def test_the_legacy_hash_is_of_64_kib_at_1_mib(tmp_path: Path) -> None:
    from safetensors.torch import save

    large = header(tmp_path / "adapter", width=50_000)
    with safe_open(tmp_path / "adapter" / KOHYA_FILE, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    blob = save(tensors, {key: value for key, value in large.items() if key.startswith("ss_")})
    assert len(blob) > 0x110000
    assert large["sshs_legacy_hash"] == hashlib.sha256(blob[0x100000:0x110000]).hexdigest()[:8]


def test_rank_stabilised_scale_is_told_as_the_alpha_that_gives_it() -> None:
    spec = TrainSpec(rank=4, lora_alpha=12, use_rslora=True)
    assert kohya_metadata({}, spec, TRAINED)["ss_network_alpha"] == "24.0"


def test_tags_are_counted_by_photo() -> None:
    found = count_tags({"a red shoe, men, men": 2, "a blue shoe,men,": 1, "": 5})
    assert found == {"men": 3, "a red shoe": 2, "a blue shoe": 1}
    assert next(iter(found)) == "men"
    assert len(count_tags({f"caption {number}": 1 for number in range(MOST_TAGS + 9)})) == MOST_TAGS


@pytest.mark.parametrize("name", ["/home/someone/models/mine", "~/models/mine", "./models/mine", "../mine"])
def test_folders_of_this_machine_are_not_told(tmp_path: Path, name: str) -> None:
    assert public_name(name) == "mine"
    header(tmp_path / "adapter", Provenance(name))
    for file in (tmp_path / "adapter").rglob("*.*"):
        assert b"someone" not in file.read_bytes()
        assert b"models/" not in file.read_bytes()


@pytest.mark.parametrize(
    ("name", "licence", "link"),
    [
        (SD15, "creativeml-openrail-m", "CompVis/stable-diffusion-license"),
        ("CompVis/stable-diffusion-v1-4", "creativeml-openrail-m", "CompVis/stable-diffusion-license"),
        ("owner/name", "other", "https://huggingface.co/owner/name"),
        ("data/demo/model", "other", None),
        ("/somewhere/model", "other", None),
    ],
)
def test_licences(name: str, licence: str, link: str | None) -> None:
    found = licence_of(name)
    assert found.id == licence
    assert (found.link is None) if link is None else link in found.link
    assert found.restricts_use == (licence == "creativeml-openrail-m")

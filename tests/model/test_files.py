"""No wrong file is accepted."""

import shutil
from pathlib import Path

import pytest

from shoes.errors import ModelError
from shoes.model.files import clip_files, diffusion_files, fetch, is_local
from shoes.model.known import KNOWN_HASHES
from shoes.settings import PROJECT_ROOT, load_settings
from shoes.spec import ModelSpec

MODEL = PROJECT_ROOT / "data/demo/model"
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(own_world: Path) -> Path:
    shutil.copytree(MODEL, own_world / "model")
    return own_world / "model"


def found(folder: Path):
    return fetch(diffusion_files(str(folder), None, None), load_settings())


def test_what_ships_verifies() -> None:
    report = fetch(diffusion_files("data/demo/model", None, None), load_settings())
    assert report.num_files >= 10
    assert fetch(clip_files("data/demo/clip", None), load_settings()).num_bytes > 1_000_000


def test_one_flipped_byte_is_named(copy: Path) -> None:
    content = bytearray((copy / UNET).read_bytes())
    content[1_000_000] ^= 1
    (copy / UNET).write_bytes(content)
    with pytest.raises(ModelError, match=UNET):
        found(copy)


def test_a_model_without_a_manifest_is_recorded_once_and_then_held_to_it(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    assert found(copy).verified_against == "recorded now, at the first use"
    assert found(copy).verified_against == "what was recorded at the first use"
    content = bytearray((copy / UNET).read_bytes())
    content[-1] ^= 1
    (copy / UNET).write_bytes(content)
    with pytest.raises(ModelError, match=UNET):
        found(copy)


def test_all_missing_files_are_named_and_pickles_refused(copy: Path) -> None:
    (copy / UNET).rename(copy / "unet/diffusion_pytorch_model.bin")
    (copy / "vae/config.json").unlink()
    with pytest.raises(ModelError) as caught:
        found(copy)
    text = str(caught.value)
    assert UNET in text
    assert "vae/config.json" in text
    assert "is a pickle" in text


@pytest.mark.parametrize(
    ("name", "local"),
    [("stable-diffusion-v1-5/stable-diffusion-v1-5", False), ("data/x", True), ("/x", True), ("a/b/c", True)],
)
def test_names_of_folders_and_of_the_hub(name: str, local: bool) -> None:
    assert is_local(diffusion_files(name, None, None), load_settings()) is local


PUBLISHED = (
    ".gitattributes",
    "README.md",
    "model_index.json",
    "v1-inference.yaml",
    "v1-5-pruned.ckpt",
    "v1-5-pruned.safetensors",
    "v1-5-pruned-emaonly.ckpt",
    "v1-5-pruned-emaonly.safetensors",
    "feature_extractor/preprocessor_config.json",
    "safety_checker/config.json",
    "safety_checker/model.fp16.safetensors",
    "safety_checker/model.safetensors",
    "safety_checker/pytorch_model.bin",
    "safety_checker/pytorch_model.fp16.bin",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/model.safetensors",
    "text_encoder/pytorch_model.bin",
    "text_encoder/pytorch_model.fp16.bin",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.bin",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.bin",
    "vae/diffusion_pytorch_model.fp16.bin",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)
"""The files of Stable Diffusion 1.5's repository."""


def test_thirteen_files_of_stable_diffusion_15_are_needed() -> None:
    model = ModelSpec()
    wanted = diffusion_files(model.pretrained_model_name_or_path, model.revision, model.variant)
    selected = wanted.select(PUBLISHED)
    assert len(selected) == 13
    assert set(wanted.weights) <= set(selected)
    assert [path for path in selected if path.endswith(".safetensors")] == sorted(KNOWN_HASHES[str(model.revision)])
    assert len(diffusion_files("a/b", None, None).select(PUBLISHED)) == 13


@pytest.mark.parametrize("path", ["tokenizer/../../x", "tokenizer/a/b", "../model_index.json", "tokenizer/.."])
def test_a_path_that_leads_out_of_the_folder_is_never_wanted(path: str) -> None:
    assert diffusion_files("a/b", None, None).select([path]) == []


def test_exactly_the_files_that_are_needed_are_asked_for() -> None:
    wanted = diffusion_files("a/b", "c", "fp16")
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in wanted.patterns
    assert not any("safety" in pattern or pattern == "*.safetensors" for pattern in wanted.patterns)

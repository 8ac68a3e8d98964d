"""Repositories to fetch: the tiny model as the Hub would hold it."""

import shutil
from pathlib import Path

import pytest

from shoes.settings import PROJECT_ROOT

MODEL, CLIP = PROJECT_ROOT / "data/demo/model", PROJECT_ROOT / "data/demo/clip"


@pytest.fixture
def repository(own_world: Path) -> Path:
    """The tiny model with what a real repository holds besides: other precisions, pickles, a safety checker."""
    folder = own_world / "repository"
    shutil.copytree(MODEL, folder, ignore=shutil.ignore_patterns("manifest.json"))
    for name in ("README.md", "v1-5-pruned.safetensors", "v1-5-pruned.ckpt", "safety_checker/model.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not wanted")
    for part in ("unet", "vae"):
        (folder / part / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
        weights = folder / part / "diffusion_pytorch_model.safetensors"
        shutil.copy(weights, folder / part / "diffusion_pytorch_model.fp16.safetensors")
    shutil.copy(folder / "text_encoder/model.safetensors", folder / "text_encoder/model.fp16.safetensors")
    (folder / "feature_extractor").mkdir()
    (folder / "feature_extractor/preprocessor_config.json").write_text("{}")
    return folder


@pytest.fixture
def clip_repository(own_world: Path) -> Path:
    folder = own_world / "clip-repository"
    shutil.copytree(CLIP, folder, ignore=shutil.ignore_patterns("manifest.json"))
    return folder


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoes.model.hub.BACKOFF_SECONDS", 0.01)

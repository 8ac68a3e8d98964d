"""The merged pipeline draws what base and adapter draw together."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open

from shoes.errors import ExportError
from shoes.model.load import load_unet
from shoes.publishing.export import export
from shoes.publishing.merged import Difference, Draw, write_merged
from shoes.publishing.proof import mean_difference
from shoes.spec import TrainSpec
from shoes.storage import hash_files
from tests.publishing.adapters import BASE, OTHERS, SPEC, image, pipeline, strong_adapter


def write(night, folder: Path, spec: TrainSpec = SPEC, draw: Draw = image) -> Difference:
    export(folder / "adapter", strong_adapter(night, spec), spec, BASE)
    base = night.models.base.path
    return write_merged(folder / "merged", base, folder / "adapter", device="cpu", scheduler="ddim", draw=draw)


@pytest.mark.parametrize("spec", [SPEC, OTHERS["both"]], ids=["lora", "rslora and feed-forward"])
def test_it_loads_by_itself_and_draws_the_adapters_picture(night, tmp_path: Path, spec: TrainSpec) -> None:
    found = write(night, tmp_path, spec)
    assert found.from_rounded == 0, "what was loaded computes what was saved"
    assert 0 < found.from_adapter == found.by_rounding < 1
    loaded = StableDiffusionPipeline.from_pretrained(tmp_path / "merged", variant="fp16", local_files_only=True)
    assert loaded.safety_checker is None
    assert type(loaded.scheduler).__name__ == "DDPMScheduler", "the base's own"
    weights = [file.name for file in (tmp_path / "merged").rglob("*.safetensors")]
    assert sorted(weights) == [
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model.fp16.safetensors",
        "model.fp16.safetensors",
    ]
    unet = load_unet(tmp_path / "merged", device="cpu", dtype=torch.float16)
    assert not [name for name, _ in unet.named_modules() if "lora" in name]
    for file in (tmp_path / "merged").rglob("*.json"):
        assert str(night.models.base.path) not in file.read_text()
    assert json.loads((tmp_path / "merged/model_index.json").read_text())["safety_checker"] == [None, None]
    before = image(pipeline(night))
    assert mean_difference(before, image(pipeline(night, tmp_path / "adapter"))) > 5, "the adapter does something"


def test_earlier_releases_and_other_tools_find_the_names_that_they_know(night, tmp_path: Path) -> None:
    write(night, tmp_path, draw=lambda pipeline: Image.new("RGB", (8, 8)))
    with safe_open(tmp_path / "merged/text_encoder/model.fp16.safetensors", "np") as weights:
        names = list(weights.keys())
    assert "text_model.embeddings.token_embedding.weight" in names
    assert all(name.startswith("text_model.") for name in names)
    base, merged = night.models.base.path / "tokenizer", tmp_path / "merged/tokenizer"
    assert {file.name for file in merged.iterdir()} == {file.name for file in base.iterdir()}


def test_equal_adapters_make_equal_pipelines(night, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(night, tmp_path / name, draw=lambda pipeline: Image.new("RGB", (8, 8)))
    assert hash_files(tmp_path / "one/merged") == hash_files(tmp_path / "two/merged")


def test_weights_that_are_not_base_and_adapter_are_refused(
    night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StableDiffusionPipeline, "fuse_lora", lambda self: None)  # a library that forgets to
    with pytest.raises(ExportError, match=r"has other weights in .*to_"):
        write(night, tmp_path)

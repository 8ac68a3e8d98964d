"""An adapter draws the same picture from each of its formats."""

import json

import numpy as np
import pytest
import torch

from shoes.model.load import load_unet
from shoes.publishing.export import adapter_sha256, export, weights_of
from shoes.storage import sha256
from shoes.training import lora
from tests.publishing.adapters import BASE, OTHERS, SPEC, Drawing, picture, pipeline, strong_adapter


def test_equal_weights_make_equal_files(night, tmp_path) -> None:
    weights = strong_adapter(night)
    for name in ("one", "two"):
        export(tmp_path / name, weights, SPEC, BASE)
    files = [file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*") if file.is_file()]
    assert len(files) == 5
    for file in files:
        assert sha256(tmp_path / "one" / file) == sha256(tmp_path / "two" / file)
    other = {name: weight + 1e-6 for name, weight in weights.items()}
    export(tmp_path / "other", other, SPEC, BASE)
    assert adapter_sha256(tmp_path / "other") != adapter_sha256(tmp_path / "one")


def test_an_export_can_be_read_back(night, tmp_path) -> None:
    weights = strong_adapter(night)
    export(tmp_path / "adapter", weights, SPEC, BASE)
    found = weights_of(tmp_path / "adapter")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_the_trained_adapter_loads_with_plain_diffusers(night) -> None:
    from diffusers import StableDiffusionPipeline

    plain = StableDiffusionPipeline.from_pretrained(night.models.base.path, safety_checker=None, local_files_only=True)
    plain.set_progress_bar_config(disable=True)
    plain.load_lora_weights(night.training.adapter_dir)
    ours = pipeline(night, night.training.adapter_dir)
    plain.scheduler = ours.scheduler
    image = plain(
        Drawing.prompt,
        num_inference_steps=3,
        guidance_scale=4.0,
        height=64,
        width=64,
        generator=torch.Generator().manual_seed(Drawing.seed),
    ).images[0]
    assert np.abs(np.asarray(image, dtype=np.float32) - picture(ours)).mean() < 1


def output(unet) -> torch.Tensor:
    numbers = torch.Generator().manual_seed(1)
    config = unet.config
    noisy = torch.randn(2, config.in_channels, 16, 16, generator=numbers)
    text = torch.randn(2, 7, config.cross_attention_dim, generator=numbers)
    with torch.no_grad():
        return unet(noisy, torch.tensor([100, 700]), text).sample


@pytest.mark.parametrize("name", OTHERS)
def test_options_of_the_adapter_travel_in_every_format(night, tmp_path, name: str) -> None:
    from peft import PeftModel

    spec = OTHERS[name]
    weights = strong_adapter(night, spec)
    export(tmp_path / "adapter", weights, spec, BASE)
    unet = load_unet(night.models.base.path, device="cpu", dtype=torch.float32)
    base = output(unet)
    lora.add_adapter(unet, spec)
    lora.set_adapter_weights(unet, weights)
    expected = output(unet)
    kohya = pipeline(night)
    kohya.load_lora_weights(tmp_path / "adapter/kohya", weight_name="adapter.safetensors")
    peft = PeftModel.from_pretrained(pipeline(night).unet, tmp_path / "adapter/peft")
    for found in (pipeline(night, tmp_path / "adapter").unet, kohya.unet, peft):
        torch.testing.assert_close(output(found), expected, rtol=1e-4, atol=1e-4)
    plain = load_unet(night.models.base.path, device="cpu", dtype=torch.float32)
    lora.add_adapter(plain, spec.model_copy(update={"use_rslora": False}))
    lora.set_adapter_weights(plain, weights)
    differs = (output(plain) - expected).abs().max()
    assert differs > 0.01 * (expected - base).abs().max() if spec.use_rslora else differs == 0
    trained = {layer.split(".lora_")[0] for layer in weights}
    assert any(layer.endswith("ff.net.2") for layer in trained) == ("ff.net.2" in spec.lora_target_modules)


def test_kohya_gets_the_alpha_that_gives_rank_stabilised_scale(night, tmp_path) -> None:
    """Its loaders know alpha / rank only; the metadata says the same."""
    from safetensors import safe_open

    spec = OTHERS["rslora"]
    export(tmp_path / "adapter", strong_adapter(night, spec), spec, BASE)
    with safe_open(tmp_path / "adapter/kohya/adapter.safetensors", "pt") as file:
        alphas = {file.get_tensor(name).item() for name in file.keys() if name.endswith(".alpha")}  # noqa: SIM118
        assert alphas == {12 * 4**0.5}
        assert float(file.metadata()["ss_network_alpha"]) == 12 * 4**0.5
    config = json.loads((tmp_path / "adapter/peft/adapter_config.json").read_text())
    assert (config["use_rslora"], config["lora_alpha"]) == (True, 12)

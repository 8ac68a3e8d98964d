"""An adapter draws the same picture from each of its formats."""

import numpy as np
import torch

from shoes.model.load import load_pipeline, load_unet
from shoes.publishing.export import adapter_sha256, export, weights_of
from shoes.sampling import draw
from shoes.spec import TrainSpec
from shoes.storage import sha256
from shoes.training import lora

SPEC = TrainSpec(rank=4, lora_alpha=12, resolution=64)


class Drawing:
    prompt = "A professional product photo of black casual shoes, summer collection, men"
    seed = 3


def picture(pipeline) -> np.ndarray:
    image, *_ = draw(pipeline, [Drawing()], num_inference_steps=3, guidance_scale=4.0, resolution=64)
    return np.asarray(image, dtype=np.float32)


def pipeline(night, adapter_dir=None):
    return load_pipeline(
        night.models.base.path, device="cpu", dtype=torch.float32, scheduler="ddim", adapter_dir=adapter_dir
    )


def strong_adapter(night) -> dict[str, torch.Tensor]:
    """An adapter whose alpha is not its rank and whose effect is plain to see."""
    unet = load_unet(night.models.base.path, device="cpu", dtype=torch.float32)
    lora.add_adapter(unet, SPEC)
    generator = torch.Generator().manual_seed(0)
    return {
        name: 0.1 * torch.randn(weight.shape, generator=generator)
        for name, weight in lora.adapter_weights(unet).items()
    }


def test_every_format_draws_what_the_adapter_in_memory_draws(night, tmp_path) -> None:
    weights = strong_adapter(night)
    export(tmp_path / "adapter", weights, SPEC, base_model="tiny")
    inside = pipeline(night)
    lora.add_adapter(inside.unet, SPEC)
    lora.set_adapter_weights(inside.unet, weights)
    expected = picture(inside)
    assert np.abs(expected - picture(pipeline(night))).mean() > 5, "the adapter does something"
    diffusers = picture(pipeline(night, tmp_path / "adapter"))
    kohya = pipeline(night)
    kohya.load_lora_weights(tmp_path / "adapter/kohya", weight_name="adapter.safetensors")
    peft = pipeline(night)
    from peft import PeftModel

    peft.unet = PeftModel.from_pretrained(peft.unet, tmp_path / "adapter/peft")
    for found in (diffusers, picture(kohya), picture(peft)):
        assert np.abs(found - expected).mean() < 1


def test_equal_weights_make_equal_files(night, tmp_path) -> None:
    weights = strong_adapter(night)
    for name in ("one", "two"):
        export(tmp_path / name, weights, SPEC, base_model="tiny")
    files = [file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*") if file.is_file()]
    assert len(files) == 5
    for file in files:
        assert sha256(tmp_path / "one" / file) == sha256(tmp_path / "two" / file)
    other = {name: weight + 1e-6 for name, weight in weights.items()}
    export(tmp_path / "other", other, SPEC, base_model="tiny")
    assert adapter_sha256(tmp_path / "other") != adapter_sha256(tmp_path / "one")


def test_an_export_can_be_read_back(night, tmp_path) -> None:
    weights = strong_adapter(night)
    export(tmp_path / "adapter", weights, SPEC, base_model="tiny")
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

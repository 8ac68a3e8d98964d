"""The options for drawing: what a device admits, and what each does."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import SlicedAttnProcessor

from shoes.errors import ConfigurationError
from shoes.model.inference import Inference, admissible, choose_inference, vae_inference
from shoes.model.load import load_pipeline
from shoes.sampling import draw
from shoes.settings import PROJECT_ROOT
from shoes.spec import InferenceSpec

REFUSED: dict[str, tuple[dict[str, Any], str, bool, str]] = {
    "sliced on MPS": ({"attention": "sliced"}, "mps", False, "baddbmm"),
    "xformers on MPS": ({"attention": "xformers"}, "mps", True, "CUDA only"),
    "xformers on the CPU": ({"attention": "xformers"}, "cpu", True, "CUDA only"),
    "xformers that is not there": ({"attention": "xformers"}, "cuda", False, "is not installed"),
    "offload on MPS": ({"offload": "model"}, "mps", False, "share one memory"),
    "offload on the CPU": ({"offload": "model"}, "cpu", False, "saves nothing"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_device_can_not_do_is_refused_with_the_reason(case: str) -> None:
    options, device, has_xformers, reason = REFUSED[case]
    spec = InferenceSpec(**options)
    with pytest.raises(ConfigurationError, match=reason) as caught:
        choose_inference(spec, device, resolution=512, has_xformers=has_xformers)
    assert caught.value.problems[0].where == f"inference.{next(iter(options))}"
    assert caught.value.problems[0].fix


def test_all_that_is_refused_is_said_at_once_and_can_be_left_out() -> None:
    spec = InferenceSpec(attention="sliced", offload="model", vae_tiling=True)
    with pytest.raises(ConfigurationError, match="2 problems"):
        choose_inference(spec, "mps", resolution=512)
    rest, reasons = admissible(spec, "mps")
    assert rest == InferenceSpec(vae_tiling=True)
    assert len(reasons) == 2
    assert admissible(rest, "mps") == (rest, [])


@pytest.mark.parametrize(
    ("spec", "device", "resolution", "expected"),
    [
        (InferenceSpec(), "cpu", 64, Inference(vae_slicing=False)),
        (InferenceSpec(), "mps", 512, Inference()),
        (InferenceSpec(vae_slicing=False), "cuda", 512, Inference(vae_slicing=False)),
        (InferenceSpec(attention="sliced"), "cpu", 512, Inference(attention="sliced")),
        (InferenceSpec(attention="xformers"), "cuda", 512, Inference(attention="xformers")),
        (InferenceSpec(offload="model", vae_tiling=True), "cuda", 512, Inference(offload="model", vae_tiling=True)),
    ],
)
def test_what_is_applied(spec: InferenceSpec, device: str, resolution: int, expected: Inference) -> None:
    found = choose_inference(spec, device, resolution=resolution, has_xformers=True)
    assert found.model_copy(update={"reasons": {}}) == expected
    assert set(found.reasons) == set(InferenceSpec.model_fields)


def test_training_takes_the_options_of_the_vae_alone() -> None:
    spec = InferenceSpec(attention="sliced", offload="model", vae_tiling=True)
    assert vae_inference(spec, "mps", resolution=64).model_dump(exclude={"reasons"}) == Inference(
        vae_slicing=False, vae_tiling=True
    ).model_dump(exclude={"reasons"})


@dataclass(frozen=True)
class Drawing:
    prompt: str
    seed: int


def pixels(inference: Inference) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Two pictures drawn at once, and the shapes that the VAE's decoder saw."""
    pipeline = load_pipeline(
        PROJECT_ROOT / "data/demo/model",
        device="cpu",
        dtype=torch.float32,
        scheduler="ddim",
        inference=inference,
        resolution=64,
    )
    shapes: list[tuple[int, ...]] = []
    pipeline.vae.decoder.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    drawings = [Drawing("blue casual shoes", 1), Drawing("red shirt", 2)]
    images = draw(pipeline, drawings, num_inference_steps=2, guidance_scale=2.0, resolution=64, batch_size=2)
    return np.stack([np.asarray(image, dtype=np.int32) for image in images]), shapes


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    found, shapes = pixels(Inference(vae_slicing=False))
    assert shapes == [(2, 4, 16, 16)]
    return found


def test_vae_slicing_decodes_one_by_one_and_changes_rounding_only(plain: np.ndarray) -> None:
    found, shapes = pixels(Inference(vae_slicing=True))
    assert shapes == [(1, 4, 16, 16)] * 2
    assert np.abs(found - plain).max() <= 2


def test_vae_tiling_decodes_parts_of_a_picture(plain: np.ndarray) -> None:
    found, shapes = pixels(Inference(vae_slicing=False, vae_tiling=True))
    assert len(shapes) > 1
    assert max(shape[-1] for shape in shapes) == 8
    assert 0 < np.abs(found - plain).mean() < 20, "other pictures, of the same thing"


def test_sliced_attention_draws_the_same(plain: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = SlicedAttnProcessor.__call__
    monkeypatch.setattr(SlicedAttnProcessor, "__call__", lambda *args, **more: calls.append(1) or real(*args, **more))
    found, _ = pixels(Inference(vae_slicing=False, attention="sliced"))
    assert calls, "each attention of the UNet is computed in slices"
    assert np.abs(found - plain).max() <= 3

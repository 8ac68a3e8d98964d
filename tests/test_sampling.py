"""An image is decided by its prompt and seed, not by what it is drawn beside."""

from dataclasses import dataclass
from typing import get_args

import numpy as np
import pytest
import torch

from shoes.model.load import load_pipeline, load_scheduler
from shoes.sampling import draw
from shoes.settings import PROJECT_ROOT
from shoes.spec import SchedulerName


@dataclass(frozen=True)
class Drawing:
    prompt: str
    seed: int


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline(
        PROJECT_ROOT / "data/demo/model", device="cpu", dtype=torch.float32, scheduler="dpm-solver", adapter_dir=None
    )


def images(pipeline, drawings: list[Drawing], batch_size: int) -> list[np.ndarray]:
    drawn = draw(pipeline, drawings, num_inference_steps=3, guidance_scale=4.0, resolution=64, batch_size=batch_size)
    return [np.asarray(image, dtype=np.float32) for image in drawn]


def test_the_batch_does_not_decide_the_image(pipeline) -> None:
    drawings = [Drawing("blue casual shoes", 1), Drawing("red shirt", 2), Drawing("blue casual shoes", 3)]
    alone, together = images(pipeline, drawings, 1), images(pipeline, drawings, 3)
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).mean() < 0.5
    assert np.abs(alone[0] - alone[2]).mean() > 5, "another seed is another picture"


def test_the_vae_decodes_in_fp32_whatever_the_unet_computes_in() -> None:
    pipeline = load_pipeline(
        PROJECT_ROOT / "data/demo/model", device="cpu", dtype=torch.bfloat16, scheduler="ddim", adapter_dir=None
    )
    assert pipeline.vae.dtype == torch.float32
    assert pipeline.unet.dtype == torch.bfloat16
    (image,) = images(pipeline, [Drawing("blue casual shoes", 1)], 1)
    assert np.isfinite(image).all()
    assert image.std() > 1


SCHEDULES = {
    "the demo's": PROJECT_ROOT / "data/demo/model/scheduler",
    "as published": PROJECT_ROOT / "shoes/model/published/stable-diffusion-v1-5/scheduler",
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", get_args(SchedulerName))
def test_every_sampler_draws_in_one_to_four_steps(pipeline, sampler: SchedulerName, schedule: str) -> None:
    pipeline.scheduler = load_scheduler(SCHEDULES[schedule].parent, sampler)
    own = pipeline.scheduler.config
    for steps in (1, 2, 3, 4):
        drawn = draw(pipeline, [Drawing("shoes", 1)], num_inference_steps=steps, guidance_scale=1.0, resolution=64)
        (image,) = drawn
        assert np.asarray(image).std() > 10, f"blank after {steps} steps"
    assert pipeline.scheduler.config == own

"""Every published layout is loaded, takes a step and draws what diffusers itself draws with it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shoes.model import configs
from shoes.model.architecture import pipeline_problems
from shoes.model.load import load_noise_schedule, load_pipeline, load_text
from shoes.sampling import draw_pixels
from shoes.spec import TrainSpec
from shoes.training import lora
from shoes.training.cache import encode_text
from shoes.training.objective import Objective
from tests.published import layouts
from tests.published.models import Recipe, make_model

if TYPE_CHECKING:
    import torch

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

CHEAP = ("CompVis/stable-diffusion-v1-4", "Lykon/dreamshaper-8", "stabilityai/stable-diffusion-2-1")
"""The oldest, one of a foreign sampler, and one that predicts v."""
SAMPLERS = {
    "dpm-solver": "DPMSolverMultistepScheduler",
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "pndm": "PNDMScheduler",
}
LONG = "A professional product photo of a red canvas shoe, centered on white background. " * 8
"""More than 77 tokens."""


@pytest.mark.parametrize(
    "name", [n if n in CHEAP else pytest.param(n, marks=pytest.mark.slow) for n in layouts.EVERY_BASE]
)
def test_a_published_model_takes_a_step_and_draws_as_diffusers_does(name: str, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", Recipe(name))
    assert pipeline_problems(folder) == []
    loss, gradients = step(folder)
    assert 0.1 < loss < 10
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)
    for sampler in SAMPLERS if name in CHEAP[1:2] else ("dpm-solver",):
        assert (drawn_here(folder, sampler) - drawn_by_diffusers(folder, sampler)).abs().max() < 1e-4


def step(folder: Path) -> "tuple[float, list[torch.Tensor]]":
    """Loss and the adapter's gradients, on latents and a caption as a training has them."""
    import torch

    sizes = configs.geometry(folder)
    unet = lora.load_with_adapter(folder, TrainSpec(rank=4), device="cpu", precision="no", checkpointing="off")
    objective = Objective(unet, load_noise_schedule(folder), sizes.scaling_factor, "cpu", "no", snr_gamma=5.0)
    clean, noise = torch.randn(2, 1, sizes.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    text = torch.from_numpy(encode_text(load_text(folder, device="cpu"), [LONG], "cpu"))
    assert text.shape == (1, sizes.text_tokens, sizes.text_width)
    loss = objective.loss(clean, noise, torch.tensor([500]), text).mean()
    loss.backward()
    return float(loss.detach()), [p.grad for p in lora.trainable(unet).values() if p.grad is not None]


def drawn_here(folder: Path, sampler: Any) -> "torch.Tensor":
    import torch

    pipeline = load_pipeline(folder, device="cpu", dtype=torch.float32, scheduler=sampler)
    (pixels,) = draw_pixels(pipeline, [Drawing], num_inference_steps=2, guidance_scale=3.0, resolution=64)
    return pixels


class Drawing:
    prompt, seed = LONG, 3


def drawn_by_diffusers(folder: Path, sampler: str) -> "torch.Tensor":
    """The same by the library alone, from what `from_pretrained` makes of the folder."""
    import diffusers
    import torch

    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, safety_checker=None, requires_safety_checker=False, local_files_only=True
    )
    own = dict(pipeline.scheduler.config)
    if own.get("algorithm_type") == "deis":  # diffusers' conversion of this one fails
        own["algorithm_type"] = "dpmsolver++"
    pipeline.scheduler = getattr(diffusers, SAMPLERS[sampler]).from_config(own)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(Drawing.seed)
    drawn = pipeline(
        LONG,
        height=64,
        width=64,
        num_inference_steps=2,
        guidance_scale=3.0,
        generator=generator,
        output_type="latent",
    ).images
    with torch.inference_mode():
        return pipeline.vae.decode(drawn / pipeline.vae.config.scaling_factor).sample

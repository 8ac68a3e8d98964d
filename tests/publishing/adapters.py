"""Adapters of the tests: strong enough that one sees what they do, and what draws with them."""

import numpy as np
import torch

from shoes.model.load import load_pipeline, load_unet
from shoes.publishing.kohya import Provenance
from shoes.sampling import draw
from shoes.spec import TrainSpec
from shoes.training import lora

BASE = Provenance("tiny")
SPEC = TrainSpec(rank=4, lora_alpha=12, resolution=64)
FEED_FORWARD = ("to_k", "to_q", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
OTHERS = {
    "rslora": SPEC.model_copy(update={"use_rslora": True}),
    "feed-forward": SPEC.model_copy(update={"lora_target_modules": FEED_FORWARD}),
    "both": SPEC.model_copy(update={"use_rslora": True, "lora_target_modules": FEED_FORWARD}),
}


class Drawing:
    prompt = "A professional product photo of black casual shoes, summer collection, men"
    seed = 3


def image(pipeline):
    found, *_ = draw(pipeline, [Drawing()], num_inference_steps=3, guidance_scale=4.0, resolution=64)
    return found


def picture(pipeline) -> np.ndarray:
    return np.asarray(image(pipeline), dtype=np.float32)


def pipeline(night, adapter_dir=None, dtype=torch.float32):
    return load_pipeline(night.models.base.path, device="cpu", dtype=dtype, scheduler="ddim", adapter_dir=adapter_dir)


def strong_adapter(night, spec: TrainSpec = SPEC, *, size: float = 0.1) -> dict[str, torch.Tensor]:
    """An adapter whose alpha is not its rank and whose effect is plain to see."""
    unet = load_unet(night.models.base.path, device="cpu", dtype=torch.float32)
    lora.add_adapter(unet, spec)
    generator = torch.Generator().manual_seed(0)
    return {
        name: size * torch.randn(weight.shape, generator=generator)
        for name, weight in lora.adapter_weights(unet).items()
    }

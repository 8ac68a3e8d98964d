"""Memory of a training of Stable Diffusion 1.x, before anything is measured: bytes, and rather too many.

Measured as the resident set of one training step, fp32 on a CPU, of a full-size UNet with the shape of SD 1.5 and
a LoRA of rank 8 on its attention: 2.25 GB for every image of 512 px without checkpointing, 1.2 GB with it, and half
of both in bf16; proportional to the pixels between 256 and 512 px. A CPU and CUDA keep no attention scores. Their
size on MPS is counted, not measured: heads × tokens² values per layer.
"""

from shoes.device.facts import GIGABYTE
from shoes.spec import Checkpointing, TrainSpec

NUM_UNET_PARAMETERS = 860_000_000
ACTIVATIONS: dict[Checkpointing, float] = {
    "off": 2.25 * GIGABYTE,
    "attention": 2.25 * GIGABYTE,
    "full": 1.2 * GIGABYTE,
}
"""Kept for the backward pass of one image of 512 px in fp32, by what is checkpointed; without attention scores."""
SCORES = 2.9 * GIGABYTE
"""Attention scores of one image of 512 px in fp32, of all layers: they grow with the square of the pixels."""
LARGEST_SCORES = 0.92 * SCORES / 5
"""Those of one of the five self-attentions at the highest resolution."""
SCORES_AT_ONCE: dict[Checkpointing, float] = {
    "off": SCORES + 2 * LARGEST_SCORES,
    "attention": 0.08 * SCORES + 2 * LARGEST_SCORES / 16,
    "full": 3 * LARGEST_SCORES / 16,
}
"""Scores that are there at the same time, by what is checkpointed, in proportion to the images: those that are kept, or
one layer's when it is computed again, and two layers' worth of gradients. With checkpointing the largest are there in
parts, and the largest besides are those of the next resolution, a sixteenth."""
PARTS = 3 * 0.25 * GIGABYTE
"""A part of the largest scores and its gradients with checkpointing on a GPU (`training.attention`), for any number of
images."""
OTHER = 1.5 * GIGABYTE
"""The libraries, the optimizer, and the VAE and text encoder while samples are drawn."""
MARGIN = 1.15


def keeps_scores(device: str) -> bool:
    """Whether attention scores are kept for the backward pass: MPS has no scaled_dot_product_attention with a backward
    pass of its own, so PyTorch takes it apart there."""
    return device == "mps"


def training_bytes(spec: TrainSpec, device: str, precision: str, *, checkpointing: Checkpointing) -> int:
    """Peak memory of a training step."""
    bytes_per_value = 4 if precision == "no" else 2
    area = (spec.resolution / 512) ** 2
    activations = ACTIVATIONS[checkpointing] * area
    if keeps_scores(device):
        activations += SCORES_AT_ONCE[checkpointing] * area**2
    images = spec.train_batch_size * activations * bytes_per_value / 4
    largest = spec.train_batch_size * LARGEST_SCORES * area**2 * bytes_per_value / 4
    parts = min(PARTS, 3 * largest) if keeps_scores(device) and checkpointing != "off" else 0
    return int(NUM_UNET_PARAMETERS * bytes_per_value + MARGIN * images + parts + OTHER)

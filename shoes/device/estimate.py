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
"""Those of one of the five self-attentions at the highest resolution; one layer's are there twice more, as gradients,
while its backward pass is computed."""
KEPT_SCORES: dict[Checkpointing, float] = {
    "off": SCORES,
    "attention": 0.08 * SCORES + LARGEST_SCORES,
    "full": LARGEST_SCORES,
}
"""Scores that are there at the same time, by what is checkpointed; one layer's at least, when it is computed again."""
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
        activations += (KEPT_SCORES[checkpointing] + 2 * LARGEST_SCORES) * area**2
    images = spec.train_batch_size * activations * bytes_per_value / 4
    return int(NUM_UNET_PARAMETERS * bytes_per_value + MARGIN * images + OTHER)

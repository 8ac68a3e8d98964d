"""Memory of a training of Stable Diffusion 1.x, before anything is measured: bytes, and rather too many.

Measured as the resident set of one training step, fp32 on a CPU, of a full-size UNet with the shape of SD 1.5 and
a LoRA of rank 8 on its attention: 2.25 GB for every image of 512 px without checkpointing, 1.2 GB with it, and half
of both in bf16; proportional to the pixels between 256 and 512 px. A CPU and CUDA keep no attention scores. Their
size on MPS is counted, not measured.
"""

from shoes.device.facts import GIGABYTE
from shoes.spec import TrainSpec

NUM_UNET_PARAMETERS = 860_000_000
ACTIVATIONS = {"none": 2.25 * GIGABYTE, "full": 1.2 * GIGABYTE}
"""Kept for the backward pass of one image of 512 px in fp32, by what is checkpointed; without attention scores."""
SCORES = 2.9 * GIGABYTE
"""Attention scores of one image of 512 px in fp32, of all layers: they grow with the square of the pixels."""
LARGEST_SCORES = SCORES / 5
"""Those of one of the five layers at the highest resolution; one layer's are there twice while it is computed."""
OTHER = 1.5 * GIGABYTE
"""The libraries, the optimizer, and the VAE and text encoder while samples are drawn."""
MARGIN = 1.15


def training_bytes(spec: TrainSpec, device: str, precision: str, *, checkpointing: str) -> int:
    """Peak memory of a training step with checkpointing `none` or `full`."""
    bytes_per_value = 4 if precision == "no" else 2
    area = (spec.resolution / 512) ** 2
    activations = ACTIVATIONS[checkpointing] * area
    if device == "mps":  # its scaled_dot_product_attention has no backward of its own: scores are kept
        kept = SCORES if checkpointing == "none" else 0
        activations += (kept + 2 * LARGEST_SCORES) * area**2
    images = spec.train_batch_size * activations * bytes_per_value / 4
    return int(NUM_UNET_PARAMETERS * bytes_per_value + MARGIN * images + OTHER)

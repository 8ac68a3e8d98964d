"""Wrong kernels of the emulated device, one for each kind of work that a night does, and by what name each is found."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from tests.emulated.faults import Call, Fault, every, in_phase, missing, within, wrong

GUIDED = 4
"""Images in one pass of the UNet when two pictures are drawn with guidance."""


@dataclass(frozen=True)
class Case:
    """A fault, and what is to be said of it."""

    fault: Callable[[], Fault]
    part: str
    """Its name in `device.parity.PARTS`."""
    words: str
    """How the verdict begins."""
    end: str
    """What is taken in the end, where fp32 was meant."""


def images(*counts: int) -> Callable[[Call], bool]:
    """Only with so many images in the first input."""
    return lambda call: call.shapes[0][0] in counts


def nan(values: torch.Tensor) -> torch.Tensor:
    """What a kernel returns that overflows."""
    return values * torch.nan


CPU = "cpu in fp32"
IN_UNET = within("UNet2DConditionModel.forward")
CASES = {
    "step with gradients": Case(lambda: wrong("mm", when=in_phase("backward")), "gradient", "the gradient is ", CPU),
    "forward pass of a step": Case(
        lambda: wrong("convolution", when=every(IN_UNET, in_phase("forward"))),
        "prediction",
        "the loss is ",
        CPU,
    ),
    "attention without gradients": Case(
        lambda: wrong("_scaled_dot_product_attention_math_for_mps", when=IN_UNET),
        "held_out",
        "the predicted noise without gradients is ",
        CPU,
    ),
    "guided sampling": Case(
        lambda: wrong("convolution", when=every(IN_UNET, in_phase("no_grad"), images(GUIDED))),
        "sampling",
        "what is sampled is ",
        CPU,
    ),
    "the sampler's own step": Case(
        lambda: wrong("sub.Tensor", when=within("DPMSolverMultistepScheduler.step")),
        "sampling",
        "what is sampled is ",
        CPU,
    ),
    "VAE encode": Case(
        lambda: wrong("convolution", when=within("encode_photos")), "encode", "the VAE's encoding is ", CPU
    ),
    "VAE decode": Case(
        lambda: wrong("convolution", when=within("AutoencoderKL.decode")), "decode", "the VAE's decoding is ", CPU
    ),
    "text encoder": Case(
        lambda: wrong("addmm", when=within("encode_text")), "text", "the text encoder's output is ", CPU
    ),
    "optimizer": Case(
        lambda: wrong("_fused_adamw_"),
        "optimizer",
        "the optimizer's update is ",
        "mps in fp32 with AdamW without its fused kernel",
    ),
    "real micro-batch": Case(
        lambda: wrong("convolution", when=every(IN_UNET, in_phase("forward"), images(2))),
        "batch_prediction",
        "the predicted noise of 2 images at once is ",
        "mps in fp32 with micro-batches of 1",
    ),
    "NaN": Case(
        lambda: wrong("native_group_norm", change=nan, when=every(IN_UNET, in_phase("forward"))),
        "prediction",
        "the loss is not finite; the predicted noise is not finite",
        CPU,
    ),
    "missing kernel": Case(
        lambda: missing("silu_backward", when=in_phase("backward")),
        "gradient",
        "the gradient fails (NotImplementedError: The operator 'aten::silu_backward'",
        CPU,
    ),
}

TOGETHER = (
    ("VAE encode", "VAE decode", "text encoder", "attention without gradients", "optimizer", "real micro-batch"),
    ("step with gradients", "guided sampling"),
)
"""Faults of which none hides another: those of one line can be found in one go."""

"""No step on an M1 or M2 sums 32,767 or more numbers in one product of matrices: PyTorch does it wrongly there."""

from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from shoes.spec import TrainSpec
from shoes.training import lora
from shoes.training.dropout import use_sample_dropout
from shoes.training.objective import Objective
from shoes.training.products import product_over_rows
from tests.emulated.mps import emulated_mps
from tests.emulated.tensor import Computer, Product

SAMPLES, SIDE = 129, 16
"""Together 33,024 tokens."""
LOSS_SCALE = 2.0**10
"""Keeps fp16's gradients from vanishing."""
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable Diffusion's UNet, 16 channels wide, with convolutions around its attention as in 1.5."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=SIDE,
        block_out_channels=(16,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=1,
        norm_num_groups=8,
    )
    folder = tmp_path_factory.mktemp("narrow")
    unet.save_pretrained(folder / "unet")
    return folder


def gradients(folder: Path, device: str, precision: str = "no", mode: str = "off", **fields: object) -> torch.Tensor:
    """Of all the adapter's weights in one vector, for one micro-batch."""
    spec = TrainSpec(rank=16, seed=3, **fields)
    unet = lora.load_with_adapter(folder, spec, device=device, precision=precision, checkpointing=mode)
    with torch.no_grad():
        for parameter in lora.trainable(unet).values():
            parameter.add_(torch.full(parameter.shape, 0.02).to(device))
    key = use_sample_dropout(unet, spec.lora_dropout, spec.seed)
    key.positions = range(SAMPLES)
    numbers = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, SAMPLES, 4, SIDE, SIDE, generator=numbers).unbind()
    text = torch.randn(SAMPLES, 8, 16, generator=numbers)
    inputs = (clean, noise, torch.arange(SAMPLES), text)
    objective = Objective(unet, DDPMScheduler(), 1.0, device, precision)
    (objective.loss(*(x.to(device) for x in inputs)).mean() * LOSS_SCALE).backward()
    return torch.cat([p.grad.flatten().float().cpu() for p in lora.trainable(unet).values()]) / LOSS_SCALE


def too_long(computer: Computer) -> list[Product]:
    """Products that M1 and M2 compute wrongly."""
    return [p for p in computer.products if p.k >= 32_767 and min(p.m, p.n) >= 16]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="fused"),
        pytest.param({"lora_dropout": 0.1, "lora_target_modules": (*ATTENTION, "proj_in", "conv1")}, id="beside"),
        pytest.param(
            {"precision": "bf16", "lora_target_modules": ("to_q", "conv1")}, id="bf16", marks=pytest.mark.slow
        ),
        pytest.param({"mode": "attention"}, id="attention", marks=pytest.mark.slow),
        pytest.param({"mode": "full", "precision": "fp16"}, id="full", marks=pytest.mark.slow),
    ],
)
def test_no_product_of_a_step_is_too_long_for_an_m2(narrow: Path, mps: Computer, options: dict) -> None:
    found = gradients(narrow, "mps", **options)
    assert mps.products
    assert too_long(mps) == []
    right = gradients(narrow, "cpu", **{**options, "precision": "no"})
    tolerance = 1e-5 if options.get("precision", "no") == "no" else 0.05
    assert (found - right).norm() < tolerance * right.norm()


def test_a_chip_that_computes_right_makes_them_at_once(narrow: Path) -> None:
    with emulated_mps({"machdep.cpu.brand_string": "Apple M4"}) as m4:
        gradients(narrow, "mps")
    assert Product(16, SAMPLES * SIDE**2, 16) in too_long(m4)


@pytest.mark.parametrize("rows", [1, 9, 10, 11, 29, 30, 31])
def test_parts_sum_up_to_the_whole(rows: int) -> None:
    left, right = torch.arange(rows * 2.0).view(rows, 2), torch.arange(rows * 3.0).view(rows, 3)
    assert torch.equal(product_over_rows(left, right, 10), left.t() @ right)
    assert torch.equal(product_over_rows(left, right, None), left.t() @ right)


def test_parts_of_a_half_precision_product_are_added_in_fp32() -> None:
    ones = torch.ones(513, 1, dtype=torch.bfloat16)
    assert product_over_rows(ones, ones, 256).item() == 513, "bf16 has no 513"

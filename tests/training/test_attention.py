"""What the backward pass computes again changes memory and time, and nothing else."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from shoes.settings import PROJECT_ROOT
from shoes.spec import TrainSpec
from shoes.training import attention, lora
from shoes.training.attention import apply_checkpointing, at_highest_resolution, large_self_attentions

MODEL = PROJECT_ROOT / "data/demo/model"
FEW = [pytest.param(rows, marks=pytest.mark.slow) for rows in (1, 5)]
MODES = ("off", "attention", "full")


def unet_in(mode: str, precision: str = "no") -> UNet2DConditionModel:
    """The demo's UNet with an adapter that does something."""
    unet = lora.load_with_adapter(MODEL, TrainSpec(), device="cpu", precision=precision, checkpointing=mode)
    numbers = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in lora.trainable(unet).values():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=numbers))
    return unet


def forward(unet: UNet2DConditionModel, precision: str = "no") -> torch.Tensor:
    numbers = torch.Generator().manual_seed(2)
    latents = torch.randn(2, 4, 16, 16, generator=numbers)
    text = torch.randn(2, 24, unet.config.cross_attention_dim, generator=numbers)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        found = unet(latents.to(unet.dtype), torch.tensor([100, 700]), text.to(unet.dtype), return_dict=False)[0]
    return found.float()


def gradients(unet: UNet2DConditionModel, output: torch.Tensor) -> dict[str, torch.Tensor]:
    output.square().mean().backward()
    return {name: p.grad for name, p in lora.trainable(unet).items() if p.grad is not None}


class Counting(TorchDispatchMode):
    """Counts the cores of attention that are computed."""

    number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += func is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
        return func(*args, **(kwargs or {}))


class Scores(TorchDispatchMode):
    """Bytes of the attention scores that are computed over 256 tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if "softmax" in func.__name__ and found.shape[-1] == 256:
            self.bytes.append(found.nbytes)
        return found


def scores_kept(mode: str) -> set[int]:
    """Tokens of the attention scores that are kept for the backward pass, where they are materialised."""
    found: set[int] = set()

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() == 4 and tensor.shape[-1] == tensor.shape[-2] and tensor.shape[1] == 8:
            found.add(tensor.shape[-1])
        return tensor

    with sdpa_kernel(SDPBackend.MATH):
        unet = unet_in(mode)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            forward(unet)
    return found


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("mode", ["attention", "full"])
def test_outputs_and_gradients_are_those_of_keeping_everything(mode: str, precision: str) -> None:
    plain, other = unet_in("off", precision), unet_in(mode, precision)
    outputs = [forward(unet, precision) for unet in (plain, other)]
    assert torch.equal(*outputs)
    wanted, found = (gradients(unet, output) for unet, output in zip((plain, other), outputs, strict=True))
    assert wanted.keys() == found.keys() == lora.trainable(plain).keys()
    assert all(value.abs().max() > 0 for value in wanted.values())
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


@pytest.mark.parametrize(("mode", "again"), [("off", 0), ("attention", 3), ("full", 14)])
def test_what_is_computed_again_in_the_backward_pass(mode: str, again: int) -> None:
    unet = unet_in(mode)
    with Counting() as counted:
        output = forward(unet)
        first = counted.number
        gradients(unet, output)
    assert first == 14
    assert counted.number - first == again


@pytest.mark.parametrize("rows", [*FEW, 100, 256, 700, 10_000])
@pytest.mark.parametrize("mode", ["attention", "full"])
def test_scores_are_computed_in_parts_of_the_size_that_is_given(
    mode: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of 256 scores in fp32 for each of two images: single queries, parts of a head, heads, several heads, all."""
    part = rows * 2 * 256 * 4
    monkeypatch.setitem(attention.PART_BYTES, "cpu", part)
    with sdpa_kernel(SDPBackend.MATH):
        whole, parts = unet_in("off"), unet_in(mode)
        wanted, sizes = forward(whole), Scores()
        with sizes:
            output = forward(parts)
            found = gradients(parts, output)
    torch.testing.assert_close(output, wanted, rtol=1e-4, atol=1e-5)
    with sdpa_kernel(SDPBackend.MATH):
        for name, gradient in gradients(whole, wanted).items():
            assert (found[name] - gradient).norm() < 1e-4 * gradient.norm(), name
    assert max(sizes.bytes) <= part
    assert max(sizes.bytes) >= min(part, 2 * 8 * 256**2 * 4) / 2, "no smaller than need be"


@pytest.mark.parametrize(("mode", "kept"), [("off", {256, 64, 16}), ("attention", {64, 16}), ("full", set())])
def test_the_largest_scores_are_not_kept(mode: str, kept: set[int]) -> None:
    assert scores_kept(mode) == kept


@pytest.mark.parametrize(("mode", "times"), [("off", 1), ("attention", 2), ("full", 3)])
def test_how_often_the_largest_scores_are_computed(mode: str, times: int) -> None:
    """With `full` once more than their block, which keeps none of them while it is computed again. Their gradients are
    of the same size, and computed once."""
    with sdpa_kernel(SDPBackend.MATH):
        unet = unet_in(mode)
        with Scores() as computed:
            gradients(unet, forward(unet))
    assert len(computed.bytes) == (times + 1) * len(large_self_attentions(unet))


@pytest.mark.parametrize(("device", "materialised"), [("mps", True), ("cuda", False), ("cpu", False)])
def test_where_scores_are_materialised(device: str, materialised: bool) -> None:
    assert attention._materialises_scores(device) is materialised
    with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
        assert attention._materialises_scores(device) is materialised
    with sdpa_kernel(SDPBackend.MATH):
        assert attention._materialises_scores(device)


def test_the_five_large_layers_of_stable_diffusion() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    assert large_self_attentions(unet) == [
        *(f"down_blocks.0.attentions.{number}.transformer_blocks.0.attn1" for number in range(2)),
        *(f"up_blocks.3.attentions.{number}.transformer_blocks.0.attn1" for number in range(3)),
    ]


@pytest.mark.parametrize(
    ("names", "large"),
    [
        (["down_blocks.1.a", "down_blocks.2.a", "up_blocks.1.a", "up_blocks.2.a", "mid_block.attentions.0.a"], (0, 3)),
        (["down_blocks.3.a", "up_blocks.0.a", "mid_block.attentions.0.a"], (0, 1, 2)),
        (["mid_block.attentions.0.a"], (0,)),
        ([], ()),
    ],
)
def test_the_highest_resolution_that_has_attention(names: list[str], large: tuple[int, ...]) -> None:
    assert at_highest_resolution(names, num_levels=4) == [names[number] for number in large]


def test_drawing_computes_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    unet, other = unet_in("attention"), unet_in("off")
    monkeypatch.setattr(attention, "_recomputed", lambda *_, **__: pytest.fail("there is no backward pass"))
    with torch.no_grad():
        assert torch.equal(forward(unet), forward(other))


def test_a_live_unet_goes_from_any_mode_to_any_other() -> None:
    unet = unet_in("off")
    for mode in (*MODES, *reversed(MODES)):
        apply_checkpointing(unet, mode)
        processors = {type(processor) for processor in unet.attn_processors.values()}
        assert (processors == {AttnProcessor2_0}) is (mode != "attention")
        assert unet.is_gradient_checkpointing is (mode == "full")

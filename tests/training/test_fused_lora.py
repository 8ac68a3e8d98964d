"""A layer and its adapter computed at once: peft's numbers, with less work."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.utils._python_dispatch import TorchDispatchMode

from shoes.model.load import load_unet
from shoes.settings import PROJECT_ROOT
from shoes.spec import TrainSpec
from shoes.training import lora
from shoes.training.fused_lora import fuse_adapter, linear_with_adapter

MODEL = PROJECT_ROOT / "data/demo/model"
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
SPEC = TrainSpec(rank=4, lora_alpha=6, lora_target_modules=TARGETS)


def unet_of(kind: str, dtype: torch.dtype = torch.float32, spec: TrainSpec = SPEC) -> UNet2DConditionModel:
    """The demo's UNet with an adapter that does something, by peft alone or fused."""
    unet = load_unet(MODEL, device="cpu", dtype=dtype)
    lora.add_adapter(unet, spec)
    numbers = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in lora.trainable(unet).values():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=numbers))
    if kind == "fused":
        fuse_adapter(unet)
    return unet


def computed(unet: UNet2DConditionModel) -> tuple[torch.Tensor, torch.Tensor]:
    """The output, and all gradients in one vector."""
    numbers = torch.Generator().manual_seed(2)
    latents = torch.randn(2, 4, 8, 8, generator=numbers)
    text = torch.randn(2, 24, unet.config.cross_attention_dim, generator=numbers)
    weights = torch.randn(2, 4, 8, 8, generator=numbers)
    half = unet.dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        output = unet(latents.to(unet.dtype), torch.tensor([100, 700]), text.to(unet.dtype), return_dict=False)[0]
    (output.float() * weights).sum().backward()
    return output.detach().float(), torch.cat([p.grad.flatten() for p in lora.trainable(unet).values()])


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@contextmanager
def operations() -> Iterator[list[str]]:
    """Names of what is computed within, views and empty tensors left out."""
    names: list[str] = []

    class Recording(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if not func.is_view:
                names.append(func.__name__)
            return func(*args, **(kwargs or {}))

    with Recording():
        yield names


def layer_of(unet: UNet2DConditionModel, end: str) -> torch.nn.Module:
    return next(module for name, module in unet.named_modules() if name.endswith(end))


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 6)])
def test_gradients_are_those_of_the_formula(shape: tuple[int, ...], with_bias: bool) -> None:
    numbers = torch.Generator().manual_seed(0)
    x, weight, bias, down, up = (
        torch.randn(size, generator=numbers, dtype=torch.float64) for size in (shape, (7, 6), (7,), (2, 6), (7, 2))
    )
    given = bias if with_bias else None
    y = linear_with_adapter(x, weight, given, down, up, 1.5)
    wanted = x @ weight.T + 1.5 * (x @ down.T) @ up.T + (bias if with_bias else 0)
    torch.testing.assert_close(y, wanted)
    for tensor in (x, down, up):
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, a, b: linear_with_adapter(x, weight, given, a, b, 1.5), (x, down, up))


def test_it_computes_what_peft_computes() -> None:
    (output, gradient), (wanted, of_peft) = computed(unet_of("fused")), computed(unet_of("peft"))
    assert error(output, wanted) < 1e-5
    assert error(gradient, of_peft) < 1e-5


def test_half_precision_is_no_further_from_the_truth_than_peft() -> None:
    truth = computed(unet_of("peft"))
    errors = {
        kind: [error(*pair) for pair in zip(computed(unet_of(kind, torch.bfloat16)), truth, strict=True)]
        for kind in ("peft", "fused")
    }
    assert all(fused < 1.05 * peft for fused, peft in zip(errors["fused"], errors["peft"], strict=True)), errors


def test_every_linear_layer_of_the_adapter_is_fused() -> None:
    unet = unet_of("peft")
    adapted = [name for name, module in unet.named_modules() if hasattr(module, "lora_A")]
    assert fuse_adapter(unet) == adapted
    assert len(adapted) == len(lora.trainable(unet)) / 2


def test_without_its_adapter_the_layer_is_the_base() -> None:
    fused, base = unet_of("fused"), load_unet(MODEL, device="cpu", dtype=torch.float32)
    fused.disable_adapters()
    latents, text = torch.randn(1, 4, 8, 8), torch.randn(1, 24, base.config.cross_attention_dim)
    with torch.no_grad():
        off, plain = (unet(latents, 5, text, return_dict=False)[0] for unet in (fused, base))
        fused.enable_adapters()
        on = fused(latents, 5, text, return_dict=False)[0]
    assert torch.equal(off, plain)
    assert error(on, plain) > 1e-3


def test_dropout_keeps_its_place_between_the_input_and_the_adapter() -> None:
    unet = unet_of("peft", spec=SPEC.model_copy(update={"lora_dropout": 0.1}))
    assert fuse_adapter(unet) == []


def test_convolutions_stay_with_peft() -> None:
    spec = SPEC.model_copy(update={"lora_target_modules": ("conv1", "to_q")})
    names = fuse_adapter(unet_of("peft", spec=spec))
    assert names
    assert all(name.endswith("to_q") for name in names)


def test_nothing_of_the_size_of_the_output_is_computed_beside_the_products() -> None:
    layer = layer_of(unet_of("fused", torch.bfloat16), "attn1.to_q")
    x = torch.randn(2, 9, layer.base_layer.in_features, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16), operations() as forward:
        y = layer(x)
    with operations() as backward:
        torch.autograd.grad(y.sum(), [x, *(p for p in layer.parameters() if p.requires_grad)])
    casts = ["_to_copy.default"] * 2
    assert forward == [*casts, "mm.default", "mm.default", "addmm_.default"]
    assert backward.count("mm.default") == 4
    assert backward.count("addmm_.default") == 1
    assert not any(name.startswith(("add.", "add_.")) for name in backward)


def test_text_that_needs_no_gradient_gets_none() -> None:
    layer = layer_of(unet_of("fused"), "attn2.to_k")
    y = layer(torch.randn(2, 9, layer.base_layer.in_features))
    with operations() as names:
        torch.autograd.grad(y.sum(), [p for p in layer.parameters() if p.requires_grad])
    assert names.count("mm.default") == 3
    assert "addmm_.default" not in names

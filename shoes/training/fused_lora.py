"""A linear layer and its adapter in as few passes over memory as they take.

peft computes y = Wx + b, then s · B(A(x)) beside it, and adds the two: x is cast up and down again, and two more
tensors of y's size are written, in each direction. Here B's product is added to y as it is computed, and in the
backward pass A's to the gradient of x. In fp32 that is the same to rounding; in half precision the adapter's part is
rounded once instead of three times.
"""

from functools import cache, partial
from typing import TYPE_CHECKING, Any

from shoes.training.products import product_over_rows

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel

ADAPTER = "default"


def fuse_adapter(unet: "UNet2DConditionModel", largest_reduction: int | None = None) -> list[str]:
    """Have every linear layer with a plain adapter compute both at once; the names of these layers.

    Parameters, their names and what they stand for stay peft's. Layers that drop out a part of their input, and those
    that are not linear, stay as they are.

    Args:
        unet: with peft's adapter on it.
        largest_reduction: as `linear_with_adapter` takes it.
    """
    from peft.tuners.lora.layer import Linear

    layers = {name: module for name, module in unet.named_modules() if isinstance(module, Linear) and _is_plain(module)}
    for layer in layers.values():
        layer.forward = partial(_forward, layer, largest_reduction)
    return list(layers)


def _is_plain(layer: Any) -> bool:
    import torch

    return (
        type(layer.base_layer) is torch.nn.Linear
        and isinstance(layer.lora_dropout[ADAPTER], torch.nn.Identity)
        and not layer.lora_variant
        and layer.lora_B[ADAPTER].bias is None
    )


def _forward(layer: Any, largest_reduction: int | None, x: "torch.Tensor") -> "torch.Tensor":
    """What the layer returns for x (…×in): …×out in the precision of its frozen weight."""
    base = layer.base_layer
    if layer.disable_adapters or layer.merged:
        return base(x)
    down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    x = x.to(base.weight.dtype)
    return linear_with_adapter(x, base.weight, base.bias, down, up, layer.scaling[ADAPTER], largest_reduction)


def linear_with_adapter(
    x: "torch.Tensor",
    weight: "torch.Tensor",
    bias: "torch.Tensor | None",
    down: "torch.Tensor",
    up: "torch.Tensor",
    scale: float,
    largest_reduction: int | None = None,
) -> "torch.Tensor":
    """y = xWᵀ + b + s · (xAᵀ)Bᵀ (Hu et al. 2021, arXiv:2106.09685, eq. 3), differentiable in x, A and B.

    Args:
        x: …×in, in the precision of the weight.
        weight: W, out×in; frozen.
        bias: b, out; frozen.
        down: A, r×in. It may be more precise than W: it is rounded to W's precision for the products, and its gradient
            is returned in its own.
        up: B, out×r; the same.
        scale: s.
        largest_reduction: over how many rows the gradients of A and B may be summed at once; None: over any number.
    """
    y: torch.Tensor = _function().apply(x, weight, bias, down, up, (scale, largest_reduction))
    return y


@cache
def _function() -> Any:
    import torch
    from torch.autograd.function import once_differentiable
    from torch.nn.functional import linear

    class LinearWithAdapter(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, weight: Any, bias: Any, down: Any, up: Any, how: tuple[float, int | None]) -> Any:
            scale, ctx.largest = how
            rows = x.reshape(-1, x.shape[-1])
            a, b = down.to(weight.dtype), up.to(weight.dtype)
            low = rows @ a.t()
            y = linear(rows, weight, bias).addmm_(low, b.t(), alpha=scale)
            ctx.save_for_backward(rows, weight, a, b, low)
            ctx.scale, ctx.shape, ctx.dtypes = scale, x.shape, (down.dtype, up.dtype)
            return y.view(*x.shape[:-1], -1)

        @staticmethod
        @once_differentiable  # type: ignore[misc, unused-ignore]
        def backward(ctx: Any, grad: Any) -> Any:
            rows, weight, a, b, low = ctx.saved_tensors
            of_y = grad.reshape(-1, grad.shape[-1])
            of_low = of_y @ b * ctx.scale  # rows × r: small
            of_x = (of_y @ weight).addmm_(of_low, a).view(ctx.shape) if ctx.needs_input_grad[0] else None
            of_down = product_over_rows(of_low, rows, ctx.largest).to(ctx.dtypes[0])
            of_up = product_over_rows(of_y, low, ctx.largest).to(ctx.dtypes[1]) * ctx.scale
            return of_x, None, None, of_down, of_up, None

    return LinearWithAdapter

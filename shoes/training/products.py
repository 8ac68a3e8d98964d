"""Products of matrices with a long reduction, in parts that every GPU computes right.

The gradient of an adapter's matrix is a sum over all tokens of a micro-batch: 32,768 of them at 512 px × 8. Where a
device must not sum so many at once (`device.decisions.largest_reduction`), it sums fewer, several times, and the parts
are added in fp32.
"""

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.nn import Module


def product_over_rows(left: "torch.Tensor", right: "torch.Tensor", largest: int | None) -> "torch.Tensor":
    """leftᵀ·right (m×n) of N×m and N×n: at once, or where N is more than `largest`, in parts and in fp32."""
    if largest is None or len(left) <= largest:
        return left.t() @ right
    ends = _ends(len(left), largest)
    first, *others = ((left[a:b].t() @ right[a:b]).float() for a, b in pairwise(ends))
    total: torch.Tensor = first
    for product in others:
        total += product
    return total


def split_long_products(layer: "Module", largest: int) -> None:
    """Have a linear layer or convolution compute its output in parts, so that the gradient of its weight is a sum of
    products with a reduction of at most `largest`; a convolution takes whole samples. Its numbers stay the same to
    rounding."""
    import torch

    assert isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d)), f"not a layer of an adapter: {type(layer)}"
    of_rows = isinstance(layer, torch.nn.Linear)
    layer.forward = partial(_linear_in_parts if of_rows else _convolved_in_parts, layer, largest)


def _linear_in_parts(layer: Any, largest: int, x: "torch.Tensor") -> "torch.Tensor":
    """x is …×in."""
    import torch

    rows = x.reshape(-1, x.shape[-1])
    parts = [
        torch.nn.functional.linear(rows[a:b], _own_copy(layer.weight), layer.bias)
        for a, b in pairwise(_ends(len(rows), largest))
    ]
    y = parts[0] if len(parts) == 1 else torch.cat(parts)
    return y.view(*x.shape[:-1], -1)


def _convolved_in_parts(layer: Any, largest: int, x: "torch.Tensor") -> "torch.Tensor":
    """x is B×C×H×W; as many samples at once as have at most `largest` pixels."""
    import torch

    samples = max(1, largest // (x.shape[-2] * x.shape[-1]))
    how = (layer.stride, layer.padding, layer.dilation, layer.groups)
    parts = [
        torch.nn.functional.conv2d(x[a:b], _own_copy(layer.weight), layer.bias, *how)
        for a, b in pairwise(_ends(len(x), samples))
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _own_copy(weight: "torch.Tensor") -> "torch.Tensor":
    """The weight as it is multiplied. Autocast would round it once for all parts, and add their gradients in half
    precision; each part's own copy hands its gradient over in fp32."""
    import torch

    kind = weight.device.type
    return weight.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else weight


def _ends(count: int, most: int) -> list[int]:
    """Where equal parts of `count`, of at most `most` each, begin and end: [0, …, count]."""
    parts = max(1, -(-count // most))
    return [count * part // parts for part in range(parts + 1)]

"""Attention of the emulated device, by the kernels that PyTorch takes on MPS."""

from typing import Any

import torch

from tests.emulated.faults import Call
from tests.emulated.tensor import Computer

WITHOUT_GRADIENTS = "_scaled_dot_product_attention_math_for_mps"
"""PyTorch's own kernel for MPS, which has no backward pass."""
NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


def attend(computer: Computer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """`scaled_dot_product_attention(*args, **kwargs)`: one kernel where no gradient is wanted, else written out."""
    given = {**dict(zip(NAMES, args, strict=False)), **kwargs}
    inputs = [given[name] for name in NAMES[:3]]
    if torch.is_autocast_enabled("cpu"):
        inputs = [x.to(torch.get_autocast_dtype("cpu")) for x in inputs]
    mask, is_causal, scale = given.get("attn_mask"), given.get("is_causal", False), given.get("scale")
    assert not given.get("dropout_p"), "no model here drops attention out"
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        assert mask is None, "no attention that learns has a mask"
        assert not is_causal, "no attention that learns is causal"
        return _written_out(*inputs, scale)
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=inputs[0].dtype).masked_fill(mask.logical_not(), float("-inf"))
    call = Call(WITHOUT_GRADIENTS, tuple(x.dtype for x in inputs), tuple(tuple(x.shape) for x in inputs), "no_grad")
    kernel = torch.ops.aten._scaled_dot_product_attention_math.default
    arguments = (*(x.detach() for x in inputs), mask, 0.0, is_causal, None)
    return computer.perform(call, kernel, arguments, {"scale": scale})[0]


def _written_out(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None) -> torch.Tensor:
    scores = query @ key.transpose(-2, -1) * (scale or query.shape[-1] ** -0.5)
    return scores.softmax(-1).to(value.dtype) @ value

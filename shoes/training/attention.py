"""Gradient checkpointing: what the backward pass computes again instead of keeping it.

`full` is the library's own, for every block of the UNet. `attention` keeps Q, K and V of the largest self-attentions
and computes softmax(QKᵀ/√d)V again. Where scores are materialised they are half of what a step keeps, and those of the
highest resolution are nearly all of them: in Stable Diffusion 1.5 at 512 px 2.68 GB of 5.42 in fp32, for 3 % more
operations (QKᵀ; PyTorch stops recomputing at the last tensor that is needed). It works in parts, so that the scores of
one part alone are there at a time, and their memory is used again instead of asked for anew. There `full` does the same
within the blocks that it computes again: the scores of a whole layer would be more than all else that it keeps.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

from shoes.device.estimate import keeps_scores
from shoes.spec import Checkpointing

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel

PART_BYTES = {"cpu": 16 * 1024**2}
"""Scores that `attention` computes at once. A C library goes on using blocks of up to 32 MiB that were freed; larger
ones come from the kernel, page by page, every time, which takes as long as filling them."""
PART_BYTES_OF_A_GPU = 256 * 1024**2
"""The same where PyTorch keeps freed memory itself, and every part is some twenty more kernels to start."""


def apply_checkpointing(unet: "UNet2DConditionModel", mode: str) -> None:
    """Switch a UNet to `off`, `attention` or `full`.

    Outputs and gradients are the same in all of them; to rounding where scores of more than PART_BYTES are computed
    in parts.
    """
    from diffusers.models.attention_processor import AttnProcessor2_0

    assert mode in get_args(Checkpointing), f"no checkpointing mode: {mode}"
    unet.disable_gradient_checkpointing()
    if mode == "full":
        unet.enable_gradient_checkpointing(_recomputed)
    in_parts = mode == "attention" or (mode == "full" and _materialises_scores(unet.device.type))
    processor = _recomputing_processor()() if in_parts else AttnProcessor2_0()
    for name in large_self_attentions(unet):
        unet.get_submodule(name).set_processor(processor)


def large_self_attentions(unet: "UNet2DConditionModel") -> list[str]:
    """Names of the self-attentions at the highest resolution that has any."""
    from diffusers.models.attention_processor import Attention

    modules: list[tuple[str, Any]] = [item for item in unet.named_modules() if isinstance(item[1], Attention)]
    names = [name for name, module in modules if not module.is_cross_attention]
    return at_highest_resolution(names, num_levels=len(unet.config.block_out_channels))


def at_highest_resolution(names: Sequence[str], *, num_levels: int) -> list[str]:
    """Those layers of a UNet, out of some, that work at the highest resolution among them."""
    levels = {name: _level(name, num_levels) for name in names}
    return [name for name in names if levels[name] == min(levels.values())]


def _level(name: str, num_levels: int) -> int:
    """How often the picture was halved before this layer: in down_blocks.1 once, in the mid block and in the first up
    block of 4 levels three times."""
    block, number, *_ = name.split(".")
    if block == "down_blocks":
        return int(number)
    return num_levels - 1 - int(number) if block == "up_blocks" else num_levels - 1


def _materialises_scores(device: str) -> bool:
    """Whether softmax(QKᵀ/√d) is computed as a tensor: on MPS, and where PyTorch may take no kernel without it."""
    from torch.backends.cuda import flash_sdp_enabled, mem_efficient_sdp_enabled  # the CPU's kernel heeds them too

    return keeps_scores(device) or not (flash_sdp_enabled() or mem_efficient_sdp_enabled())


def _recomputed(function: Any, *args: Any, **kwargs: Any) -> Any:
    """What the function returns, from which the backward pass computes it again. Nothing in the UNet draws random
    numbers (`training.dropout`), so their state, which PyTorch can't replay on MPS, need not be kept."""
    from torch.utils.checkpoint import checkpoint

    return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)


def _recomputed_in_parts(
    attention: Any, query: "torch.Tensor", key: "torch.Tensor", value: "torch.Tensor", **kwargs: Any
) -> "torch.Tensor":
    """What scaled_dot_product_attention returns for B×heads×tokens×d, part by part of heads and queries."""
    import torch

    batch, _, tokens, _ = query.shape
    part = PART_BYTES.get(query.device.type, PART_BYTES_OF_A_GPU)
    rows = max(1, part // (batch * key.shape[-2] * query.element_size()))
    heads = max(1, rows // tokens)
    by_heads = zip(*(tensor.split(heads, dim=1) for tensor in (query, key, value)), strict=True)
    parts = [
        torch.cat([_recomputed(attention, some, k, v, **kwargs) for some in q.split(rows, dim=2)], dim=2)
        for q, k, v in by_heads
    ]
    return torch.cat(parts, dim=1)


@cache
def _recomputing_processor() -> type:
    import torch
    from diffusers.models.attention_processor import AttnProcessor2_0
    from torch.nn.functional import scaled_dot_product_attention
    from torch.overrides import TorchFunctionMode

    class RecomputedCore(TorchFunctionMode):
        """Within it, scaled_dot_product_attention keeps its inputs alone."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func is not scaled_dot_product_attention or not torch.is_grad_enabled():
                return func(*args, **kwargs)
            assert kwargs.get("attn_mask") is None, "the self-attentions of these UNets have no mask"
            return _recomputed_in_parts(func, *args, **kwargs)

    class RecomputingProcessor(AttnProcessor2_0):  # type: ignore[misc, unused-ignore]
        """The library's own attention, projections and adapters included, with its core recomputed."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with RecomputedCore():
                return super().__call__(*args, **kwargs)

    return RecomputingProcessor

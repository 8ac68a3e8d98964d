"""The Python side of the emulated device: what C++ would not see, or would take for the CPU's."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from tests.emulated.attention import attend
from tests.emulated.moves import make, move, names_device
from tests.emulated.tensor import Computer, DeviceTensor

IN_FULL_PRECISION = {
    torch.nn.functional.layer_norm,
    torch.nn.functional.group_norm,
    torch.nn.functional.softmax,
    torch.nn.functional.mse_loss,
    torch.nn.functional.cosine_similarity,
    torch.nn.functional.interpolate,
    torch.softmax,
    torch.Tensor.softmax,
    torch.exp,
    torch.Tensor.exp,
    torch.pow,
    torch.Tensor.pow,
    torch.sum,
    torch.Tensor.sum,
    torch.norm,
    torch.Tensor.norm,
}
"""What autocast computes in fp32 on MPS and CUDA (AT_FORALL_FP32 of PyTorch's autocast_mode.h), and not on the CPU:
those of them that models of this kind use."""


class Frontend(TorchFunctionMode):
    """Within it, `mps` is a device."""

    def __init__(self, computer: Computer) -> None:
        super().__init__()
        self._computer = computer

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not args or not isinstance(args[0], DeviceTensor):
            return self._from_elsewhere(func, args, kwargs)
        if func is torch.Tensor.backward:
            assert not any(kwargs.values()), "the emulated device knows the plain loss.backward() alone"
            return self._run_backward(args[0])
        if func in (torch.Tensor.numpy, torch.Tensor.__array__):
            raise TypeError(
                "can't convert mps:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory "
                "first."
            )
        if func is torch.Tensor.tolist:
            self._computer.waits += 1
            return args[0].inner.tolist()
        if func is torch.nn.functional.scaled_dot_product_attention:
            return attend(self._computer, args, kwargs)
        if func in IN_FULL_PRECISION and torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map(_in_full, (args, kwargs))
        return self._from_elsewhere(func, args, kwargs)

    def _from_elsewhere(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func is torch.Tensor.cpu:
            func, args = torch.Tensor.to, (args[0], "cpu")
        if func is torch.Tensor.to and names_device((args, kwargs)):
            return move(self._computer, args[0], args[1:], kwargs)
        if "device" in kwargs and names_device((args, kwargs)):
            return make(func, args, kwargs)
        return func(*args, **kwargs)

    def _run_backward(self, loss: torch.Tensor) -> None:
        """As torch.autograd.backward does, but within a mode: what is computed again is on the device, too."""
        with Frontend(self._computer):
            torch.autograd.graph._engine_run_backward(
                (loss,), (loss.new_ones(()),), False, False, (), allow_unreachable=True, accumulate_grad=True
            )


def _in_full(value: Any) -> Any:
    is_half = isinstance(value, DeviceTensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if is_half else value

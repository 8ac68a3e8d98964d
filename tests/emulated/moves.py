"""Copies between the processor and the emulated device, and what is made on the device from the start."""

from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from tests.emulated.tensor import UNKNOWN_DTYPES, Computer, DeviceTensor, on_device

KINDS = ("mps", "cpu", "cuda", "meta")


def names_device(inputs: Any) -> bool:
    """Whether anything in a call lies on the device, or is to."""
    return any(_kind(value) == "mps" for value in tree_flatten(inputs)[0])


def move(computer: Computer, tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """`tensor.to(*args, **kwargs)`.

    A copy to the CPU in another dtype is converted on the device, where it comes from
    (aten/src/ATen/native/mps/operations/Copy.mm); one to the device, on the CPU.
    """
    args = tuple(part for value in args for part in _like(value))
    wanted = next((kind for value in (*args, kwargs.get("device")) if (kind := _kind(value))), None)
    dtype = next((value for value in (*args, kwargs.get("dtype")) if isinstance(value, torch.dtype)), tensor.dtype)
    is_here = isinstance(tensor, DeviceTensor)
    if wanted is None or (wanted == "mps") == is_here:
        copy = kwargs.get("copy", [value for value in args if isinstance(value, bool)][1:2] == [True])
        return torch.Tensor.to(tensor, dtype, copy=copy)
    if is_here and dtype in UNKNOWN_DTYPES:
        raise TypeError(UNKNOWN_DTYPES[dtype])
    if dtype != tensor.dtype:
        tensor = torch.Tensor.to(tensor, dtype)
    computer.waits += is_here
    return _cross(tensor)


def _like(value: Any) -> tuple[Any, ...]:
    """`to(other)` means other's device and dtype."""
    return (_kind(value), value.dtype) if isinstance(value, torch.Tensor) else (value,)


def make(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a factory returns, on the device that it was asked for."""
    kind = _kind(kwargs["device"])
    if kind == "mps" and isinstance(kwargs.get("generator"), torch.Generator):
        raise RuntimeError("Expected a 'mps' device type for generator but found 'cpu'")
    made = func(*args, **{name: value for name, value in kwargs.items() if name not in ("device", "pin_memory")})
    return made if kind is None or isinstance(made, DeviceTensor) == (kind == "mps") else _cross(made)


def _cross(tensor: torch.Tensor) -> torch.Tensor:
    return _ToHost.apply(tensor) if isinstance(tensor, DeviceTensor) else _ToDevice.apply(tensor)


class _ToDevice(torch.autograd.Function):
    """A differentiable copy from the CPU to the device."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        return on_device(tensor.detach().clone())

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad.inner.clone()


class _ToHost(torch.autograd.Function):
    """A differentiable copy from the device to the CPU."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.inner.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return on_device(grad.clone())


def _kind(value: Any) -> str | None:
    """The kind of device that an argument names or lies on; None: it names none."""
    if isinstance(value, DeviceTensor):
        return "mps"
    if isinstance(value, torch.device):
        return value.type
    if isinstance(value, torch.Tensor):
        return "cpu" if value.is_cpu else "meta"
    if isinstance(value, str) and value.partition(":")[0] in KINDS:
        return value.partition(":")[0]
    return None

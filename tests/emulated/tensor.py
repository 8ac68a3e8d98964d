"""Tensors that say they are on MPS, and compute on the CPU as the device's rules allow.

C++ is told that they lie on the CPU, since a build of PyTorch without MPS has no such device; so what asks for the
device from there (moves, factories, autocast) is caught before it arrives there: `tests.emulated.frontend`.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

from tests.emulated.faults import Call, Faults, Phase
from tests.emulated.kernels import has_kernel

MPS = torch.device("mps", 0)
UNKNOWN_DTYPES = {
    torch.float64: "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
    "Please use float32 instead.",
    torch.complex128: "Trying to convert ComplexDouble to the MPS backend but it does not have support for that dtype.",
}
COPIES = {"_to_copy", "copy_", "_copy_from", "_copy_from_and_resize"}
"""Operators that may have inputs on two devices."""
TAKE_INDICES = {"index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"}
"""Operators whose indices may lie on the CPU."""
LISTS = {"cat", "stack"}
"""Operators that take no number of the CPU's among tensors of the device."""
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}


class DeviceTensor(torch.Tensor):
    """A tensor on the emulated device; `inner` holds its values."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "DeviceTensor":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device="cpu",
        )
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: MPS)
    is_mps = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def untyped_storage(self) -> torch.UntypedStorage:
        """What tells savers which tensors share their memory."""
        return self.inner.untyped_storage()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        return computer().compute(func, args, kwargs or {})

    def __repr__(self, *, tensor_contents: str | None = None) -> str:
        return f"mps({self.inner!r})"


@dataclass(frozen=True)
class Product:
    """A product of matrices m×k and k×n."""

    m: int
    k: int
    n: int


class Computer:
    """What the device computes with, and what was asked of it."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.calls: Counter[str] = Counter()
        """How often each operator ran."""
        self.waits = 0
        """How often the processor waited for a value of the device's."""
        self.products: set[Product] = set()
        """The matrix products that were computed, of batched ones one of the batch; and the gradients of convolutions'
        weights, which sum over samples and pixels."""

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What an operator returns for inputs of which at least one is on the device.

        Raises:
            TypeError, RuntimeError, NotImplementedError: as PyTorch does on MPS.
        """
        operator = _name(func)
        on_device, elsewhere, generators = _sorted(args, kwargs)
        if generators:
            raise RuntimeError(f"Expected a 'mps' device type for generator but found 'cpu' ({operator})")
        if operator not in COPIES:
            _require_one_device(operator, args, elsewhere)
        call = Call(operator, tuple(x.dtype for x in on_device), tuple(tuple(x.shape) for x in on_device), _phase())
        return self.perform(call, func, args, kwargs)

    def perform(self, call: Call, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute on the CPU, with the faults that are planted for this call; the result is on the device."""
        faults = self.faults.concerning(call)
        if not has_kernel(call.operator) or any(fault.change is None for fault in faults):
            for fault in faults:
                fault.count += 1
            raise NotImplementedError(
                f"The operator 'aten::{call.operator}' is not currently implemented for the MPS device."
            )
        self._note(call, args)
        inner_args, inner_kwargs = tree_map(_values, (args, kwargs))
        result = func(*inner_args, **inner_kwargs)
        if call.operator == "copy_" and not isinstance(args[0], DeviceTensor):
            _require_known(args[0])
            self.waits += 1
            return args[0]
        for fault in faults:
            fault.count += 1
            _spoil(fault.change, func, args, inner_args, result)
        return self._on_device(func, (args, kwargs), result)

    def _note(self, call: Call, inputs: tuple[Any, ...]) -> None:
        self.calls[call.operator] += 1
        self.waits += call.operator == "_local_scalar_dense"
        if call.name in PRODUCTS and len(call.shapes) >= 2:
            left, right = call.shapes[-2:]
            self.products.add(Product(left[-2], left[-1], right[-1]))
        if call.name == "convolution_backward" and inputs[10][1]:  # the gradient of the weight
            (samples, outputs, *pixels), _, (_, *kernel) = call.shapes[:3]
            self.products.add(Product(outputs, samples * math.prod(pixels), math.prod(kernel)))

    @staticmethod
    def _on_device(func: Any, inputs: Any, result: Any) -> Any:
        """Results as tensors on the device: the very inputs, where the operator changed them in place."""
        inputs_by_values = {}
        if func._schema.is_mutable:
            inputs_by_values = {id(x.inner): x for x in tree_flatten(inputs)[0] if isinstance(x, DeviceTensor)}
            for x in inputs_by_values.values():
                assert x.inner.shape == x.shape, f"the emulated device can't change a tensor's shape in place: {func}"

        def wrapped(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            return inputs_by_values[id(value)] if id(value) in inputs_by_values else on_device(value)

        return tree_map(wrapped, result)


_computer: Computer | None = None


def computer() -> Computer:
    """The device that is there now."""
    assert _computer is not None, "a tensor outlived the emulated device"
    return _computer


def set_computer(one: Computer | None) -> None:
    """Put a device into this process, or take it away."""
    global _computer  # noqa: PLW0603 - PyTorch asks a class for its device, not an object
    _computer = one


def on_device(values: torch.Tensor) -> DeviceTensor:
    """A tensor on the device with these values, which become its own.

    Raises:
        TypeError: it has no such dtype.
    """
    if isinstance(values, DeviceTensor):
        return values
    _require_known(values)
    return DeviceTensor(values)


def _require_known(values: torch.Tensor) -> None:
    if values.dtype in UNKNOWN_DTYPES:
        raise TypeError(UNKNOWN_DTYPES[values.dtype])


@cache
def _name(func: Any) -> str:
    name = func._schema.name.partition("::")[2]
    return name if func._overloadname == "default" else f"{name}.{func._overloadname}"


def _sorted(*inputs: Any) -> tuple[list[DeviceTensor], list[torch.Tensor], list[torch.Generator]]:
    """Tensors on the device, tensors elsewhere, and generators, which are all elsewhere."""
    flat = tree_flatten(inputs)[0]
    tensors = [x for x in flat if isinstance(x, torch.Tensor)]
    return (
        [x for x in tensors if isinstance(x, DeviceTensor)],
        [x for x in tensors if not isinstance(x, DeviceTensor)],
        [x for x in flat if isinstance(x, torch.Generator)],
    )


def _require_one_device(operator: str, args: tuple[Any, ...], elsewhere: list[torch.Tensor]) -> None:
    """Numbers (tensors without dimensions) may be on the CPU where PyTorch takes a number, and indices."""
    name = operator.partition(".")[0]
    if name in TAKE_INDICES and isinstance(args[0], DeviceTensor):
        return
    if any(x.dim() or name in LISTS for x in elsewhere):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, mps:0 and cpu! "
            f"({operator})"
        )


def _phase() -> Phase:
    if torch.is_grad_enabled():
        return "forward"
    return "no_grad" if torch._C._current_autograd_node() is None else "backward"


def _values(x: Any) -> Any:
    return x.inner if isinstance(x, DeviceTensor) else x


def _spoil(change: Any, func: Any, args: tuple[Any, ...], inner_args: Any, result: Any) -> None:
    """Put wrong values into what an operator returned, or into what it changed."""
    returned = [x for x in tree_flatten(result)[0] if isinstance(x, torch.Tensor)]
    for values in returned or list(_written(func, args, inner_args)):
        if values.is_floating_point():
            values.copy_(change(values.clone()))


def _written(func: Any, args: tuple[Any, ...], inner_args: Any) -> Iterator[torch.Tensor]:
    """Inputs that an operator without a result writes to: AdamW's parameters and moments."""
    for argument, value in zip(func._schema.arguments, inner_args, strict=False):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from (x for x in tree_flatten(value)[0] if isinstance(x, torch.Tensor))

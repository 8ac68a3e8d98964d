"""Faults that a test plants in the emulated device: what computes wrong there, or does not compute at all."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch

Phase = Literal["forward", "backward", "no_grad"]
"""Autograd records the call (as in a training's forward pass), it belongs to a gradient, or neither."""
Change = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Call:
    """One operator on the device, while it runs."""

    operator: str
    """As PyTorch's table names it: `mm`, `add.Tensor`."""
    dtypes: tuple[torch.dtype, ...]
    """Of its inputs on the device."""
    shapes: tuple[tuple[int, ...], ...]
    """The same."""
    phase: Phase

    @property
    def name(self) -> str:
        """Without the overload and the mark of an in-place form: `add_.Tensor` is `add`."""
        return self.operator.partition(".")[0].rstrip("_")

    def within(self, *functions: str) -> bool:
        """Whether one of these functions (`AutoencoderKL.encode`, or only `encode`) is on Python's stack now."""
        return any(_is_named(name, functions) for name in _stack())


def _is_named(name: str, functions: tuple[str, ...]) -> bool:
    return any(name == function or name.endswith(f".{function}") for function in functions)


def _stack() -> Iterator[str]:
    frame = sys._getframe(1)
    while frame is not None:
        yield frame.f_code.co_qualname
        frame = frame.f_back


@dataclass
class Fault:
    """One thing that is wrong with the device."""

    operators: tuple[str, ...]
    """With or without their overload: `mm`, `add.Tensor`; in-place forms are meant, too."""
    change: Change | None
    """What it makes of a result; None: there is no such kernel."""
    when: Callable[[Call], bool] = lambda call: True
    count: int = field(default=0, compare=False)
    """How often it came to pass."""

    def concerns(self, call: Call) -> bool:
        """Whether this call is the one that goes wrong."""
        return bool({call.operator, call.name} & set(self.operators)) and self.when(call)


def wrong(*operators: str, change: Change | None = None, when: Callable[[Call], bool] = lambda call: True) -> Fault:
    """A kernel that computes wrong values: a quarter too much, unless `change` says otherwise."""
    return Fault(operators, change or (lambda result: result * 1.25), when)


def missing(*operators: str, when: Callable[[Call], bool] = lambda call: True) -> Fault:
    """A kernel that is not there."""
    return Fault(operators, None, when)


def within(*functions: str) -> Callable[[Call], bool]:
    """Only what is called from one of these functions, however deep."""
    return lambda call: call.within(*functions)


def in_phase(*phases: Phase) -> Callable[[Call], bool]:
    """Only with, for or without gradients."""
    return lambda call: call.phase in phases


def in_dtype(*dtypes: torch.dtype) -> Callable[[Call], bool]:
    """Only where all inputs on the device have one of these dtypes."""
    return lambda call: set(call.dtypes) <= set(dtypes)


def every(*conditions: Callable[[Call], bool]) -> Callable[[Call], bool]:
    """All of these."""
    return lambda call: all(condition(call) for condition in conditions)


class Faults:
    """What is wrong with a device now."""

    def __init__(self) -> None:
        self._planted: list[Fault] = []

    def plant(self, *faults: Fault) -> AbstractContextManager[None]:
        """These faults, inside the block."""
        return self._plant(faults)

    @contextmanager
    def _plant(self, faults: tuple[Fault, ...]) -> Iterator[None]:
        self._planted += faults
        try:
            yield
        finally:
            for fault in faults:
                self._planted.remove(fault)

    def concerning(self, call: Call) -> list[Fault]:
        """Those that make this call go wrong."""
        return [fault for fault in self._planted if fault.concerns(call)]

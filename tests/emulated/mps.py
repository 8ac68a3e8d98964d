"""An MPS device for machines without one: `with emulated_mps() as device:`.

Tensors say that they are on MPS, compute on the CPU, and refuse what MPS refuses: float64, operators without a kernel
there by PyTorch's own table, inputs on two devices, generators of the CPU, `.numpy()`. Faults are planted by
`device.faults.plant(...)` (`tests.emulated.faults`). All that is changed in the process is changed back.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import psutil
import pytest
import torch

from tests.emulated.frontend import Frontend
from tests.emulated.tensor import Computer, set_computer

M2_MAX = {
    "machdep.cpu.brand_string": "Apple M2 Max",
    "hw.perflevel0.physicalcpu": "8",
    "hw.optional.arm.FEAT_BF16": "1",
    "iogpu.wired_limit_mb": "0",
}
"""What macOS's sysctl says of the machine."""


@contextmanager
def emulated_mps(machine: dict[str, str] | None = None, *, macos: str = "15.5") -> Iterator[Computer]:
    """A Mac's GPU in this process while the block runs; this thread and those that it starts can use it.

    Args:
        machine: what sysctl says; an M2 Max's answers where there are none.
        macos: version of the system.
    """
    computer = Computer()
    with pytest.MonkeyPatch.context() as patch:
        _patch_torch(patch)
        _patch_facts(patch, {**M2_MAX, **(machine or {})}, macos)
        _patch_threads(patch, computer)
        replaces_parameters = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        set_computer(computer)
        try:
            with Frontend(computer):
                yield computer
        finally:
            set_computer(None)
            torch.__future__.set_overwrite_module_params_on_conversion(replaces_parameters)


class Event:
    """torch.mps.Event of a device that has nothing in its queue."""

    def __init__(self, enable_timing: bool = False) -> None:
        self._can_time, self._seconds = enable_timing, 0.0

    def record(self) -> None:
        self._seconds = time.perf_counter()

    def wait(self) -> None:
        """Nothing is left to wait for."""

    def synchronize(self) -> None:
        """The same."""

    def query(self) -> bool:
        return True

    def elapsed_time(self, end_event: "Event") -> float:
        """Milliseconds from this event to a later one.

        Raises:
            RuntimeError: as PyTorch's does.
        """
        if not (self._can_time and end_event._can_time):
            raise RuntimeError("Events were not created with argument 'enable_timing=True'")
        if not 0 < self._seconds <= end_event._seconds:
            raise RuntimeError("End event was not recorded after start event")
        return (end_event._seconds - self._seconds) * 1000


def _patch_torch(patch: pytest.MonkeyPatch) -> None:
    def held() -> int:
        return psutil.Process().memory_info().rss

    patch.setattr(torch.backends.mps, "is_available", lambda: True)
    patch.setattr(torch.backends.mps, "is_built", lambda: True)
    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "driver_allocated_memory": held,
        "current_allocated_memory": held,
        "recommended_max_memory": lambda: psutil.virtual_memory().total * 2 // 3,
        "empty_cache": lambda: None,
        "synchronize": lambda: None,
        "manual_seed": lambda seed: None,
        "seed": lambda: None,
        "Event": Event,
    }.items():
        patch.setattr(torch.mps, name, value)
    patch.setattr(torch, "inference_mode", _without_gradients)
    patch.setattr(torch._C, "_group_tensors_by_device_and_dtype", _grouped)
    _patch_autocast(patch)


def _without_gradients(mode: bool = True) -> AbstractContextManager[object]:
    """PyTorch's inference mode does not look into tensors that hold others; what it forbids, the CPU forbids too."""
    return torch.no_grad() if mode else nullcontext()


_group = torch._C._group_tensors_by_device_and_dtype


def _grouped(lists: list[list[Any]], with_indices: bool = False) -> dict[tuple[torch.device, torch.dtype], Any]:
    """C++ takes the device's tensors for the CPU's; lists of both are not grouped here."""
    here = next(iter(lists[0])).device
    return {(here, dtype): group for (_, dtype), group in _group(lists, with_indices).items()}


def _patch_autocast(patch: pytest.MonkeyPatch) -> None:
    """C++ takes the device's tensors for the CPU's: autocast of the one is autocast of the other."""
    autocast = torch.amp.autocast_mode.autocast
    make = autocast.__init__

    def make_for_device(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        make(self, device_type, *args, **kwargs)
        if device_type == "mps":
            self.device = "cpu"

    is_on, dtype_of = torch.is_autocast_enabled, torch.get_autocast_dtype

    def dtype_for_device(device_type: str) -> torch.dtype:
        return dtype_of("cpu" if device_type == "mps" and is_on("cpu") else device_type)

    patch.setattr(autocast, "__init__", make_for_device)
    patch.setattr(torch, "is_autocast_enabled", lambda kind: is_on("cpu" if kind == "mps" else kind))
    patch.setattr(torch, "get_autocast_dtype", dtype_for_device)


def _patch_facts(patch: pytest.MonkeyPatch, machine: dict[str, str], macos: str) -> None:
    from shoes.device import facts

    patch.setattr(facts, "_sysctl", lambda name: machine.get(name, ""))
    patch.setattr(facts.platform, "mac_ver", lambda *args, **kwargs: (macos, ("", "", ""), "arm64"))


def _patch_threads(patch: pytest.MonkeyPatch, computer: Computer) -> None:
    run = threading.Thread.run

    def run_with_device(self: threading.Thread) -> None:
        with Frontend(computer):
            run(self)

    patch.setattr(threading.Thread, "run", run_with_device)

"""The machine: Python and platform, memory, power and sleep."""

import platform
import sys

from shoes.environment.check import Finding, Situation
from shoes.environment.packages import is_installed
from shoes.environment.power import power_finding, read_power
from shoes.environment.recommendation import memory_finding
from shoes.language import gettext as _


def python(situation: Situation) -> Finding:
    """Version, place and platform."""
    del situation
    detail = f"{platform.python_version()}, {sys.executable}\n{platform.platform()}, {platform.machine()}"
    return python_finding(sys.version_info[:2], platform.system(), platform.machine(), detail)


def python_finding(version: tuple[int, int], system: str, processor: str, detail: str) -> Finding:
    """The oldest version that will do, and the mistake that costs a Mac its GPU: a Python for Intel."""
    if version < (3, 11):
        return Finding("ERROR", detail, _("install Python 3.11 or newer and run `make setup` again"))
    if system == "Darwin" and processor == "x86_64":
        fix = _("on Apple Silicon install a Python for arm64: one for Intel runs translated and can't use the GPU")
        return Finding("WARN", detail, fix)
    return Finding("OK", detail)


def memory(situation: Situation) -> Finding:
    """Available memory by the seed's thresholds, and a configuration for it."""
    import psutil

    found = psutil.virtual_memory()
    spec = situation.recipe.train
    graphics = _free_graphics_memory() if spec.device in ("auto", "cuda") else None
    return memory_finding(found.available, found.total, spec, graphics_bytes=graphics)


def _free_graphics_memory() -> int | None:
    """Free memory of the CUDA device, where there is one."""
    if not is_installed("torch"):
        return None
    import torch

    return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else None


def power(situation: Situation) -> Finding:
    """Will the machine stay awake for a night?"""
    del situation
    found = read_power()
    if found is None:
        return Finding("INFO", _("not macOS: see to it yourself that the machine does not sleep during the night"))
    return power_finding(found)

"""What devices can do at most in dense matrix products, by what their makers say. Pure, but for the cores of a Mac.

NVIDIA: data sheets, dense (without sparsity), half precision with sums in fp32. Apple names no such figure: GPU cores
× 128 lanes × 2 operations × clock, which gives the 2.6 and 10.4 TFLOP/s that Apple named for the M1 and M1 Max; half
precision is no faster there. The M5's cores have matrix units besides, for which there is no figure.
"""

import platform
import re
import subprocess
from dataclasses import dataclass

HALF_TFLOPS = (
    (r"B200\b", 2250.0),
    (r"GH200|H200 NVL", None),
    (r"H200", 989.0),
    (r"H100.*PCIe", 756.0),
    (r"H100 NVL", 835.0),
    (r"H100", 989.0),
    (r"A100", 312.0),
    (r"A30\b", 165.0),
    (r"A10\b", 125.0),
    (r"L40S", 362.0),
    (r"L40\b", 181.0),
    (r"L4\b", 121.0),
    (r"RTX 5090\b(?! Laptop)", 209.5),
    (r"RTX 4090\b(?! Laptop)", 165.2),
    (r"RTX 4080\b(?! Laptop| SUPER)", 97.5),
    (r"RTX 3090\b(?! Ti)", 71.0),
)
"""CUDA devices by name, the first that fits; bf16 and fp16 alike."""
APPLE_GIGAHERTZ = {1: 1.278, 2: 1.398, 3: 1.38, 4: 1.578}
"""GPU clock by generation of the chip."""
APPLE_LANES = 128


@dataclass(frozen=True)
class Peak:
    """Most of a device, in TFLOP/s, or why there is no figure."""

    tflops: float | None
    reason: str

    @property
    def in_words(self) -> str:
        return f"{self.tflops:.4g} TFLOP/s" if self.tflops else "not known"


def peak_of(device: str, name: str, precision: str) -> Peak:
    """The peak of this machine's device in a precision (no, bf16, fp16)."""
    cores = apple_gpu_cores() if device == "mps" else None
    return peak(device, name, precision, gpu_cores=cores)


def peak(device: str, name: str, precision: str, *, gpu_cores: int | None = None) -> Peak:
    """The peak of a device by its name.

    Args:
        gpu_cores: of an Apple chip; the same chip is sold with several numbers of them.
    """
    if device == "cuda":
        return _nvidia(name, precision)
    if device == "mps":
        return _apple(name, precision, gpu_cores)
    return Peak(None, "a processor's depends on its clock and its units: no model FLOP utilisation")


def _nvidia(name: str, precision: str) -> Peak:
    if precision == "no":
        return Peak(None, "in fp32 convolutions are TF32 and the rest is not: no model FLOP utilisation")
    found = next((tflops for pattern, tflops in HALF_TFLOPS if re.search(pattern, name)), None)
    if found is None:
        return Peak(None, f"{name} is not in the table of benchmarks/device/peaks.py: no model FLOP utilisation")
    return Peak(found, "dense, half precision, by NVIDIA's data sheet")


def _apple(name: str, precision: str, gpu_cores: int | None) -> Peak:
    generation = re.search(r"Apple M(\d+)", name)
    clock = APPLE_GIGAHERTZ.get(int(generation[1])) if generation else None
    if clock is None or not gpu_cores:
        what = "number of GPU cores" if clock else "GPU clock"
        return Peak(None, f"the {what} of {name} is not known: no model FLOP utilisation")
    if precision == "bf16" and int(generation[1]) < 3:  # type: ignore[index]
        return Peak(None, "before the M3 bf16 is computed by other instructions: no model FLOP utilisation")
    return Peak(round(gpu_cores * APPLE_LANES * 2 * clock / 1000, 1), f"{gpu_cores} GPU cores at {clock} GHz")


def apple_gpu_cores() -> int | None:
    """Cores of this Mac's GPU."""
    if platform.system() != "Darwin":
        return None
    command = ["/usr/sbin/ioreg", "-rc", "AGXAccelerator", "-d", "1"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'"gpu-core-count"\s*=\s*(\d+)', told)
    return int(found[1]) if found else None

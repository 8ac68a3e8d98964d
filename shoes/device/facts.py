"""Measured facts about this machine. Nothing else in the project asks it what it is."""

import os
import platform
import re
import subprocess

from shoes.reports import Report

HIGH_WATERMARK = "PYTORCH_MPS_HIGH_WATERMARK_RATIO"
LOW_WATERMARK = "PYTORCH_MPS_LOW_WATERMARK_RATIO"
GIGABYTE = 1024**3


class DeviceFacts(Report):
    """What was found on this machine."""

    device_name: str = ""
    """Name of the accelerator if there is one, else of the processor: Apple M2 Max, NVIDIA L4."""
    torch_version: str = "2.13.0"
    system: str = "Linux"
    """Linux, Darwin (which is macOS) or Windows."""
    macos_version: str = ""
    """Version of macOS, 14.5 say; empty elsewhere."""
    cuda: bool = False
    cuda_capability: tuple[int, int] = (0, 0)
    """Compute capability of the CUDA device."""
    num_gpus: int = 0
    """CUDA devices."""
    mps: bool = False
    """PyTorch can compute on Apple's GPU here."""
    mps_built: bool = False
    """This build of PyTorch knows MPS, whether or not the system offers it."""
    total_memory_bytes: int = 0
    """The machine's memory; on Apple Silicon the GPU shares it."""
    device_memory_bytes: int = 0
    """What the accelerator can use: all of a CUDA device, the working set that Metal recommends; else 0."""
    num_cores: int = 1
    """Processor cores: physical ones, and on Apple Silicon the performance cores only."""
    num_threads: int = 1
    """Threads that PyTorch computes with on the CPU."""
    cpu_bf16: bool = False
    """The processor has instructions for bf16."""
    watermarks: tuple[str, str] = ("", "")
    """The two MPS watermark ratios (high, low) as the environment has them; empty where it has none."""

    @property
    def cuda_bf16(self) -> bool:
        """The CUDA device computes bf16 natively (compute capability 8.0 or later)."""
        return self.cuda and self.cuda_capability >= (8, 0)

    @property
    def apple_generation(self) -> int:
        """2 for an Apple M2 or M2 Max; 0 when it is no Apple chip."""
        found = re.search(r"Apple M(\d+)", self.device_name)
        return int(found[1]) if found else 0


def measure() -> DeviceFacts:
    """Facts of this machine. Loads torch, and takes no memory on the accelerator."""
    import psutil
    import torch

    cuda = torch.cuda.is_available()
    total = psutil.virtual_memory().total
    mps = not cuda and torch.backends.mps.is_available()
    return DeviceFacts(
        device_name=torch.cuda.get_device_name() if cuda else _processor_name(),
        torch_version=str(torch.__version__),
        system=platform.system(),
        macos_version=platform.mac_ver()[0],
        cuda=cuda,
        cuda_capability=torch.cuda.get_device_capability() if cuda else (0, 0),
        num_gpus=torch.cuda.device_count() if cuda else 0,
        mps=torch.backends.mps.is_available(),
        mps_built=torch.backends.mps.is_built(),
        total_memory_bytes=total,
        device_memory_bytes=_cuda_memory() if cuda else _metal_working_set(total) if mps else 0,
        num_cores=_num_cores(),
        num_threads=torch.get_num_threads(),
        cpu_bf16=_has_bf16_instructions(),
        watermarks=(os.environ.get(HIGH_WATERMARK, ""), os.environ.get(LOW_WATERMARK, "")),
    )


def recommended_working_set(total_bytes: int) -> int:
    """Metal's recommendedMaxWorkingSetSize by a Mac's memory: two thirds up to 32 GB, three quarters above.

    These are macOS's defaults. `torch.mps.recommended_max_memory()` would give the number itself, but asking it
    starts PyTorch's allocator, which reads its watermark ratios once: they have to be set before.
    """
    return total_bytes * 2 // 3 if total_bytes <= 32 * GIGABYTE else total_bytes * 3 // 4


def _metal_working_set(total: int) -> int:
    """What the person set it to, else macOS's default."""
    megabytes = _sysctl("iogpu.wired_limit_mb")
    chosen = int(megabytes) * 1024**2 if megabytes.isdigit() else 0
    return chosen or recommended_working_set(total)


def _cuda_memory() -> int:
    import torch

    return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)


def _has_bf16_instructions() -> bool:
    import torch

    if platform.system() == "Darwin":
        return _sysctl("hw.optional.arm.FEAT_BF16") == "1"
    ask = getattr(torch.cpu, "get_capabilities", None)  # PyTorch 2.8 to 2.10 don't know
    capabilities = ask() if ask else {}
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _num_cores() -> int:
    import psutil

    performance = _sysctl("hw.perflevel0.physicalcpu")
    return int(performance) if performance.isdigit() else psutil.cpu_count(logical=False) or os.cpu_count() or 1


def _processor_name() -> str:
    if brand := _sysctl("machdep.cpu.brand_string"):
        return brand
    return f"{platform.machine()} processor ({platform.system()})"


def _sysctl(name: str) -> str:
    """A value of macOS's kernel; empty on other systems and where it is not known."""
    if platform.system() != "Darwin":
        return ""
    command = ["/usr/sbin/sysctl", "-n", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()

"""Which device and which precision: pure functions of measured facts, each with its reason."""

from typing import TYPE_CHECKING

from shoes.errors import ConfigurationError, Problem
from shoes.reports import Report
from shoes.spec import DeviceChoice, Precision

if TYPE_CHECKING:
    import torch


class DeviceFacts(Report):
    """What was found on this machine."""

    cuda: bool
    cuda_bf16: bool
    """The CUDA device computes bf16 natively (compute capability 8.0 or later)."""
    mps: bool
    device_name: str
    torch_version: str


class Decision(Report):
    """One choice and why it was made."""

    name: str
    value: str
    reason: str


def measure() -> DeviceFacts:
    """Facts of this machine. Loads torch."""
    import torch

    cuda = torch.cuda.is_available()
    return DeviceFacts(
        cuda=cuda,
        cuda_bf16=cuda and torch.cuda.get_device_capability()[0] >= 8,
        mps=torch.backends.mps.is_available(),
        device_name=torch.cuda.get_device_name() if cuda else _processor_name(),
        torch_version=str(torch.__version__),
    )


def choose_device(wanted: DeviceChoice, facts: DeviceFacts) -> Decision:
    """The device to train on.

    Raises:
        ConfigurationError: a device is asked for that this machine lacks.
    """
    if wanted == "auto":
        found = "cuda" if facts.cuda else "mps" if facts.mps else "cpu"
        return Decision(name="device", value=found, reason=f"fastest device found: {facts.device_name}")
    if (wanted == "cuda" and not facts.cuda) or (wanted == "mps" and not facts.mps):
        fix = "use --train.device auto, or install a PyTorch build for it"
        raise ConfigurationError(
            [Problem("train.device", f"PyTorch {facts.torch_version} finds no {wanted} device here", fix)]
        )
    return Decision(name="device", value=wanted, reason="asked for")


def choose_precision(wanted: Precision, device: str, facts: DeviceFacts) -> Decision:
    """Precision of the frozen weights; the adapter's weights and the optimizer stay in fp32."""
    if wanted != "auto":
        return Decision(name="precision", value=wanted, reason="asked for")
    if device == "cuda":
        if facts.cuda_bf16:
            return Decision(name="precision", value="bf16", reason="this GPU computes bf16 natively")
        return Decision(name="precision", value="no", reason="this GPU has no native bf16; fp16 may overflow")
    reason = {
        "mps": "fp16 on MPS has given NaN and black images; fp32 is the precision known to be right",
        "cpu": "fp32 is exact and, for small models, as fast",
    }[device]
    return Decision(name="precision", value="no", reason=reason)


def torch_dtype(precision: str) -> "torch.dtype":
    """The dtype of a precision's frozen weights."""
    import torch

    return {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]


def _processor_name() -> str:
    import platform

    return f"{platform.machine()} processor ({platform.system()})"

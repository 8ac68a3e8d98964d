"""Which device, precision and ways of saving memory: pure functions of measured facts, each with its reason."""

import math
from typing import TYPE_CHECKING, get_args

from shoes.device.estimate import keeps_scores, training_bytes
from shoes.device.facts import GIGABYTE, HIGH_WATERMARK, LOW_WATERMARK, DeviceFacts
from shoes.device.memory import watermark_ratios
from shoes.errors import ConfigurationError, Problem
from shoes.language import gettext as _
from shoes.language import number
from shoes.reports import Report
from shoes.spec import Checkpointing, DeviceChoice, Precision, TrainSpec

if TYPE_CHECKING:
    import torch

MODES: tuple[Checkpointing, ...] = get_args(Checkpointing)
"""Gradient checkpointing, cheapest in time first; each needs no more memory than the one before."""
LARGEST_REDUCTION = 32_766
"""Products of matrices that sum over more than this are wrong on M1 and M2 (pytorch#195163, #193487, #177116)."""
LAST_WRONG_GENERATION = 3
"""Apple's chips up to which such products are not made: M1 and M2 are known to be wrong, M4 to be right."""
HALF_ATTENTION_TOKENS = 3068
"""Above so many tokens, attention in half precision loses accuracy on MPS."""


class Decision(Report):
    """One choice and why it was made."""

    name: str
    value: str
    reason: str


def decide(spec: TrainSpec, facts: DeviceFacts) -> tuple[Decision, ...]:
    """Everything that is decided by the device: device, precision, attention, products, checkpointing, optimizer,
    memory_limits, workers, compile and threads, in this order.

    Raises:
        ConfigurationError: the recipe asks for what this machine can't do; holds all the problems.
    """
    if found := problems(spec, facts):
        raise ConfigurationError(found)
    device = choose_device(spec.device, facts)
    precision = choose_precision(spec.mixed_precision, device.value, facts)
    return (
        device,
        precision,
        choose_attention(device.value, precision.value, facts, resolution=spec.resolution),
        choose_products(device.value, facts),
        choose_checkpointing(spec, device.value, precision.value, facts),
        choose_optimizer(device.value),
        choose_memory_limits(device.value, facts),
        choose_workers(),
        choose_compile(device.value),
        choose_threads(facts),
    )


def problems(spec: TrainSpec, facts: DeviceFacts) -> list[Problem]:
    """All wishes of a recipe that this machine can't fulfil."""
    found = [_missing_device(spec.device, facts)]
    device = _resolve(spec.device, facts)
    if found == [None]:
        found += [_impossible_precision(spec.mixed_precision, device, facts), _too_many_devices(spec, device, facts)]
    return [problem for problem in found if problem is not None]


def choose_device(wanted: DeviceChoice, facts: DeviceFacts) -> Decision:
    """The device to train on.

    Raises:
        ConfigurationError: a device is asked for that this machine lacks.
    """
    if problem := _missing_device(wanted, facts):
        raise ConfigurationError([problem])
    if wanted != "auto":
        return Decision(name="device", value=wanted, reason=_("asked for"))
    reason = _("fastest device found: {name}").format(name=facts.device_name)
    return Decision(name="device", value=_resolve(wanted, facts), reason=reason)


def choose_precision(wanted: Precision, device: str, facts: DeviceFacts) -> Decision:
    """Precision of the frozen weights; the adapter's weights and the optimizer stay in fp32.

    Raises:
        ConfigurationError: a precision is asked for that the device can't train in.
    """
    if problem := _impossible_precision(wanted, device, facts):
        raise ConfigurationError([problem])
    if wanted != "auto":
        return Decision(name="precision", value=wanted, reason=_asked_precision(wanted, device, facts))
    value, reason = _automatic_precision(device, facts)
    return Decision(name="precision", value=value, reason=reason)


def choose_attention(device: str, precision: str, facts: DeviceFacts, *, resolution: int) -> Decision:
    """How attention is computed: always by PyTorch's scaled_dot_product_attention."""
    return Decision(name="attention", value="sdpa", reason=_attention_reason(device, precision, facts, resolution))


def choose_products(device: str, facts: DeviceFacts) -> Decision:
    """How products of matrices that sum over very many rows are made: `whole`, or in `parts`."""
    if largest_reduction(device, facts) is None:
        return Decision(name="products", value="whole", reason=_("this device sums over any number of rows at once"))
    reason = _(
        "the gradients of large micro-batches are summed in parts of at most {rows} rows: on M1 and M2 longer products "
        "of matrices are wrong with PyTorch 2.13, and slow or wrong with 2.14"
    )
    return Decision(name="products", value="parts", reason=reason.format(rows=number(LARGEST_REDUCTION, 0)))


def largest_reduction(device: str, facts: DeviceFacts) -> int | None:
    """Over how many rows a product of matrices may sum at once; None: over any number.

    A property of the chip: PyTorch 2.14 takes other kernels for products of two matrices, which are several times
    slower and are not taken at 32,767 and 32,768, and none for batches of them.
    """
    is_right = device != "mps" or facts.apple_generation > LAST_WRONG_GENERATION
    return None if is_right else LARGEST_REDUCTION


def too_large_picture(device: str, facts: DeviceFacts, resolution: int) -> Problem | None:
    """Why a device can't draw pictures of `resolution` pixels: attention sums over all tokens of a picture."""
    largest = largest_reduction(device, facts)
    if largest is None or (resolution // 8) ** 2 <= largest:
        return None
    side = math.isqrt(largest) * 8
    name = facts.device_name or "this GPU"
    what = (
        f"attention over a picture of {resolution} px may come out wrong on {name}: its products of matrices are right"
    )
    return Problem(
        "resolution",
        f"{what} up to {largest:,} tokens, which is {side} px",
        f"use {side} or less, or --train.device cpu",
    )


def choose_checkpointing(spec: TrainSpec, device: str, precision: str, facts: DeviceFacts) -> Decision:
    """What the backward pass computes again; on `auto` the cheapest that fits by the estimate for SD 1.5."""
    if spec.gradient_checkpointing != "auto":
        return Decision(name="checkpointing", value=spec.gradient_checkpointing, reason=_("asked for"))
    room = memory_room(device, facts)
    needs = {mode: training_bytes(spec, device, precision, checkpointing=mode) for mode in MODES}
    modes = checkpointing_modes(spec, device)
    fitting = [mode for mode in modes if needs[mode] <= room]
    value = fitting[0] if fitting else modes[-1]
    reason = _checkpointing_reason(value, fits=bool(fitting))
    sizes = {str(mode): _gigabytes(size) for mode, size in needs.items()}
    words = reason.format(needed=sizes[value], room=_gigabytes(room), **sizes)
    return Decision(name="checkpointing", value=value, reason=words)


def checkpointing_modes(spec: TrainSpec, device: str) -> tuple[Checkpointing, ...]:
    """The modes of gradient checkpointing that are worth a thought, cheapest first: `attention` only where scores are
    kept, unless it is asked for."""
    useless = "attention" if not keeps_scores(device) and spec.gradient_checkpointing != "attention" else None
    return tuple(mode for mode in MODES if mode != useless)


def _checkpointing_reason(value: Checkpointing, *, fits: bool) -> str:
    if not fits:
        return _("even with it about {needed} are needed, and {room} are there: a smaller train_batch_size needs less")
    return {
        "off": _("without it Stable Diffusion 1.5 needs about {off}, and {room} are there"),
        "attention": _(
            "without it about {off} are needed, with the largest attention scores computed again {attention}, and "
            "{room} are there; it costs a tenth more time"
        ),
        "full": _("without it about {off} are needed, with it {full}, and {room} are there; it costs half more time"),
    }[value]


def choose_optimizer(device: str) -> Decision:
    """AdamW, as one kernel for all parameters (fused) on every device that PyTorch 2.13 has it for: all three."""
    reason = (
        _("one kernel for all parameters: several times faster than a loop over them on MPS")
        if device == "mps"
        else _("one kernel for all parameters, the fastest form of AdamW")
    )
    return Decision(name="optimizer", value="fused", reason=reason)


def choose_memory_limits(device: str, facts: DeviceFacts) -> Decision:
    """The MPS allocator's watermark ratios, as they stand in the environment; `none` on other devices."""
    if device != "mps":
        own = _("CUDA raises an error by itself when its memory is used up")
        reason = own if device == "cuda" else _("the CPU has the machine's own memory")
        return Decision(name="memory_limits", value="none", reason=reason)
    ours = tuple(str(ratio) for ratio in watermark_ratios(facts))
    given = facts.watermarks
    values = given if any(given) else ours
    value = " ".join(f"{n}={v}" for n, v in zip((HIGH_WATERMARK, LOW_WATERMARK), values, strict=True) if v)
    if any(given) and given != ours:
        return Decision(name="memory_limits", value=value, reason=_("set by you in the environment"))
    reason = _("an error at {limit} instead of a machine that swaps: PyTorch would take {default} of {total}")
    limit = float(ours[0]) * facts.device_memory_bytes
    sizes = {"limit": limit, "default": 1.7 * facts.device_memory_bytes, "total": facts.total_memory_bytes}
    words = {name: _gigabytes(size) for name, size in sizes.items()}
    return Decision(name="memory_limits", value=value, reason=reason.format(**words))


def choose_workers() -> Decision:
    """Processes that load data: none, whatever the device."""
    reason = _("latents and captions are encoded once and read from the disk's cache: nothing is left to load")
    return Decision(name="workers", value="0", reason=reason)


def choose_compile(device: str) -> Decision:
    """torch.compile: off, whatever the device."""
    reason = (
        _("torch.compile made training on MPS several times slower with PyTorch 2.13")
        if device == "mps"
        else _("it changes the bits of a resumed run whenever it compiles anew, and takes minutes first")
    )
    return Decision(name="compile", value="off", reason=reason)


def choose_threads(facts: DeviceFacts) -> Decision:
    """Threads of the CPU: what PyTorch has, pinned for the run."""
    reason = _("as PyTorch finds them, or as OMP_NUM_THREADS says; pinned, because sums depend on their number")
    return Decision(name="threads", value=str(facts.num_threads), reason=reason)


def safer_precisions(device: str, precision: str, facts: DeviceFacts) -> list[tuple[str, str]]:
    """What to fall back to when a device computes wrong: (device, precision), the next one first."""
    order = ["fp16", "bf16", "no"]
    later = order[order.index(precision) + 1 :]
    same_device = [(device, p) for p in later if p == "no" or _impossible_precision("bf16", device, facts) is None]
    return same_device if device == "cpu" else [*same_device, ("cpu", "no")]


def memory_room(device: str, facts: DeviceFacts) -> int:
    """Bytes that a training may take on a device, with something left for the system and the driver."""
    if device == "mps":
        return int(watermark_ratios(facts)[0] * facts.device_memory_bytes)
    if device == "cuda":
        return int(0.92 * facts.device_memory_bytes)
    return int(0.75 * facts.total_memory_bytes)


def precision_name(precision: str) -> str:
    """A precision as people call it: `no` is fp32."""
    return "fp32" if precision == "no" else precision


def torch_dtype(precision: str) -> "torch.dtype":
    """The dtype of a precision's frozen weights."""
    import torch

    return {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]


def _resolve(wanted: DeviceChoice, facts: DeviceFacts) -> str:
    return ("cuda" if facts.cuda else "mps" if facts.mps else "cpu") if wanted == "auto" else wanted


def _missing_device(wanted: DeviceChoice, facts: DeviceFacts) -> Problem | None:
    if not ((wanted == "cuda" and not facts.cuda) or (wanted == "mps" and not facts.mps)):
        return None
    fix = _("use --train.device auto, or install a PyTorch build for it")
    if wanted == "mps" and facts.mps_built:
        fix = _("use --train.device auto; MPS needs Apple Silicon and macOS 14 or later")
    what = _("PyTorch {version} finds no {device} device here").format(version=facts.torch_version, device=wanted)
    return Problem("train.device", what, fix)


def _impossible_precision(wanted: Precision, device: str, facts: DeviceFacts) -> Problem | None:
    what = ""
    if wanted == "fp16" and device == "cpu":
        what = _("fp16 on the CPU is slower than fp32 and overflows")
    elif wanted == "fp16" and device == "mps" and _version(facts.torch_version) < (2, 8):
        what = _("fp16 on MPS needs PyTorch 2.8 or later for its loss scaler; this is {version}")
    elif wanted == "bf16" and device == "mps" and _version(facts.torch_version) < (2, 6):
        what = _("bf16 on MPS needs PyTorch 2.6 or later; this is {version}")
    elif wanted == "bf16" and device == "mps" and _version(facts.macos_version) < (14,):
        what = _("bf16 on MPS needs macOS 14 or later; this is {macos}")
    if not what:
        return None
    fix = _("use --train.mixed_precision auto, or no for fp32")
    return Problem(
        "train.mixed_precision", what.format(version=facts.torch_version, macos=facts.macos_version or "?"), fix
    )


def _too_many_devices(spec: TrainSpec, device: str, facts: DeviceFacts) -> Problem | None:
    there = max(1, facts.num_gpus) if device == "cuda" else 1
    if device == "cpu" or spec.devices <= there:
        return None
    what = _("{wanted} devices are asked for, and there are {there} of the kind {device}")
    fix = _("use --train.devices {there}").format(there=there)
    return Problem("train.devices", what.format(wanted=spec.devices, there=there, device=device), fix)


def _automatic_precision(device: str, facts: DeviceFacts) -> tuple[str, str]:
    if device == "cuda" and facts.cuda_bf16:
        return "bf16", _("this GPU computes bf16 natively")
    if device == "cuda":
        return "no", _("this GPU has no native bf16; fp16 may overflow")
    if device == "mps":
        return "no", _("fp16 on MPS has given NaN and black images; fp32 is the precision known to be right")
    if facts.cpu_bf16:
        return "bf16", _("this processor has instructions for bf16: half the memory, and faster for large models")
    return "no", _("fp32 is exact, and this processor is not faster in bf16")


def _asked_precision(wanted: Precision, device: str, facts: DeviceFacts) -> str:
    emulated = {
        "cuda": not facts.cuda_bf16,
        "mps": 0 < facts.apple_generation < 3,
        "cpu": not facts.cpu_bf16,
    }[device]
    if wanted == "bf16" and emulated:
        return _("asked for; {name} has no native bf16, so it may be slower than fp32").format(name=facts.device_name)
    return _("asked for")


def _attention_reason(device: str, precision: str, facts: DeviceFacts, resolution: int) -> str:
    tokens = (resolution // 8) ** 2
    if device == "cuda":
        is_flash = precision != "no" and facts.cuda_bf16
        kernel = "FlashAttention" if is_flash else "memory-efficient attention"
        return _("PyTorch's own fused kernel ({kernel}): scores are never kept in memory").format(kernel=kernel)
    if device == "cpu":
        return _("PyTorch's own attention, in blocks: scores are never kept in memory")
    reason = _("PyTorch's own attention; never sliced: slicing on MPS reads memory that nobody wrote, and gives NaN")
    if precision != "no" and tokens > HALF_ATTENTION_TOKENS:
        caveat = _("with {tokens} tokens it loses accuracy in half precision: the parity check decides")
        return f"{reason}; {caveat.format(tokens=number(tokens, 0))}"
    return reason


def _version(text: str) -> tuple[int, ...]:
    """(2, 13) of 2.13.0+cpu; nothing at all is older than everything."""
    numbers = text.partition("+")[0].split(".")[:2]
    return tuple(int(part) for part in numbers if part.isdigit())


def _gigabytes(size: float) -> str:
    return f"{number(size / GIGABYTE)} GB"

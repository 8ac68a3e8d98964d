"""Memory: the seed's three thresholds, and the configuration that fits each."""

from dataclasses import dataclass
from typing import Literal

from shoes.environment.check import Finding, Status
from shoes.language import gettext as _
from shoes.language import number
from shoes.spec import TrainSpec

GIGABYTE = 1024**3


@dataclass(frozen=True)
class Recommendation:
    """Fields of a recipe for training Stable Diffusion 1.5 at 512 px; the effective batch stays the recipe's."""

    train_batch_size: int
    gradient_accumulation_steps: int
    gradient_checkpointing: Literal["full", "auto"]
    eval_batch_size: int

    def __str__(self) -> str:
        return ", ".join(f"{name} = {value}" for name, value in self.__dict__.items())


def recommend(available_bytes: int, effective_batch: int) -> Recommendation:
    """A configuration by the memory that is free; estimates, which `shoes forecast` replaces by measurements."""
    gigabytes = available_bytes / GIGABYTE
    largest, images = (1, 1) if gigabytes < 8 else (2, 1) if gigabytes <= 16 else (4, 4)
    batch = next(size for size in range(min(largest, effective_batch), 0, -1) if effective_batch % size == 0)
    return Recommendation(batch, effective_batch // batch, "full" if gigabytes <= 16 else "auto", images)


def memory_finding(
    available_bytes: int, total_bytes: int, spec: TrainSpec, graphics_bytes: int | None = None
) -> Finding:
    """The line of the report.

    Args:
        available_bytes: what programs can still take, by psutil.
        total_bytes: all of the machine's memory.
        spec: whose effective batch is kept.
        graphics_bytes: free memory of a CUDA device, which then decides the configuration.
    """
    available = available_bytes / GIGABYTE
    status, words, fix = _judge(available)
    lines = [
        _("{available} of {total} GB available: {words}").format(
            available=number(available), total=number(total_bytes / GIGABYTE), words=words
        )
    ]
    if graphics_bytes is not None:
        lines.append(_("{free} GB free on the GPU").format(free=number(graphics_bytes / GIGABYTE)))
    decisive = available_bytes if graphics_bytes is None else graphics_bytes
    advice = recommend(decisive, spec.effective_batch_size)
    lines.append(_("recommended for Stable Diffusion 1.5 at 512 px: {fields}").format(fields=advice))
    return Finding(status, "\n".join(lines), fix)


def _judge(gigabytes: float) -> tuple[Status, str, str]:
    if gigabytes < 8:
        fix = _("close other programs: Stable Diffusion 1.5 takes 8 to 12 GB in training")
        return "WARN", _("little for Stable Diffusion 1.5"), fix
    if gigabytes <= 16:
        return "INFO", _("enough for small batches"), ""
    return "OK", _("plenty"), ""

"""The way of training that was measured to be best on this machine, kept for every later run of its kind.

Only what changes nothing but rounding, speed and memory is chosen so: the precision that a recipe leaves open,
the micro-batch within the same effective batch, and gradient checkpointing.
"""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from shoes.device import DeviceFacts
from shoes.reports import Report
from shoes.spec import TrainSpec
from shoes.storage import fingerprint, pretty_json, write_text

FORMAT = 2
WORTH = 0.97
"""Another choice than the recipe's own is taken when a step takes less than this share of its time."""
_WHAT_DECIDES = (
    "resolution",
    "mixed_precision",
    "gradient_checkpointing",
    "rank",
    "lora_target_modules",
    "lora_dropout",
    "device",
    "devices",
)


class KeptChoice(Report):
    """What was measured to be best, and why."""

    precision: str
    micro_batch: int
    checkpointing: str
    reason: str


def place(cache: Path, spec: TrainSpec, model: str, facts: DeviceFacts) -> Path:
    """The file of a choice: one per machine, model (by fingerprint) and kind of training."""
    kind = {name: getattr(spec, name) for name in _WHAT_DECIDES}
    name = fingerprint("choice", FORMAT, kind, spec.effective_batch_size, model, facts.device_name, facts.torch_version)
    return cache / "choices" / f"{name}.json"


def micro_batches(effective_batch: int) -> tuple[int, ...]:
    """Powers of two that divide the effective batch, so that every pass has the same shape."""
    return tuple(2**n for n in range(effective_batch.bit_length()) if effective_batch % 2**n == 0)


def fastest(timed: Sequence[tuple[float, int]], own: int | None) -> tuple[int, str]:
    """The number of the choice with the least seconds, and why it was taken.

    Args:
        timed: seconds and number of each choice; not empty.
        own: number of the recipe's own, which is kept unless another one is faster by more than chance (`WORTH`).
    """
    seconds, best = min(timed)
    own_seconds = next((s for s, number in timed if number == own), None)
    if own is None or own_seconds is None:
        return best, "the fastest that fits into memory"
    if best == own or seconds >= own_seconds * WORTH:
        return own, "the recipe's own: nothing else that it leaves open is faster by more than chance"
    return best, f"a step takes {seconds / own_seconds:.0%} of the time of the recipe's own choice"


def keep(file: Path, choice: KeptChoice) -> None:
    """Keep a choice, in place of an earlier one."""
    write_text(file, pretty_json(choice))


def kept(file: Path) -> KeptChoice | None:
    """The choice that was kept, if there is one that can be read."""
    try:
        return KeptChoice.model_validate_json(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None

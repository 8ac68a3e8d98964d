"""The way of training that was measured to be best on this machine, kept for every later run of its kind.

Only what changes nothing but rounding, speed and memory is chosen so: the precision that a recipe leaves open,
the micro-batch within the same effective batch, and gradient checkpointing.
"""

from pathlib import Path

from pydantic import ValidationError

from shoes.device import DeviceFacts
from shoes.reports import Report
from shoes.spec import TrainSpec
from shoes.storage import fingerprint, pretty_json, write_text

FORMAT = 1
_WHAT_DECIDES = (
    "resolution",
    "mixed_precision",
    "gradient_checkpointing",
    "rank",
    "lora_target_modules",
    "lora_dropout",
    "device",
)


class KeptChoice(Report):
    """What a comparison chose, and why."""

    precision: str
    micro_batch: int
    checkpointing: str
    reason: str


def place(cache: Path, spec: TrainSpec, model: str, facts: DeviceFacts) -> Path:
    """The file of a choice: one per machine, model (by fingerprint) and kind of training."""
    kind = {name: getattr(spec, name) for name in _WHAT_DECIDES}
    name = fingerprint("choice", FORMAT, kind, spec.effective_batch_size, model, facts.device_name, facts.torch_version)
    return cache / "choices" / f"{name}.json"


def keep(file: Path, choice: KeptChoice) -> None:
    """Keep a choice, in place of an earlier one."""
    write_text(file, pretty_json(choice))


def kept(file: Path) -> KeptChoice | None:
    """The choice that was kept, if there is one that can be read."""
    try:
        return KeptChoice.model_validate_json(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None

"""What a part is given."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shoes.device import DeviceFacts

PRECISIONS = ("no", "bf16", "fp16")
MICRO_BATCHES = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Options:
    """What the person asked for; the same for all parts."""

    work: Path
    """Absolute; for everything that is written."""
    device: str = "auto"
    smoke: bool = False
    """The same code on a narrow model, small pictures and few steps."""

    @property
    def resolution(self) -> int:
        """Side of the pictures in pixels, of the full-size model."""
        return 64 if self.smoke else 512

    @property
    def micro_batches(self) -> tuple[int, ...]:
        """Images in a pass that are tried, smallest first."""
        return MICRO_BATCHES[:2] if self.smoke else MICRO_BATCHES

    @property
    def num_rounds(self) -> int:
        """How often each way of taking a step is timed, in turns."""
        return 2 if self.smoke else 5

    @property
    def num_pictures(self) -> int:
        """Pictures that are drawn and timed, where there is time."""
        return 1 if self.smoke else 3

    @property
    def num_inference_steps(self) -> int:
        """Steps of the sampler."""
        return 3 if self.smoke else 25


@dataclass(frozen=True)
class Place:
    """Options and the time that is left."""

    options: Options
    ends_at: float
    """When the part has to have ended, on the monotonic clock."""
    notes: dict[str, object] = field(default_factory=dict)
    """What an earlier part in the same process found out."""

    @property
    def seconds_left(self) -> float:
        return self.ends_at - time.monotonic()

    @property
    def facts(self) -> "DeviceFacts":
        """This machine's, measured once a process, whose memory on MPS is limited before anything is put there."""
        from shoes import device

        if "facts" not in self.notes:
            self.notes["facts"] = found = device.measure()
            device.limit_memory(found)
        found = self.notes["facts"]
        assert isinstance(found, device.DeviceFacts)
        return found

    @property
    def device(self) -> str:
        """cuda, mps or cpu."""
        from shoes import device

        return device.choose_device(self.options.device, self.facts).value  # type: ignore[arg-type]

    @property
    def precision(self) -> str:
        """The one that a recipe on `auto` would take here."""
        from shoes import device

        return device.choose_precision("auto", self.device, self.facts).value

    @property
    def precisions(self) -> tuple[str, ...]:
        """All that a training here may ask for."""
        from shoes import device
        from shoes.spec import TrainSpec

        return tuple(
            name
            for name in PRECISIONS
            if not device.problems(TrainSpec(device=self.device, mixed_precision=name), self.facts)  # type: ignore[arg-type]
        )

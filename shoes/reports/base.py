"""What all reports share."""

from typing import Literal

from shoes.spec import Spec

FEW_UNITS = 6
"""With fewer units an interval is wide, and is told with their number: see `evaluation.statistics`."""
Unit = Literal["caption", "picture", "photo"]


class Report(Spec):
    """Base of what stages return."""


class Interval(Report):
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float
    level: float
    num_clusters: int
    """Independent units that were resampled."""
    num_values: int
    unit: Unit = "caption"
    """What a unit is: a caption with all its values, or, where the data set has no other captions than these, a
    picture or a photo."""

    def __str__(self) -> str:
        return self.text(2)

    def text(self, digits: int) -> str:
        """Mean and interval, with the number of units where they are few."""
        mean, low, high = (f"{value:+.{digits}f}" for value in (self.mean, self.low, self.high))
        return f"{mean} ({self.level:.0%} interval {low} to {high}{self.few})"

    @property
    def few(self) -> str:
        """What to add where the units are few."""
        return f", over only {self.num_clusters} {self.unit}s" if self.num_clusters < FEW_UNITS else ""


def interval_metrics(name: str, found: Interval | None) -> dict[str, float]:
    """A mean and the ends of its interval as metrics; nothing where there is none."""
    if found is None:
        return {}
    return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}

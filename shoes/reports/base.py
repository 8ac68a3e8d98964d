"""What all reports share."""

from shoes.spec import Spec


class Report(Spec):
    """Base of what stages return."""


class Interval(Report):
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float
    level: float
    num_clusters: int
    """Independent units that were resampled: unique captions."""
    num_values: int

    def __str__(self) -> str:
        return f"{self.mean:+.2f} ({self.level:.0%} interval {self.low:+.2f} to {self.high:+.2f})"

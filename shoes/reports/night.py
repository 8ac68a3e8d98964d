"""What was decided, and the night as a whole."""

from datetime import datetime
from pathlib import Path

from shoes.reports.base import Report
from shoes.reports.evaluation import EvaluationReport
from shoes.reports.training import TrainReport
from shoes.spec import Metric


class PromotionReport(Report):
    """What was decided about the registered model, and why."""

    promoted: bool
    """This adapter is the champion now."""
    reason: str
    registered_model: str
    version: str | None
    champion_version: str | None
    model_uri: str | None
    seconds: float
    metric: Metric = "clip_score"
    """What was compared."""


class StageTime(Report):
    """How long a stage took the time it did its work; less when it was there already."""

    name: str
    seconds: float


class StageRun(Report):
    """A stage as it went this night: when, how it ended, and what it met."""

    name: str
    started: datetime | None
    """None here and for `ended`: nobody watched the clock, only how long it took is known."""
    ended: datetime | None
    seconds: float
    state: str
    """In Prefect's words, such as Completed or Cached."""
    tries: int = 1
    troubles: tuple[str, ...] = ()
    """Why earlier tries failed, and what was done about it."""


class Outcome(Report):
    """The forecast of a training against what happened."""

    predicted_seconds: float
    actual_seconds: float
    predicted_peak_bytes: int
    actual_peak_bytes: int

    @property
    def time_error(self) -> float:
        """Predicted over actual, minus 1: above 0, the forecast was too long."""
        return self.predicted_seconds / self.actual_seconds - 1

    @property
    def memory_error(self) -> float:
        """Predicted over actual, minus 1: above 0, the forecast was too large."""
        return self.predicted_peak_bytes / self.actual_peak_bytes - 1


class NightReport(Report):
    """The verdict of one night."""

    recipe: str
    verdict: str
    """One sentence."""
    text: str
    """The whole verdict as it is printed."""
    promoted: bool
    run_id: str | None
    """MLflow run, when the tracking store could be reached."""
    experiment_id: str | None = None
    """MLflow's experiment that the run belongs to."""
    tracking_uri: str
    train: TrainReport
    evaluation: EvaluationReport
    promotion: PromotionReport
    stages: tuple[StageTime, ...]
    forecast: Outcome | None = None
    """How right the forecast was; none where there is nothing to compare."""
    finished: datetime
    page: Path | None = None
    """The night as a page, report/index.html in the run's folder."""
    timeline: tuple[StageRun, ...] = ()
    """The stages in the order in which they ran."""

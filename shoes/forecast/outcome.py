"""The forecast against what happened."""

from pathlib import Path

from pydantic import ValidationError

from shoes.forecast.reports import Forecast
from shoes.reports import Outcome, TrainReport
from shoes.storage import pretty_json, write_text
from shoes.tracking.journal import Journal

FILE = "forecast.json"


def keep(folder: Path, forecast: Forecast) -> None:
    """Keep a forecast in the run's folder, so that the run can be compared with it."""
    write_text(folder / FILE, pretty_json(forecast))


def kept(folder: Path) -> Forecast | None:
    """The forecast that was kept for a run."""
    try:
        return Forecast.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None


def outcome(forecast: Forecast | None, report: TrainReport) -> Outcome | None:
    """How right a forecast was; None where there is nothing to compare.

    A forecast of a whole training is compared with a training that ran in one go: one that was taken up again
    waited in between, and ran some steps twice.
    """
    if forecast is None or report.resumed_from or forecast.start_step or not report.peak_memory_bytes:
        return None
    return Outcome(
        predicted_seconds=forecast.training_seconds,
        actual_seconds=report.seconds,
        predicted_peak_bytes=forecast.peak_memory_bytes,
        actual_peak_bytes=report.peak_memory_bytes,
    )


def record(journal: Journal, found: Outcome, step: int) -> None:
    """The forecast's errors as metrics of the run."""
    values = {
        "forecast/seconds": found.predicted_seconds,
        "forecast/seconds_error": found.time_error,
        "forecast/peak_memory_bytes": found.predicted_peak_bytes,
        "forecast/peak_memory_error": found.memory_error,
    }
    journal.metrics("forecast/outcome", step, values)

"""Measure one precision and checkpointing with several micro-batches. Runs in the probe's process."""

from collections.abc import Iterator

from shoes.forecast.night import encode, measure_drawing
from shoes.forecast.probe import Request, settle
from shoes.reports import Report
from shoes.training.measuring import does_it_fit, one_pass, repeat


class ChoiceMeasurement(Report):
    """One micro-batch, or drawing (micro_batch 0)."""

    micro_batch: int
    seconds: float | None
    """Of one pass, or of one drawn image; None: it did not fit."""
    peak_bytes: int | None


def measure_choices(request: Request) -> Iterator[ChoiceMeasurement]:
    """One line per micro-batch, the small ones first, until one does not fit; then one for drawing."""
    from shoes.device import release, watch_memory
    from shoes.training.session import new_session

    job, decisions = request.job(), request.decided()
    settle(request)
    encoded = encode(job, decisions.device)
    session = new_session(job, decisions, encoded.train, encoded.validation)
    for size in sorted(request.micro_batches):
        release(decisions.device)
        times = None
        with does_it_fit() as fits, watch_memory(decisions.device) as watch:
            times = repeat(lambda size=size: one_pass(session, size), seconds=request.seconds, most=10)  # type: ignore[misc]
        if not fits or times is None:
            yield ChoiceMeasurement(micro_batch=size, seconds=None, peak_bytes=None)
            break
        yield ChoiceMeasurement(micro_batch=size, seconds=times.typical, peak_bytes=watch.peak_bytes)
    release(decisions.device)
    with watch_memory(decisions.device) as watch:
        drawn = measure_drawing(session)
    yield ChoiceMeasurement(micro_batch=0, seconds=drawn, peak_bytes=watch.peak_bytes)

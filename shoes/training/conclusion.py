"""The end of a training: the best candidate exported and reported. It is proven later (`proving`)."""

import logging
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from shoes.device import Watch
from shoes.progress import duration
from shoes.publishing.export import adapter_sha256, export, weights_of
from shoes.reports import TrainReport, interval_metrics
from shoes.storage import pretty_json, write_text
from shoes.tracking.journal import Event, Journal, read_events
from shoes.training.saving import best_candidates, provenance
from shoes.training.session import Session
from shoes.training.validation import captions_of, loss_difference

log = logging.getLogger(__name__)
PEAK_MEMORY = "system/peak_memory_bytes"
_BEFORE_A_TRY = {"parameters", "tags", "links", "spec", "environment", "data"}
"""Kinds of events that are written when a training is opened, which may be a day after the last try."""


def record_memory(watch: Watch, journal: Journal) -> None:
    """The peak so far: once per try, with the number of the try in the place of the step."""
    number = num_tries(journal)
    journal.metrics(f"memory/{number}", number, {PEAK_MEMORY: watch.peak_bytes})


def num_tries(journal: Journal) -> int:
    """How often this training was started."""
    return sum(event["id"].startswith("session/") for event in read_events(journal.path))


def conclude(session: Session, journal: Journal, watch: Watch, ended_early: str | None) -> TrainReport:
    """Choose, export, report."""
    job = session.job
    chosen = best_candidates(job, session.losses)[0]
    target = job.folder / "adapter"
    weights = weights_of(job.candidate(chosen))
    export(target, weights, job.spec, provenance(session, chosen))
    record_memory(watch, journal)
    report = TrainReport(
        fingerprint=job.fingerprint,
        run_dir=job.folder,
        adapter_dir=target,
        adapter_sha256=adapter_sha256(target),
        step=session.step,
        max_train_steps=job.spec.max_train_steps,
        end_reason=ended_early or f"all {job.spec.max_train_steps} steps were run",
        chosen_step=chosen,
        losses=tuple(session.losses),
        loss_difference=loss_difference(job, captions_of(session.validation), chosen),
        device=session.decisions.device,
        precision=session.decisions.precision,
        num_trainable_parameters=sum(p.numel() for p in session.parameters.values()),
        parity=session.decisions.parity,
        interventions=session.decisions.interventions,
        **_rates(journal),
    )
    _record(report, journal)
    write_text(job.folder / "report.json", pretty_json(report))
    log.info("trained %d steps in %s", report.step, duration(report.seconds))
    return report


def _record(report: TrainReport, journal: Journal) -> None:
    values = {
        "train/chosen_step": report.chosen_step,
        **interval_metrics("val/loss_difference", report.loss_difference),
    }
    journal.metrics("train/end", report.step, values)
    journal.artifact("adapter", report.adapter_dir, "adapter")
    journal.tags("train/end/tags", {"end_reason": report.end_reason, "adapter_sha256": report.adapter_sha256})
    journal.status("train/end/status", "FINISHED", step=report.step)


def seconds_spent(path: Path, *, until: int | None = None) -> float:
    """Time spent training, over all tries of a run's journal.

    Args:
        until: end of the last try, in Unix milliseconds; None: the last that was heard of it.
    """
    events = list(read_events(path))
    starts = _starts(events)
    tries = [events[start:end] for start, end in pairwise([*starts, len(events)])]
    spans = [_last_heard(events_of_try) - events_of_try[0]["time"] for events_of_try in tries]
    if until is not None and tries:
        spans[-1] = until - tries[-1][0]["time"]
    return float(sum(max(0, span) for span in spans) / 1000)  # a clock may be set back


def _last_heard(events: Sequence[Event]) -> int:
    """Time of the last event that belongs to a try; behind it may stand what its successor is started with."""
    return max(int(event["time"]) for event in events if event["id"].partition("/")[0] not in _BEFORE_A_TRY)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _rates(journal: Journal) -> dict[str, object]:
    """Time, rate, memory, and where it was taken up again, from the journal: it knows of all tries."""
    events = list(read_events(journal.path))
    steps = [e["values"] for e in events if e["id"].startswith("train/") and "train/loss" in e.get("values", {})]
    return {
        "seconds": seconds_spent(journal.path, until=_now()),
        "images_per_second": statistics.median(v["train/images_per_second"] for v in steps) if steps else 0.0,
        "resumed_from": tuple(events[start]["step"] for start in _starts(events)[1:]),
        "peak_memory_bytes": max(int(e["values"][PEAK_MEMORY]) for e in events if e["id"].startswith("memory/")),
    }


def _starts(events: Sequence[Event]) -> list[int]:
    """Where in the journal each try begins."""
    return [index for index, event in enumerate(events) if event["id"].startswith("session/")]

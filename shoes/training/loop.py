"""Training, from the first step or the last checkpoint to the exported adapter."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from shoes.device import Watch, watch_memory
from shoes.device.parity import in_words
from shoes.device.pressure import Pressure
from shoes.errors import TrainingError
from shoes.progress import Progress, both, progress
from shoes.reports import PausedTraining, TrainReport
from shoes.storage import is_disk_full
from shoes.tracking.journal import Journal
from shoes.training import checkpoint
from shoes.training.conclusion import conclude, num_tries, record_memory, seconds_spent
from shoes.training.disk import DiskGuard
from shoes.training.recovery import step_or_recover
from shoes.training.run import Decisions, Job, finished, keep_decisions, pin_decisions, plan_decisions
from shoes.training.saving import finish_validation, save_checkpoint, start_run, validate_when_due
from shoes.training.session import Session
from shoes.training.signals import Interrupted, stop_between_steps
from shoes.training.stopping import ASKED, Stop, Stops
from shoes.training.tuning import tuned_decisions
from shoes.training.workers import gathered, open_together

log = logging.getLogger(__name__)
STEPS_BETWEEN_READINGS = 25
"""Of the machine's memory."""


def train(
    job: Job, journal: Journal, *, on_progress: Progress | None = None, deadline: datetime | None = None
) -> TrainReport | PausedTraining:
    """Train to `max_train_steps`, or go on where an earlier try stopped, and export the best candidate.

    A training that is done returns its report at once. SIGINT and SIGTERM end the step, save the state, and
    are then handed on. The caller holds the run's lock (`run.only_one`).

    Args:
        on_progress: told of every step, beside the terminal.
        deadline: when the training has to have stopped, aware; it is then paused.

    Raises:
        TrainingError: training can't go on; what was saved stays.
    """
    if (report := finished(job)) is not None:
        log.info("this training is done: %s", report.run_dir)
        return report
    snapshot = checkpoint.latest(job.checkpoints)
    journal.status(f"session/{num_tries(journal)}", "RUNNING", step=snapshot.step if snapshot else 0)
    decisions = pin_decisions(job)
    with _clear_about_disk(job), _watched(decisions, journal) as watch, gathered(decisions) as team:
        session = open_together(job, decisions, snapshot, team)
        guard = DiskGuard(job)
        if reason := guard.short(False, session.losses):
            return _pause(session, journal, Stop("paused", reason))
        _tune(session, watch)
        _describe(session.decisions, journal)
        start_run(session, journal)
        with stop_between_steps(session.request), progress("training") as bar:
            stops = Stops(session.request, deadline, lambda asked: guard.short(asked, session.losses))
            stop = _run(session, journal, stops, both(bar, on_progress))
            if stop is not None and stop.kind == "signal":
                journal.status(f"stopped/{session.step}/{num_tries(journal)}", "KILLED", step=session.step)
        if stop is not None and stop.kind == "paused":
            return _pause(session, journal, stop)
        return conclude(session, journal, watch, stop.reason if stop else None)


def _describe(decisions: Decisions, journal: Journal) -> None:
    """What the run was started with, and whether its device is right."""
    names = ("device", "precision", "checkpointing", "micro_batch", "processes")
    tags = {name: str(getattr(decisions, name)) for name in names}
    parity = in_words(decisions.parity) or "fp32 on the CPU is what other precisions are compared with"
    moves = [n for n, done in enumerate(decisions.interventions, start=1) if done.kind == "machine"]
    journal.tags(f"decisions/{moves[-1]}" if moves else "decisions", {**tags, "parity": parity})
    for number in moves:
        done = decisions.interventions[number - 1]
        journal.tags(f"intervention/{number}", {f"intervention.{number}": f"step {done.step}: {done.detail}"})


def _tune(session: Session, watch: Watch) -> None:
    """Take the micro-batch and checkpointing that are fastest here, where the recipe leaves it to us."""
    chosen = tuned_decisions(session.job, session.decisions, session)
    if chosen != session.decisions:
        watch.restart()  # the peak is that of the training, not of what was tried
        keep_decisions(session.job, chosen)
        session.team.tell("adapt", chosen)
        session.adapt(chosen)


@contextmanager
def _watched(decisions: Decisions, journal: Journal) -> Iterator[Watch]:
    """Watch this try's memory, and record its peak however the try ends."""
    with watch_memory(decisions.device) as watch:
        try:
            yield watch
        finally:
            record_memory(watch, journal)


@contextmanager
def _clear_about_disk(job: Job) -> Iterator[None]:
    """A disk that fills up all the same ends the training with words."""
    try:
        yield
    except Exception as error:  # libraries have their own kinds for it
        if isinstance(error, TrainingError) or not is_disk_full(error):
            raise
        raise TrainingError(
            f"The disk of {job.folder} is full: {error}. The last checkpoint is kept. Free some space, or set "
            "SHOES_DATA_DIR to a folder on a larger disk, and start again: it goes on from there."
        ) from error


def _run(session: Session, journal: Journal, stops: Stops, report: Progress) -> Stop | None:
    """Steps until all are done or something stops them; the state is saved then."""
    saved = _Saved(session.step)
    try:
        stop = _steps(session, journal, stops, report, saved)
    except Interrupted:
        stop = Stop("signal", ASKED)
    if stop is not None:
        if saved.step != session.step:
            save_checkpoint(session, journal)
        steps = (session.step, session.job.spec.max_train_steps)
        log.info("stopped at step %d of %d: %s; state is saved", *steps, stop.reason)
    return stop


@dataclass
class _Saved:
    """The newest state on the disk."""

    step: int
    at: float = field(default_factory=time.monotonic)


def _steps(session: Session, journal: Journal, stops: Stops, report: Progress, saved: _Saved) -> Stop | None:
    """Step by step; the reason to stop before the last one.

    Raises:
        Interrupted: somebody asked to stop while something longer than a step was at work.
    """
    spec, number = session.job.spec, num_tries(journal)
    finish_validation(session, journal)
    with Pressure(session.decisions.device) as pressure:
        while session.step < spec.max_train_steps:
            if stop := stops.look(spec, session.losses):
                return stop
            has_changed = _one_step(session, journal, stops, report)
            _read_pressure(session, journal, pressure, number)
            with _steps_kept(session, journal, saved):
                is_due = validate_when_due(session, journal) or has_changed
            if is_due or time.monotonic() - saved.at >= 60 * spec.checkpointing_minutes:
                save_checkpoint(session, journal)
                saved.step, saved.at = session.step, time.monotonic()
    return None


@contextmanager
def _steps_kept(session: Session, journal: Journal, saved: _Saved) -> Iterator[None]:
    """An error in what comes after a step costs no step: the state is saved before it ends the training."""
    try:
        yield
    except Interrupted:  # the state is saved for it, too, by the caller
        raise
    except Exception:
        if saved.step != session.step:
            save_checkpoint(session, journal)
        raise


def _one_step(session: Session, journal: Journal, stops: Stops, report: Progress) -> bool:
    """One step, written down and told; whether the training had to change something for it."""
    spec = session.job.spec
    started = time.perf_counter()
    metrics, has_changed = step_or_recover(session, journal)
    stops.step_seconds = time.perf_counter() - started
    metrics["train/images_per_second"] = spec.effective_batch_size / stops.step_seconds
    journal.metrics(_event(session), session.step, metrics)
    report(session.step, spec.max_train_steps, f"loss {metrics['train/loss_smoothed']:.4f}")
    return has_changed


def _event(session: Session) -> str:
    """A step's name in the journal; steps that are run anew at a lower rate have another one than before."""
    cuts = sum(cut < session.step for cut in session.decisions.rate_cuts)
    return f"train/{session.step}" + (f"/{cuts}" if cuts else "")


def _read_pressure(session: Session, journal: Journal, pressure: Pressure, number: int) -> None:
    """The machine's memory now and then; every try has its own readings."""
    pressure.sample()
    if session.step % STEPS_BETWEEN_READINGS == 0:
        journal.metrics(f"system/{number}/{session.step}", session.step, pressure.metrics())


def _pause(session: Session, journal: Journal, stop: Stop) -> PausedTraining:
    """Leave with the state saved, to go on another time."""
    job = session.job
    paused = PausedTraining(
        fingerprint=job.fingerprint,
        run_dir=job.folder,
        step=session.step,
        max_train_steps=job.spec.max_train_steps,
        reason=stop.reason,
        device=session.decisions.device,
        precision=session.decisions.precision,
        seconds=seconds_spent(journal.path),
    )
    number = num_tries(journal)
    journal.tags(f"paused/{number}", {"paused": f"at {paused.progress}: {stop.reason}"})
    journal.status(f"paused/{number}/status", "SCHEDULED", step=session.step)
    return paused


def not_begun(job: Job, reason: str) -> PausedTraining:
    """A training that goes on another time because it could not be begun now; nothing of it is touched."""
    snapshot = checkpoint.latest(job.checkpoints)
    decisions = plan_decisions(job)
    return PausedTraining(
        fingerprint=job.fingerprint,
        run_dir=job.folder,
        step=snapshot.step if snapshot else 0,
        max_train_steps=job.spec.max_train_steps,
        reason=reason,
        device=decisions.device,
        precision=decisions.precision,
        seconds=seconds_spent(job.journal),
    )

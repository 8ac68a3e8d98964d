"""Training, from the first step or the last checkpoint to the exported adapter."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from shoes.device import Watch, watch_memory
from shoes.device.parity import in_words
from shoes.errors import TrainingError
from shoes.model.load import load_pipeline
from shoes.progress import Progress, duration, progress
from shoes.publishing.export import adapter_sha256, export, weights_of
from shoes.reports import TrainReport
from shoes.storage import pretty_json, write_text
from shoes.tracking.journal import Journal, read_events
from shoes.training import checkpoint, lora
from shoes.training.run import Decisions, Job, finished, pin_decisions
from shoes.training.session import Session, open_session, take_step
from shoes.training.signals import StopRequest, stop_between_steps
from shoes.training.validation import draw_with_session, loss_difference, sample_prompts, validate

log = logging.getLogger(__name__)
PEAK_MEMORY = "system/peak_memory_bytes"


def train(job: Job, journal: Journal) -> TrainReport:
    """Train to `max_train_steps`, or go on where an earlier try stopped, and export the best candidate.

    A training that is done returns its report at once. SIGINT and SIGTERM end the step, save the state, and
    are then handed on. The caller holds the run's lock (`run.only_one`).

    Raises:
        TrainingError: training can't go on; what was saved stays.
    """
    if (report := finished(job)) is not None:
        log.info("this training is done: %s", report.run_dir)
        return report
    snapshot = checkpoint.latest(job.checkpoints)
    journal.status(f"session/{_num_sessions(journal)}", "RUNNING", step=snapshot.step if snapshot else 0)
    decisions = pin_decisions(job)
    _describe(decisions, journal)
    with _watched(decisions, journal) as watch:
        session = open_session(job, decisions, snapshot)
        _start(session, journal)
        with stop_between_steps() as stop, progress("training") as report_progress:
            _run(session, journal, stop, report_progress)
        return _conclude(session, journal, watch)


def _describe(decisions: Decisions, journal: Journal) -> None:
    """What the run was started with, and whether its device is right."""
    tags = {name: getattr(decisions, name) for name in ("device", "precision", "checkpointing")}
    parity = in_words(decisions.parity) or "fp32 on the CPU is what other precisions are compared with"
    journal.tags("decisions", {**tags, "parity": parity})


@contextmanager
def _watched(decisions: Decisions, journal: Journal) -> Iterator[Watch]:
    """Watch this try's memory, and record its peak however the try ends."""
    with watch_memory(decisions.device) as watch:
        try:
            yield watch
        finally:
            _record_memory(watch, journal)


def _record_memory(watch: Watch, journal: Journal) -> None:
    """Once per try, with the number of the try in the place of the step."""
    number = _num_sessions(journal)
    journal.metrics(f"memory/{number}", number, {PEAK_MEMORY: watch.peak_bytes})


def _start(session: Session, journal: Journal) -> None:
    """Record how the base does, before the first step."""
    if not session.losses:
        validate(session, journal)
        _candidate(session)
        _checkpoint(session, journal)


def _run(session: Session, journal: Journal, stop: StopRequest, report: Progress) -> None:
    spec = session.job.spec
    saved_at, saved_step = time.monotonic(), session.step
    while session.step < spec.max_train_steps and not stop:
        _one_step(session, journal, report)
        is_due = _validate_when_due(session, journal)
        if is_due or time.monotonic() - saved_at >= 60 * spec.checkpointing_minutes:
            _checkpoint(session, journal)
            saved_at, saved_step = time.monotonic(), session.step
    if stop:
        if saved_step != session.step:
            _checkpoint(session, journal)
        log.info("stopped at step %d of %d; state is saved", session.step, spec.max_train_steps)
        journal.status(f"stopped/{session.step}/{_num_sessions(journal)}", "KILLED", step=session.step)


def _one_step(session: Session, journal: Journal, report: Progress) -> None:
    started = time.perf_counter()
    metrics = take_step(session)
    seconds = time.perf_counter() - started
    metrics["train/images_per_second"] = session.job.spec.effective_batch_size / seconds
    journal.metrics(f"train/{session.step}", session.step, metrics)
    report(session.step, session.job.spec.max_train_steps, f"loss {metrics['train/loss']:.4f}")


def _validate_when_due(session: Session, journal: Journal) -> bool:
    """Candidates and validations at their steps and at the end; true when the state should be saved."""
    spec, step = session.job.spec, session.step
    is_last = step == spec.max_train_steps
    is_candidate = is_last or step % spec.save_steps == 0
    if is_candidate:
        _candidate(session)
    if is_candidate or step % spec.validation_steps == 0:
        validate(session, journal)
        loss = session.losses[-1]
        log.info("step %d: held-out loss %.5f (base %.5f)", step, loss.mean, session.losses[0].mean)
    return is_candidate or step % spec.validation_steps == 0 or step % spec.checkpointing_steps == 0


def _checkpoint(session: Session, journal: Journal) -> None:
    journal.sync()
    checkpoint.save(session.job.checkpoints, session.snapshot(), keep=session.job.spec.checkpoints_total_limit)


def _candidate(session: Session) -> None:
    weights = lora.adapter_weights(session.objective.unet)
    export(session.job.candidate(session.step), weights, session.job.spec, base_model=session.job.model.name)


def _conclude(session: Session, journal: Journal, watch: Watch) -> TrainReport:
    """Choose, export, load back and draw, report."""
    job = session.job
    chosen = _choose(session)
    target = job.folder / "adapter"
    weights = weights_of(job.candidate(chosen))
    export(target, weights, job.spec, base_model=job.model.name)
    lora.set_adapter_weights(session.objective.unet, weights)
    _require_same_picture(session)
    _record_memory(watch, journal)
    report = TrainReport(
        fingerprint=job.fingerprint,
        run_dir=job.folder,
        adapter_dir=target,
        adapter_sha256=adapter_sha256(target),
        step=session.step,
        max_train_steps=job.spec.max_train_steps,
        end_reason=f"all {job.spec.max_train_steps} steps were run",
        chosen_step=chosen,
        losses=tuple(session.losses),
        loss_difference=loss_difference(job, session, chosen),
        device=session.decisions.device,
        precision=session.decisions.precision,
        num_trainable_parameters=sum(p.numel() for p in session.parameters.values()),
        parity=session.decisions.parity,
        **_rates(journal),
    )
    _record(report, journal)
    write_text(job.folder / "report.json", pretty_json(report))
    log.info("trained %d steps in %s", report.step, duration(report.seconds))
    return report


def _choose(session: Session) -> int:
    """The candidate with the lowest held-out loss; the base itself only when there is nothing else."""
    candidates = [loss for loss in session.losses if session.job.candidate(loss.step).is_dir()]
    trained = [loss for loss in candidates if loss.step > 0] or candidates
    return min(trained, key=lambda loss: (loss.mean, loss.step)).step


def _require_same_picture(session: Session) -> None:
    """The exported file, loaded as its users will load it, draws what the adapter in memory draws."""
    import numpy as np

    from shoes.device import torch_dtype

    job, where = session.job, session.decisions
    prompt = sample_prompts(session)[:1]
    inside = np.asarray(draw_with_session(session, prompt)[0], dtype=np.float32)
    kept = session.objective.unet
    loaded = load_pipeline(
        job.model.path,
        device=where.device,
        dtype=torch_dtype(where.precision),
        scheduler=job.sampler.scheduler,
        adapter_dir=job.folder / "adapter",
    )
    session.objective = session.objective.with_unet(loaded.unet)
    outside = np.asarray(draw_with_session(session, prompt)[0], dtype=np.float32)
    session.objective = session.objective.with_unet(kept)
    difference = float(np.abs(inside - outside).mean())
    if difference >= 1.0:
        raise TrainingError(
            f"The exported adapter draws another picture than the one in memory (mean difference {difference:.2f} "
            f"of 255). The checkpoints in {job.checkpoints} are kept; please report this as a bug."
        )


def _record(report: TrainReport, journal: Journal) -> None:
    values = {
        "train/chosen_step": report.chosen_step,
        "val/loss_difference": report.loss_difference.mean,
        "val/loss_difference_low": report.loss_difference.low,
        "val/loss_difference_high": report.loss_difference.high,
    }
    journal.metrics("train/end", report.step, values)
    journal.artifact("adapter", report.adapter_dir, "adapter")
    journal.tags("train/end/tags", {"end_reason": report.end_reason, "adapter_sha256": report.adapter_sha256})
    journal.status("train/end/status", "FINISHED", step=report.step)


def _num_sessions(journal: Journal) -> int:
    return sum(event["id"].startswith("session/") for event in read_events(journal.path))


def _rates(journal: Journal) -> dict[str, object]:
    """Time spent, rate, memory, and where it was taken up again, from the journal: it knows of all tries."""
    import statistics

    events = list(read_events(journal.path))
    starts = [index for index, event in enumerate(events) if event["id"].startswith("session/")]
    ends = [*(events[start - 1]["time"] for start in starts[1:]), time.time_ns() // 1_000_000]
    milliseconds = sum(end - events[start]["time"] for start, end in zip(starts, ends, strict=True))
    rates = [
        e["values"]["train/images_per_second"]
        for e in events
        if e["id"].startswith("train/") and "train/loss" in e.get("values", {})
    ]
    return {
        "seconds": milliseconds / 1000,
        "images_per_second": statistics.median(rates) if rates else 0.0,
        "resumed_from": tuple(events[s]["step"] for s in starts[1:]),
        "peak_memory_bytes": max(int(e["values"][PEAK_MEMORY]) for e in events if e["id"].startswith("memory/")),
    }

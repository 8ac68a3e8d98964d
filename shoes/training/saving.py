"""What a training writes on its way: checkpoints, candidates, and what is removed for them."""

import logging
from collections import Counter
from collections.abc import Sequence

from shoes.evaluation.choice import shortlist
from shoes.publishing.export import export
from shoes.publishing.kohya import Provenance, count_tags
from shoes.reports import HeldOutLoss
from shoes.storage import remove_path
from shoes.tracking.journal import Journal
from shoes.training import checkpoint, lora
from shoes.training.run import Job
from shoes.training.session import Session
from shoes.training.validation import kept_losses, validate

log = logging.getLogger(__name__)
SD2_TEXT_WIDTH = 1024
"""Stable Diffusion 2.x reads a wider text encoder than 1.x, whose width is 768."""


def save_checkpoint(session: Session, journal: Journal) -> None:
    """Resumable state; before it counts, the journal holds all of its steps."""
    journal.sync()
    checkpoint.save(session.job.checkpoints, session.snapshot(), keep=session.job.spec.checkpoints_total_limit)


def save_candidate(session: Session) -> None:
    """The adapter as it is now, exported."""
    with session.as_exported():
        weights = lora.adapter_weights(session.objective.unet)
    export(session.job.candidate(session.step), weights, session.job.spec, provenance(session, session.step))


def provenance(session: Session, step: int) -> Provenance:
    """Where the adapter as it was at a step comes from."""
    objective = session.objective
    return Provenance(
        base_model=session.job.model.name,
        step=step,
        num_train_images=len(session.train),
        precision=session.decisions.precision,
        prediction_type=objective.schedule.config.prediction_type,
        is_v2=objective.unet.config.cross_attention_dim == SD2_TEXT_WIDTH,
        tags=count_tags(Counter(session.train.captions[row] for row in session.train.caption_of)),
    )


def start_run(session: Session, journal: Journal) -> None:
    """Record how the base does, before the first step."""
    if not session.losses:
        validate(session, journal)
        save_candidate(session)
        save_checkpoint(session, journal)


def finish_validation(session: Session, journal: Journal) -> None:
    """The validation of the step that a training goes on from, where it was left in the middle of it.

    Raises:
        Interrupted: somebody asked to stop.
    """
    _, is_validation = _is_due(session)
    if is_validation and session.step not in {loss.step for loss in session.losses}:
        validate_when_due(session, journal)
        save_checkpoint(session, journal)


def validate_when_due(session: Session, journal: Journal) -> bool:
    """Candidates and validations at their steps and at the end; true when the state should be saved.

    Raises:
        Interrupted: somebody asked to stop, in the middle of a validation.
    """
    is_candidate, is_validation = _is_due(session)
    if is_candidate:
        save_candidate(session)
    if is_validation:
        with session.as_exported():
            validate(session, journal)
        loss = session.losses[-1]
        log.info("step %d: held-out loss %.5f (base %.5f)", session.step, loss.mean, session.losses[0].mean)
        prune_candidates(session.job, session.losses)
    return is_validation or session.step % session.job.spec.checkpointing_steps == 0


def _is_due(session: Session) -> tuple[bool, bool]:
    """Whether this step's adapter is exported as a candidate, and whether it is validated."""
    spec, step = session.job.spec, session.step
    is_candidate = step == spec.max_train_steps or step % spec.save_steps == 0
    return is_candidate, is_candidate or step % spec.validation_steps == 0


def best_candidates(job: Job, losses: Sequence[HeldOutLoss]) -> list[int]:
    """Steps of the exported candidates, the lowest held-out loss first; the base only where nothing else is."""
    exported = [loss for loss in losses if job.candidate(loss.step).is_dir()]
    trained = [loss for loss in exported if loss.step > 0] or exported
    return [loss.step for loss in sorted(trained, key=lambda loss: (loss.mean, loss.step))]


def prune_candidates(job: Job, losses: Sequence[HeldOutLoss]) -> None:
    """Remove candidates beyond the best `candidates_total_limit`.

    The lowest held-out loss stays, then the earliest of those that are as good within their error, since the choice
    prefers them; then the next lowest.
    """
    ranked = best_candidates(job, losses)
    close = shortlist({step: kept_losses(job, step) for step in ranked}) if ranked else []
    kept = list(dict.fromkeys([*ranked[:1], *close, *ranked]))[: job.spec.candidates_total_limit]
    for folder in checkpoint.step_folders(job.candidates):
        if checkpoint.number_of(folder) not in kept:
            remove_path(folder)

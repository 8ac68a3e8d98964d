"""How a training saves itself: what it does when a step gives NaN, or does not fit into memory.

The policy is a pure function of what went wrong and what was tried. Not finite: look whether the cached photos of the
step are damaged and encode them again; take the same step once more, for a device that errs only now and then; then a
safer precision; and in full precision go back to the last checkpoint and halve the learning rate from there. Out of
memory: halve the micro-batch, and when it is 1, compute more again in the backward pass. The effective batch is kept.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shoes.device import is_out_of_memory, measure, precision_name, safer_precisions
from shoes.errors import TrainingError
from shoes.reports import Intervention
from shoes.tracking.journal import Journal
from shoes.training import checkpoint
from shoes.training.run import Decisions, keep_decisions
from shoes.training.session import Session, encode_again, open_training_cache
from shoes.training.step import NotFinite, draw, take_step

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trouble:
    """A step that could not be taken."""

    step: int
    what: str
    """In words: the loss is nan."""
    is_memory: bool
    damaged: tuple[int, ...] = ()
    """Samples of the step whose cached latents are not finite."""


@dataclass(frozen=True)
class Remedy:
    """What is done about it."""

    kind: str
    detail: str
    decisions: Decisions


def step_or_recover(session: Session, journal: Journal) -> tuple[dict[str, float], bool]:
    """Take a step whatever happens, as far as the policy goes; its metrics, and whether something was changed for it.

    Raises:
        TrainingError: nothing is left to try; the last checkpoint is kept.
    """
    before = session.decisions
    while True:
        try:
            session.team.tell("step")
            metrics = take_step(session)
            return metrics, session.decisions != before
        except NotFinite as error:
            trouble = Trouble(session.step + 1, str(error), is_memory=False, damaged=_damaged(session))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            trouble = Trouble(session.step + 1, "the device's memory is full", is_memory=True)
        recover(session, journal, trouble)


def recover(session: Session, journal: Journal, trouble: Trouble) -> None:
    """Choose a remedy, write down what is done, and do it."""
    decisions = session.decisions
    found = safer_precisions(decisions.device, decisions.precision, measure())
    safer = [precision for device, precision in found if device == decisions.device]
    latest = checkpoint.latest(session.job.checkpoints)
    remedy = choose_remedy(
        trouble,
        decisions,
        safer=safer,
        saved_step=latest.step if latest else 0,
        most=session.job.spec.max_recoveries,
    )
    done = Intervention.model_validate({"step": trouble.step, "kind": remedy.kind, "detail": remedy.detail})
    chosen = replace(remedy.decisions, interventions=(*decisions.interventions, done))
    log.warning("step %d: %s; %s", trouble.step, trouble.what, remedy.detail)
    keep_decisions(session.job, chosen)
    number = len(chosen.interventions)
    journal.tags(f"intervention/{number}", {f"intervention.{number}": f"step {done.step}: {done.detail}"})
    if remedy.kind == "cache":
        encode_again(session)
    session.team.tell("recover", remedy.kind, chosen)
    follow_remedy(session, remedy.kind, chosen)


def follow_remedy(session: Session, kind: str, decisions: Decisions) -> None:
    """Do what every member of the team does."""
    if kind == "cache":
        session.train = open_training_cache(session.job, decisions)
    session.adapt(decisions)
    if kind == "learning_rate" and (saved := checkpoint.latest(session.job.checkpoints)):
        session.restore(saved)


def choose_remedy(
    trouble: Trouble, decisions: Decisions, *, safer: Sequence[str], saved_step: int, most: int
) -> Remedy:
    """The next thing to try.

    Args:
        safer: precisions of the same device to fall back to, the next one first.
        saved_step: of the newest checkpoint.
        most: remedies against NaN before giving up.

    Raises:
        TrainingError: there is none.
    """
    if trouble.is_memory:
        return _less_memory(trouble, decisions)
    tried = [done.kind for done in decisions.interventions if done.step == trouble.step]
    if trouble.damaged and "cache" not in tried:
        return Remedy("cache", f"{_photos(trouble)} encoded again: their cached latents were damaged", decisions)
    if trouble.damaged:
        raise TrainingError(
            f"The VAE gives NaN or infinity for {_photos(trouble)} of the training split, at step {trouble.step}. "
            "`shoes data verify` looks at the photos; train with --train.device cpu if they are fine."
        )
    used = sum(done.kind in {"again", "precision", "learning_rate"} for done in decisions.interventions)
    if used >= most:
        raise TrainingError(_gave_up(trouble, decisions))
    if "again" not in tried:
        return Remedy("again", "the step is computed once more", decisions)
    if safer:
        changed = replace(decisions, precision=safer[0])
        return Remedy("precision", f"on in {precision_name(safer[0])} from here", changed)
    cut = replace(decisions, rate_cuts=(*decisions.rate_cuts, saved_step))
    return Remedy("learning_rate", f"back to step {saved_step}, and on with half the learning rate", cut)


def _less_memory(trouble: Trouble, decisions: Decisions) -> Remedy:
    size = decisions.micro_batch
    if size > 1:
        smaller = replace(decisions, micro_batch=size // 2)
        return Remedy("micro_batch", f"on with micro-batches of {size // 2} in the place of {size}", smaller)
    later = {"off": "attention" if decisions.device == "mps" else "full", "attention": "full"}
    mode = later.get(decisions.checkpointing)
    if mode is None:
        raise TrainingError(
            f"The memory of {decisions.device} is too small for one image, at step {trouble.step}; the last checkpoint "
            "is kept. Close other programs and start again, or train at a smaller --train.resolution."
        )
    return Remedy("checkpointing", f"on with gradient checkpointing {mode}", replace(decisions, checkpointing=mode))


def _gave_up(trouble: Trouble, decisions: Decisions) -> str:
    done = "\n".join(f"  step {item.step}: {item.detail}" for item in decisions.interventions)
    return (
        f"Training gave up at step {trouble.step}: {trouble.what}, and what was tried did not help:\n{done}\n"
        "The last checkpoint is kept. Lower --train.learning_rate, or train with --train.mixed_precision no."
    )


def _photos(trouble: Trouble) -> str:
    count = len(trouble.damaged)
    return f"{count} photo{'s' if count > 1 else ''}"


def _damaged(session: Session) -> tuple[int, ...]:
    order, _ = draw(session)
    return tuple(session.train.damaged_rows(order))

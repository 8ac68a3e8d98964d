"""One optimizer step: all of it happens, or nothing does."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from shoes.training.optimizer import set_learning_rate
from shoes.training.randomness import StepDraws, draw_step, sample_order
from shoes.training.session import Session
from shoes.training.stopwatch import Stopwatch

if TYPE_CHECKING:
    import torch

RATE_CUT = 0.5
"""What the learning rate is multiplied by when the training saves itself from NaN in full precision."""


class NotFinite(Exception):  # noqa: N818
    """The step's loss or gradient is NaN or infinite; the step was not taken."""

    def __init__(self, what: str, value: float) -> None:
        super().__init__(f"the {what} is {value}")
        self.what = what


class _Overflow(Exception):  # noqa: N818
    """fp16's loss scale was too large, and is smaller now."""


def take_step(session: Session) -> dict[str, float]:
    """Forward and backward over the effective batch, then one update of the adapter; the step's metrics.

    With a team, every member calls this for the same step, takes its share of the batch, and makes the same update.

    Raises:
        NotFinite: the loss or the gradient is; the adapter is as it was.
        Interrupted: somebody asked to stop; the same. Members of a team finish the step.
        torch.OutOfMemoryError, RuntimeError: what the device raises; the adapter is as it was.
    """
    while True:
        try:
            return _attempt(session)
        except _Overflow:
            continue
        finally:
            session.optimizer.zero_grad(set_to_none=True)


def learning_rate_at(session: Session, step: int) -> float:
    """The schedule's rate, halved once for every cut that holds at this step."""
    cuts = sum(cut <= step for cut in session.decisions.rate_cuts)
    return session.rate(step) * RATE_CUT**cuts


def _attempt(session: Session) -> dict[str, float]:
    watch = Stopwatch(session.decisions.device)
    rate = learning_rate_at(session, session.step)
    with watch.part("data"):
        order, draws = draw(session)
    with session.team.in_step(session.parameters) as share:
        share.loss = _accumulate(session, order, draws, watch)
    with watch.part("optimizer"):
        loss, norm = _update(session, share.loss, rate)
    session.step += 1
    smoothed = session.smooth(loss)
    times = {f"time/{name}": seconds for name, seconds in watch.seconds().items()}
    return {"train/loss": loss, "train/loss_smoothed": smoothed, "train/lr": rate, "train/grad_norm": norm, **times}


def draw(session: Session) -> tuple[list[int], StepDraws]:
    """Which samples the next step sees, and all that is random in it, for the whole effective batch."""
    spec, step = session.job.spec, session.step
    order = sample_order(spec.seed, step, batch=spec.effective_batch_size, num_samples=len(session.train))
    num_timesteps = session.objective.schedule.config.num_train_timesteps
    draws = draw_step(spec, step, latent_shape=session.train.latent_shape, num_timesteps=num_timesteps)
    return order, draws


def _accumulate(session: Session, order: list[int], draws: StepDraws, watch: Stopwatch) -> "torch.Tensor":
    """Gradients of this member's share of the batch; its share of the mean loss, which stays on the device."""
    import torch

    batch = session.job.spec.effective_batch_size
    losses = []
    for part in micro_batches(session.team.share(batch), session.decisions.micro_batch):
        if session.team.size == 1:  # the others would wait for this member's share
            session.request.heed()
        session.dropout.step, session.dropout.positions = session.step, range(batch)[part]
        with watch.part("data"):
            inputs = session.objective.batch(session.train, order, draws, part)
        with watch.part("forward"):
            loss = session.objective.training_losses(inputs).sum() / batch
        with watch.part("backward"):
            session.scaler.scale(loss).backward()
        losses.append(loss.detach())
    session.dropout.positions = ()
    return torch.stack(losses).sum()


def micro_batches(share: range, size: int) -> Iterator[slice]:
    """Positions in the effective batch, at most `size` at a time."""
    for start in range(share.start, share.stop, size):
        yield slice(start, min(start + size, share.stop))


def _update(session: Session, loss: "torch.Tensor", rate: float) -> tuple[float, float]:
    """Clip and step; the loss and the gradient's norm before clipping. The only place that waits for the device."""
    import torch

    session.scaler.unscale_(session.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(session.parameters.values(), session.job.spec.max_grad_norm)
    value, size = torch.stack([loss, norm.to(loss.device)]).tolist()
    if not (math.isfinite(value) and math.isfinite(size)):
        _refuse(session, value, size)
    set_learning_rate(session.optimizer, rate)
    session.scaler.step(session.optimizer)
    session.scaler.update()
    if session.average is not None:
        session.average.update(session.parameters)
    return value, size


def _refuse(session: Session, loss: float, norm: float) -> None:
    """In fp16 an infinite gradient under a finite loss is first of all a loss scale that is too large."""
    if session.scaler.is_enabled():
        session.scaler.update()
        if math.isfinite(loss) and session.scaler.get_scale() >= 1:
            raise _Overflow
    raise NotFinite("loss", loss) if not math.isfinite(loss) else NotFinite("gradient", norm)

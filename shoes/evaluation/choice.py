"""Which checkpoint is exported: a shortlist by held-out loss, then the earliest whose pictures are not worse.

Everything is measured on the validation split, so that the test split is looked at once, at the end. The lowest
held-out loss alone can lie before the best pictures, or a hair below an earlier checkpoint that is as good.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shoes.evaluation.distances import Estimate
from shoes.evaluation.statistics import Floats
from shoes.reports import HeldOutLoss, Interval

ERRORS = 2.0
"""A difference of distances counts when it is larger than so many standard errors."""


@dataclass(frozen=True)
class Pictured:
    """What a shortlisted checkpoint drew, as the judge saw it."""

    clip_minus_best: Interval | None
    """None for the one with the highest CLIP score, and where there are too few pictures."""
    cmmd_minus_best: Estimate | None
    """None for the one with the smallest distance, and where there are too few photos."""

    @property
    def is_worse(self) -> bool:
        """Reliably below the best in fidelity, or reliably further from the photos."""
        unlike = self.clip_minus_best is not None and self.clip_minus_best.high < 0
        found = self.cmmd_minus_best
        return unlike or (found is not None and found.value > ERRORS * found.standard_error)


def shortlist(losses: Mapping[int, Floats]) -> list[int]:
    """Steps whose held-out loss is within one paired standard error of the lowest, in order.

    Args:
        losses: for each step the same photos' losses at the same timesteps and noise, [photos × timesteps].
    """
    best = lowest(losses)
    return [step for step in sorted(losses) if _is_close(losses[step], losses[best])]


def lowest(losses: Mapping[int, Floats]) -> int:
    """The step with the lowest held-out loss, the earliest of equals."""
    return min(losses, key=lambda step: (losses[step].mean(), step))


def _is_close(losses: Floats, best: Floats) -> bool:
    differences = (losses - best).mean(1)
    error = differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else 0.0
    return bool(differences.mean() <= error)


def choose(pictured: Mapping[int, Pictured]) -> int:
    """The earliest of the shortlisted steps that is not worse than the best of them."""
    return min((step for step, found in pictured.items() if not found.is_worse), default=max(pictured))


def reason(
    step: int,
    shortlisted: Sequence[int],
    pictured: Mapping[int, Pictured],
    losses: Sequence[HeldOutLoss],
    *,
    why_not_drawn: str = "",
) -> str:
    """Why this step, in words.

    Args:
        why_not_drawn: why pictures could not tell several shortlisted steps apart; empty: they did.
    """
    by_step = {loss.step: loss for loss in losses}
    best = min((by_step[s] for s in shortlisted), key=lambda loss: (loss.mean, loss.step))
    if len(shortlisted) == 1:
        text = f"step {step:,} has the lowest held-out loss, and no other is within one standard error of it"
    elif why_not_drawn:
        others = ", ".join(f"{s:,}" for s in shortlisted if s != step)
        text = (
            f"step {step:,} has the lowest held-out loss, within one standard error of {others}; pictures could not "
            f"tell them apart, because {why_not_drawn}"
        )
    else:
        others = ", ".join(f"{s:,}" for s in shortlisted)
        name = "" if step == best.step else f", step {best.step:,} being the lowest"
        text = (
            f"the held-out losses of steps {others} are within one standard error of the lowest{name}; of these step "
            f"{step:,} is the earliest whose pictures are not worse{_told(step, pictured)}"
        )
    return text + _overfitting(by_step[step], losses)


def _told(step: int, pictured: Mapping[int, Pictured]) -> str:
    worse = [f"{s:,}" for s, found in sorted(pictured.items()) if s < step and found.is_worse]
    return f" (those of {', '.join(worse)} are)" if worse else ""


def _overfitting(chosen: HeldOutLoss, losses: Sequence[HeldOutLoss]) -> str:
    """What came after the chosen step, where it was overfitting."""
    last = max(losses, key=lambda loss: loss.step)
    gap = (last.mean - last.train_mean) - (chosen.mean - chosen.train_mean)
    if last.step == chosen.step or last.mean <= chosen.mean or gap <= 0:
        return ""
    return (
        f". After it the training overfitted: by step {last.step:,} the held-out loss had risen by "
        f"{last.mean - chosen.mean:.4f}, and the gap to the loss on training photos by {gap:.4f}"
    )

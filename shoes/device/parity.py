"""Does the device compute what the CPU computes in fp32? One training step and one decode say it.

A precision that does not agree, or that gives a NaN, is left for the next safer one; the last is fp32 on the CPU,
which is what the others are compared with.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shoes.device.decisions import precision_name, safer_precisions
from shoes.device.facts import DeviceFacts
from shoes.device.memory import is_out_of_memory
from shoes.errors import TrainingError
from shoes.reports import ParityTrial

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
REFERENCE = ("cpu", "no")


@dataclass(frozen=True)
class Outcome:
    """What one training step and one decode gave, in fp32 on the CPU."""

    loss: float
    prediction: "torch.Tensor"
    """1×C×h×w: the noise that the UNet predicts."""
    gradients: "torch.Tensor"
    """All the adapter's gradients, flattened into one vector."""
    picture: "torch.Tensor"
    """1×3×H×W in about −1..1: what the VAE decodes."""


Compute = Callable[[str, str], Outcome]
"""(device, precision) → what came out."""


@dataclass(frozen=True)
class Tolerance:
    """Largest relative error (L2 norm of the difference by that of the reference) of each part."""

    loss: float
    prediction: float
    gradients: float
    picture: float


# Measured, bf16 against fp32 on a CPU, in the middle of the noise schedule. A full-size UNet of SD 1.5's shape with
# random weights, 256 px: loss 0.02 % off, prediction 1.2 %, gradients 1.6 %. The demo's trained model, 64 px: 0.05 %,
# 0.5 %, 3.3 %. The limits are two to three times the larger of both, and tell a prediction that is 5 % wrong. fp16 has
# three bits more and gets a third of bf16's limits, since some of its sums lose more than its rounding. fp32 on a
# GPU sums in another order, and CUDA convolves in TF32, which has as many bits as fp16. The VAE is always in fp32.
TOLERANCES = {
    "no": Tolerance(loss=0.005, prediction=0.01, gradients=0.03, picture=0.01),
    "fp16": Tolerance(loss=0.01, prediction=0.01, gradients=0.03, picture=0.01),
    "bf16": Tolerance(loss=0.02, prediction=0.03, gradients=0.1, picture=0.01),
}


def find_right_precision(compute: Compute, device: str, precision: str, facts: DeviceFacts) -> tuple[ParityTrial, ...]:
    """Try a device and precision, and safer ones while they are wrong; the last trial is the one to use.

    Nothing is computed for fp32 on the CPU: it is right by definition, and as a first choice has no trial.
    """
    if (device, precision) == REFERENCE:
        return ()
    log.info("checking one step and one decode on %s in %s against fp32 on the CPU", device, precision_name(precision))
    reference = compute(*REFERENCE)
    trials: list[ParityTrial] = []
    for choice in [(device, precision), *safer_precisions(device, precision, facts)]:
        trials.append(_reference_trial() if choice == REFERENCE else try_precision(compute, *choice, reference))
        _tell(trials[-1])
        if trials[-1].passed:
            break
    return tuple(trials)


def try_precision(compute: Compute, device: str, precision: str, reference: Outcome) -> ParityTrial:
    """One trial. A device that has no kernel for something fails like one that computes wrong.

    Raises:
        TrainingError: one image does not fit into the device's memory.
    """
    started = time.monotonic()
    try:
        trial = compare(compute(device, precision), reference, device, precision)
    except (RuntimeError, NotImplementedError) as error:  # what PyTorch raises for a missing kernel and full memory
        if is_out_of_memory(error):
            raise TrainingError(
                f"The memory of {device} is too small to train on one image. Close other programs, or train with "
                "--train.gradient_checkpointing full or a smaller --train.resolution."
            ) from error
        reason = f"{type(error).__name__}: {(str(error) or 'no reason given').splitlines()[0]}"
        trial = ParityTrial(device=device, precision=precision, passed=False, verdict=reason)
    return trial.model_copy(update={"seconds": time.monotonic() - started})


def compare(outcome: Outcome, reference: Outcome, device: str, precision: str) -> ParityTrial:
    """One trial's errors, against the tolerances of its precision."""
    errors = {
        "loss": abs(outcome.loss - reference.loss) / abs(reference.loss),
        "prediction": relative_error(outcome.prediction, reference.prediction),
        "gradients": relative_error(outcome.gradients, reference.gradients),
        "picture": relative_error(outcome.picture, reference.picture),
    }
    wrong = [_fault(name, error, getattr(TOLERANCES[precision], name)) for name, error in errors.items()]
    faults = [fault for fault in wrong if fault]
    finite = {name: error if math.isfinite(error) else None for name, error in errors.items()}
    return ParityTrial(
        device=device,
        precision=precision,
        passed=not faults,
        verdict="; ".join(faults) or "agrees with fp32 on the CPU",
        loss_error=finite["loss"],
        prediction_error=finite["prediction"],
        gradient_error=finite["gradients"],
        decode_error=finite["picture"],
    )


def relative_error(value: "torch.Tensor", reference: "torch.Tensor") -> float:
    """‖value − reference‖ / ‖reference‖; NaN or infinite when the value is."""
    return float((value.double() - reference.double()).norm() / reference.double().norm())


def in_words(trials: tuple[ParityTrial, ...]) -> str:
    """The outcome in one line, for people; empty when nothing was tried."""
    if not trials:
        return ""
    taken = _spelled(trials[-1])
    if len(trials) == 1:
        return f"{taken} {trials[-1].verdict}"
    left = "; ".join(f"{_spelled(trial)} computes wrong ({trial.verdict})" for trial in trials[:-1])
    return f"{left}; so {taken} was taken"


def _reference_trial() -> ParityTrial:
    device, precision = REFERENCE
    verdict = "what the others are compared with"
    return ParityTrial(device=device, precision=precision, passed=True, verdict=verdict)


def _fault(name: str, error: float, limit: float) -> str:
    names = {"prediction": "predicted noise", "gradients": "gradient"}
    what = f"the {names.get(name, name)}"
    if not math.isfinite(error):
        return f"{what} is not finite"
    return f"{what} is {error:.1%} off, {limit:.1%} are allowed" if error > limit else ""


def _spelled(trial: ParityTrial) -> str:
    return f"{trial.device} in {precision_name(trial.precision)}"


def _tell(trial: ParityTrial) -> None:
    if not trial.passed:
        log.warning("%s computes wrong: %s. The next safer precision is tried.", _spelled(trial), trial.verdict)
    elif (trial.device, trial.precision) == REFERENCE:
        log.warning("training on the CPU in fp32: slow, and right")
    else:
        parts = (trial.loss_error, trial.prediction_error, trial.gradient_error, trial.decode_error)
        log.info(
            "%s agrees with fp32 on the CPU: loss %s, prediction %s, gradients %s, decode %s off",
            _spelled(trial),
            *(f"{error:.2%}" for error in parts if error is not None),
        )

"""Does the device compute what the CPU computes in fp32? Every kind of work that a night does is compared.

What disagrees, gives NaN, or has no kernel is named, and the least is changed that can help: an optimizer whose fused
kernel is wrong goes on without it, a micro-batch that is wrong as a whole only is halved, and else the next safer
precision is taken. The last resort is fp32 on the CPU, which is what all others are compared with.
"""

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from shoes.device.decisions import precision_name, safer_precisions
from shoes.device.facts import DeviceFacts
from shoes.reports import ParityTrial

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
REFERENCE = ("cpu", "no")


@dataclass(frozen=True)
class Way:
    """How a training computes, as far as the check may change it."""

    device: str
    precision: str
    checkpointing: str = "off"
    micro_batch: int = 1
    """Images in one forward and backward pass."""
    fused_optimizer: bool = True
    """AdamW updates all parameters in one kernel."""

    @property
    def is_reference(self) -> bool:
        """Whether this is what the others are compared with."""
        return (self.device, self.precision) == REFERENCE


@dataclass(frozen=True)
class Outcome:
    """What one way gave."""

    values: "Mapping[str, tuple[torch.Tensor, ...]]"
    """By part (a name in `PARTS`), in fp32 on the CPU: tensors that are compared one by one, of which the worst counts.
    A part that is not there was not measured."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """What PyTorch raised, by part."""
    is_tf32: bool = False
    """The device computes products of fp32 in TF32."""


Compute = Callable[[Way], Outcome]
"""What comes out of a way. For `REFERENCE` it has to compute as exactly as the CPU can."""
Plan = Callable[[str, str], Way]
"""(device, precision) → how one would train so."""


@dataclass(frozen=True)
class Tolerance:
    """Largest relative error (L2 norm of the difference by that of the reference), by what is computed in."""

    fp32: float
    tf32: float
    fp16: float | None = None
    """None here and below: the part is in fp32, whatever the precision."""
    bf16: float | None = None

    def limit(self, precision: str, *, is_tf32: bool) -> float:
        """What is taken for rounding in a precision; `is_tf32` as in `Outcome`."""
        half = {"fp16": self.fp16, "bf16": self.bf16}.get(precision)
        full = self.tf32 if is_tf32 else self.fp32
        return full if half is None else half


@dataclass(frozen=True)
class Part:
    """One kind of work."""

    words: str
    """What would be wrong; `{size}` stands for the micro-batch."""
    tolerance: Tolerance
    follows: tuple[str, ...] = ()
    """Parts that spoil this one, too: where one of them is wrong, this one's fault is not told."""


# Measured on a CPU against fp32, with an adapter that does something. `Demo` is the demo's trained model at 64 px,
# `narrow` one of Stable Diffusion 1.5's layout and a fifth of its width with random weights at 256 px; an earlier
# measurement of the prediction at full width (random weights, 256 px, bf16) was 1.2 %. The largest of several photos:
#
#                       bf16            fp16             TF32 (each product's inputs rounded to 10 bits)
#                       demo   narrow   demo    narrow   demo     narrow
#   predicted noise     0.5    1.5      0.06    0.19     0.04     0.12 %
#   gradient            3.1    1.3      0.21    0.16     0.07     0.09   %
#   loss                0.26   0.03     0.03    0.004    0.001           %
#   sampled, 3 steps    6.1    2.8      0.68    0.34     0.37     0.17   %    guidance 7.5; three samplers
#   VAE encode, decode                                   0.08     0.32   %
#   text encoder                                         0.03     0.07   %
#
# Limits are two to three times the larger, in fp16 more, since some of its sums lose more than its rounding. Two
# devices that sum fp32 in another order differ by 0.0001 %; the limits of fp32 are above what a GPU is off that
# computes fp32 as TF32 without saying so, and no more: attention that is 5 % off changes the predicted noise by 0.5 to
# 2.4 %.
PARTS = {
    "text": Part("the text encoder's output", Tolerance(0.002, 0.003)),
    "encode": Part("the VAE's encoding", Tolerance(0.003, 0.01)),
    "decode": Part("the VAE's decoding", Tolerance(0.004, 0.01)),
    "loss": Part("the loss", Tolerance(0.003, 0.005, 0.01, 0.02)),
    "prediction": Part("the predicted noise", Tolerance(0.002, 0.003, 0.01, 0.03)),
    "gradient": Part("the gradient", Tolerance(0.005, 0.01, 0.03, 0.1), ("prediction",)),
    "batch_prediction": Part(
        "the predicted noise of {size} images at once", Tolerance(0.002, 0.003, 0.01, 0.03), ("prediction",)
    ),
    "batch_gradient": Part(
        "the gradient of {size} images at once",
        Tolerance(0.005, 0.01, 0.03, 0.1),
        ("prediction", "gradient", "batch_prediction"),
    ),
    "held_out": Part("the predicted noise without gradients", Tolerance(0.002, 0.003, 0.01, 0.03), ("prediction",)),
    "sampling": Part("what is sampled", Tolerance(0.005, 0.01, 0.02, 0.15), ("text", "prediction", "held_out")),
    # No products: fused and not it differs by 0.00001 %, and of Adam's updates all are about as large as the rate.
    "optimizer": Part("the optimizer's update", Tolerance(0.001, 0.001)),
}
"""Everything that is compared, in the order in which it is told."""
_TOGETHER = frozenset({"batch_prediction", "batch_gradient"})
_ALWAYS_FP32 = frozenset({"text", "encode", "decode"})


def find_right_way(compute: Compute, way: Way, facts: DeviceFacts, plan: Plan | None = None) -> tuple[ParityTrial, ...]:
    """Try a way, and safer ones while they are wrong; the last trial is the one to use.

    Nothing is computed for fp32 on the CPU: it is right by definition, and as a first choice has no trial.

    Args:
        plan: how one would train on another device or in another precision; left out, as in `way`.

    Raises:
        TrainingError: one image does not fit into the device's memory.
    """
    if way.is_reference:
        return ()
    plan = plan or (lambda device, precision: replace(way, device=device, precision=precision))
    log.info("comparing %s in %s with fp32 on the CPU", way.device, precision_name(way.precision))
    trials = [_tell(try_way(compute, way, facts))]
    while not trials[-1].passed:
        way = safer_way(way, trials[-1].wrong, facts, plan)
        trials.append(_tell(try_way(compute, way, facts)))
    return tuple(trials)


def safer_way(way: Way, wrong: Collection[str], facts: DeviceFacts, plan: Plan) -> Way:
    """The least change that can help against what is wrong: names in `PARTS`, at least one of them.

    What is in fp32 whatever the precision would be as wrong in the next one: then the device is left at once.
    """
    parts = set(wrong)
    is_fused = way.fused_optimizer and "optimizer" not in parts
    is_hopeless = bool(parts & _ALWAYS_FP32) or ("optimizer" in parts and not way.fused_optimizer)
    smaller = max(1, way.micro_batch // 2) if parts & _TOGETHER else way.micro_batch
    changed = replace(way, fused_optimizer=is_fused, micro_batch=smaller)
    if parts <= {"optimizer", *_TOGETHER} and not is_hopeless and changed != way:
        return changed
    if is_hopeless:
        return plan(*REFERENCE)
    found = plan(*safer_precisions(way.device, way.precision, facts)[0])
    return replace(found, fused_optimizer=is_fused) if found.device == way.device else found


def try_way(compute: Compute, way: Way, facts: DeviceFacts) -> ParityTrial:
    """One trial. A device that has no kernel for something fails like one that computes wrong.

    Raises:
        TrainingError: one image does not fit into the device's memory.
    """
    started = time.monotonic()
    if way.is_reference:
        trial = _trial(way, {}, verdict="what the others are compared with")
    else:
        device, precision = REFERENCE
        reference = compute(replace(way, device=device, precision=precision))
        trial = compare(compute(way), reference, way)
    return trial.model_copy(update={"device_name": facts.device_name, "seconds": time.monotonic() - started})


def compare(outcome: Outcome, reference: Outcome, way: Way) -> ParityTrial:
    """One trial's errors, against the tolerances of its precision."""
    errors = {name: worst_error(values, reference.values[name]) for name, values in outcome.values.items()}
    faults = dict(outcome.failures)
    for name, error in errors.items():
        limit = PARTS[name].tolerance.limit(way.precision, is_tf32=outcome.is_tf32)
        if reason := fault_of(error, limit):
            faults[name] = reason
    wrong = tuple(name for name in PARTS if name in faults)
    told = [name for name in wrong if not set(PARTS[name].follows) & set(wrong)]
    words = [f"{PARTS[name].words.format(size=way.micro_batch)} {faults[name]}" for name in told]
    return _trial(way, errors, verdict="; ".join(words) or "agrees with fp32 on the CPU", wrong=wrong)


def relative_error(value: "torch.Tensor", reference: "torch.Tensor") -> float:
    """‖value − reference‖ / ‖reference‖; NaN or infinite when the value is."""
    return float((value.double() - reference.double()).norm() / reference.double().norm())


def worst_error(values: "Sequence[torch.Tensor]", references: "Sequence[torch.Tensor]") -> float:
    """The largest relative error of some tensors, each by itself; not finite where any is."""
    errors = [relative_error(value, reference) for value, reference in zip(values, references, strict=True)]
    return next((error for error in errors if not math.isfinite(error)), max(errors))


def fault_of(error: float, limit: float) -> str:
    """What is to be said of a relative error; nothing where it is within the limit."""
    if not math.isfinite(error):
        return "is not finite"
    return f"is {_percent(error)} off, {_percent(limit)} are allowed" if error > limit else ""


def in_words(trials: tuple[ParityTrial, ...]) -> str:
    """The outcome in one line, for people; empty when nothing was tried."""
    if not trials:
        return ""
    taken = _spelled(trials[-1])
    if len(trials) == 1:
        return f"{taken} {trials[-1].verdict}"
    left = "; ".join(f"{_spelled(trial)} computes wrong ({trial.verdict})" for trial in trials[:-1])
    return f"{left}; so {taken}{_changes(*trials[-2:])} was taken"


def measured_parts(trial: ParityTrial) -> dict[str, float]:
    """What was measured of a trial and is finite: relative errors by their names in `PARTS`."""
    errors = {name: getattr(trial, f"{name}_error") for name in PARTS}
    return {name: error for name, error in errors.items() if error is not None}


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.01 else f"{100 * share:.2g}%"


def _trial(way: Way, errors: Mapping[str, float], *, verdict: str, wrong: tuple[str, ...] = ()) -> ParityTrial:
    found = {f"{name}_error": error for name, error in errors.items() if math.isfinite(error)}
    return ParityTrial.model_validate(
        {
            "device": way.device,
            "precision": way.precision,
            "passed": not wrong,
            "verdict": verdict,
            "wrong": wrong,
            "checkpointing": way.checkpointing,
            "micro_batch": way.micro_batch,
            "fused_optimizer": way.fused_optimizer,
            **found,
        }
    )


def _spelled(trial: ParityTrial) -> str:
    return f"{trial.device} in {precision_name(trial.precision)}"


def _changes(before: ParityTrial, taken: ParityTrial) -> str:
    """What else than device and precision was changed for the trial that was taken."""
    if taken.device != before.device:
        return ""
    words = []
    if taken.precision == before.precision and taken.micro_batch != before.micro_batch:
        words.append(f"micro-batches of {taken.micro_batch}")
    if taken.fused_optimizer is False and before.fused_optimizer:
        words.append("AdamW without its fused kernel")
    return f" with {' and '.join(words)}" if words else ""


def _tell(trial: ParityTrial) -> ParityTrial:
    if not trial.passed:
        log.warning("%s computes wrong: %s. The next safer way is tried.", _spelled(trial), trial.verdict)
    elif (trial.device, trial.precision) == REFERENCE:
        log.warning("training on the CPU in fp32: slow, and right")
    else:
        errors = ", ".join(f"{name.replace('_', ' ')} {error:.2%}" for name, error in measured_parts(trial).items())
        log.info("%s agrees with fp32 on the CPU: off by %s", _spelled(trial), errors)
    return trial

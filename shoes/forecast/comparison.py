"""Precision × micro-batch × checkpointing, side by side, each pair of precision and checkpointing in a process of
its own; the best one is kept for this machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shoes.device import DeviceFacts, checkpointing_modes, precision_name, problems
from shoes.errors import TrainingError
from shoes.forecast.child import ask
from shoes.forecast.choices import ChoiceMeasurement
from shoes.forecast.probe import Request
from shoes.forecast.reports import Choice, Forecast
from shoes.progress import Progress
from shoes.spec import Precision, TrainSpec
from shoes.training.choice import fastest, micro_batches

PRECISIONS: tuple[Precision, ...] = ("no", "bf16", "fp16")


def possible_precisions(spec: TrainSpec, facts: DeviceFacts) -> tuple[Precision, ...]:
    """Precisions that the device can compute in at all."""
    return tuple(p for p in PRECISIONS if not problems(spec.model_copy(update={"mixed_precision": p}), facts))


def measure_rows(
    request: Request,
    forecast: Forecast,
    precisions: Sequence[Precision],
    find_fault: Callable[[str], str],
    report: Progress,
) -> list[Choice]:
    """One row per choice.

    Args:
        find_fault: what is wrong with a precision's results on this device; nothing means that they are right.
    """
    rows: list[Choice] = []
    modes = checkpointing_modes(request.recipe.train, request.decisions["device"])
    pairs = [(precision, mode) for precision in precisions for mode in modes]
    for number, (precision, mode) in enumerate(pairs):
        report(number, len(pairs), f"{precision_name(precision)}, checkpointing {mode}")
        fault = find_fault(precision)
        rows += [_refused(precision, mode, fault)] if fault else _measure_pair(request, forecast, precision, mode)
    report(len(pairs), len(pairs))
    return rows


@dataclass(frozen=True)
class _Pair:
    """What was measured with one precision and checkpointing."""

    request: Request
    forecast: Forecast
    precision: str
    mode: str
    found: Sequence[ChoiceMeasurement]
    note: str
    """Why nothing more was found."""

    def of(self, size: int) -> ChoiceMeasurement | None:
        """The measurement of a micro-batch; 0 is drawing."""
        return next((item for item in self.found if item.micro_batch == size), None)


def _measure_pair(request: Request, forecast: Forecast, precision: str, mode: str) -> list[Choice]:
    sizes = micro_batches(request.recipe.train.effective_batch_size)
    decisions = {**request.decisions, "precision": precision, "checkpointing": mode}
    asked = request.model_copy(update={"decisions": decisions, "micro_batches": sizes, "seconds": request.seconds / 4})
    found: list[ChoiceMeasurement] = []
    note = "does not fit into memory"
    try:
        found.extend(ask(asked, ChoiceMeasurement))
    except TrainingError as error:
        note = str(error)
    pair = _Pair(request, forecast, precision, mode, found, note)
    return [_row(pair, size) for size in sizes]


def _row(pair: _Pair, size: int) -> Choice:
    measured, drawing = pair.of(size), pair.of(0)
    if measured is None or measured.seconds is None:
        return _refused(pair.precision, pair.mode, pair.note, size)
    forecast = pair.forecast
    step = measured.seconds * pair.request.recipe.train.effective_batch_size / size
    rest = forecast.night_seconds - forecast.num_steps * forecast.seconds_per_step
    return Choice(
        precision=pair.precision,
        micro_batch=size,
        checkpointing=pair.mode,
        seconds_per_step=step,
        training_bytes=measured.peak_bytes,
        inference_bytes=drawing.peak_bytes if drawing else None,
        total_seconds=rest + forecast.num_steps * step,
        seconds_per_image=drawing.seconds if drawing else None,
    )


def _refused(precision: str, mode: str, why: str, size: int = 1) -> Choice:
    return Choice(
        precision=precision,
        micro_batch=size,
        checkpointing=mode,
        seconds_per_step=None,
        training_bytes=None,
        inference_bytes=None,
        total_seconds=None,
        seconds_per_image=None,
        note=why,
    )


def choose(rows: Sequence[Choice], spec: TrainSpec, forecast: Forecast) -> tuple[int, str]:
    """The row to train with, and why: the fastest that fits, is right, and that the recipe leaves open.

    The recipe's own row is kept unless another one is faster by more than chance.
    """
    open_rows = [(row.seconds_per_step, n) for n, row in enumerate(rows) if _is_open(row, spec, forecast)]
    own = next((n for n, row in enumerate(rows) if _is_own(row, forecast)), None)
    timed = [(seconds, n) for seconds, n in open_rows if seconds is not None]
    if not timed:
        raise TrainingError(
            "Nothing that the recipe leaves open fits into memory: set train.mixed_precision and "
            "train.gradient_checkpointing to auto, or lower train.resolution."
        )
    return fastest(timed, own)


def _is_open(row: Choice, spec: TrainSpec, forecast: Forecast) -> bool:
    """The recipe allows it, and it fits."""
    precision = spec.mixed_precision in ("auto", row.precision)
    checkpointing = spec.gradient_checkpointing in ("auto", row.checkpointing)
    fits = row.training_bytes is not None and row.training_bytes <= forecast.memory_limit_bytes
    return precision and checkpointing and fits


def _is_own(row: Choice, forecast: Forecast) -> bool:
    mine = (forecast.precision, forecast.micro_batch, forecast.checkpointing)
    return (row.precision, row.micro_batch, row.checkpointing) == mine

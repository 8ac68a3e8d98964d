"""An optimizer step at full size: ours, the bare computation, and the usual recipe, in turns in one process.

All three have the same base, adapter, precision and micro-batch. Ratios are medians of those within a round, so that
what the device does besides changes little. Memory is what an arm's tensors take at most: its own weights, and what its
step adds.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.device import ground
from benchmarks.device.flops import step_flops
from benchmarks.device.peaks import Peak, peak_of
from benchmarks.device.place import Place
from benchmarks.device.rows import Row, failed, no_time
from benchmarks.speed.arms import Arm, Bare, Ours, Usual
from shoes.training.run import Decisions, Job

PART = "speed"
ARMS = ("ours", "bare", "usual")
FAST_SECONDS = 0.12
"""A device that is faster than this for one image takes steps of IMAGES; a slower one of one micro-batch."""
IMAGES = 16
Values = dict[str, Any]


@dataclass
class Bench:
    """The arms that are open, and what is known of them."""

    place: Place
    job: Job
    decisions: Decisions
    peak: Peak
    flops_per_image: float
    arms: dict[str, Arm] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    """Bytes that an arm's weights take."""
    one_image_seconds: float = 1.0
    """Of one pass of ours with one image."""

    def num_images(self, micro_batch: int) -> int:
        """Images in one step."""
        return IMAGES if self.one_image_seconds < FAST_SECONDS else micro_batch


@dataclass(frozen=True)
class Tried:
    """One arm with one micro-batch."""

    seconds: tuple[float, ...]
    """Of a step, round by round."""
    peak_bytes: int


def run(place: Place) -> Iterator[Row]:
    from shoes.device import precision_name
    from shoes.training.measuring import timed

    job, seconds = timed(lambda: _job(place))
    yield Row(PART, "random weights of this size made", f"{seconds:.1f} s", "Stable Diffusion 1.5's published configs")
    decisions = ground.decisions_for(job, place.precision, micro_batch=1)
    bench = Bench(
        place,
        job,
        decisions,
        peak_of(place.device, place.facts.device_name, decisions.precision),
        step_flops(job.model.path, job.spec).step,
    )
    name = precision_name(decisions.precision)
    billions = bench.flops_per_image / 1e9
    figure = f"{billions / 1000:.2f} TFLOP" if billions >= 1000 else f"{billions:.2f} GFLOP"
    note = f"forward and backward in {name}, {place.options.resolution} px, rank {job.spec.rank}"
    yield Row(PART, "a step needs for one image", figure, note, values={"flops": bench.flops_per_image})
    yield from _open(bench)
    for size in place.options.micro_batches:
        yield from _micro_batch(bench, size)


def _job(place: Place) -> Job:
    return ground.full_job(place, PART, {"train.train_batch_size": "1", "train.gradient_accumulation_steps": "1"})


def _open(bench: Bench) -> Iterator[Row]:
    """Load every arm once; how long ours takes for one image decides how many a step has."""
    makers: dict[str, Callable[[], Arm]] = {
        "ours": lambda: Ours(bench.job, bench.decisions),
        "bare": lambda: Bare(bench.job, bench.decisions),
        "usual": lambda: Usual(bench.job, bench.decisions, micro_batch=1),
    }
    for name, make in makers.items():
        before = held_bytes(bench.place.device)
        try:
            bench.arms[name] = make()
        except Exception as error:  # noqa: BLE001 - the others are to run
            yield _refused(bench, f"{name}, loaded", error)
            continue
        bench.held[name] = held_bytes(bench.place.device) - before
    if "ours" in bench.arms:
        step = bench.arms["ours"]
        _seconds(bench, step)
        bench.one_image_seconds = min(_seconds(bench, step) for _ in range(2))
        bench.place.notes["is_fast"] = bench.one_image_seconds < FAST_SECONDS


def _micro_batch(bench: Bench, size: int) -> Iterator[Row]:
    images = bench.num_images(size)
    needed = 3 * (2 + 1) * images * bench.one_image_seconds
    if bench.place.seconds_left < needed:
        yield no_time(PART, f"micro-batch {size}")
        return
    peaks: dict[str, int] = {}
    for name, arm in bench.arms.items():
        try:
            peaks[name] = _warmed_up(bench, name, arm, images, size)
        except Exception as error:  # noqa: BLE001 - the others are to run
            yield _refused(bench, f"{name}, micro-batch {size}", error)
    seconds = _rounds(bench, list(peaks))
    tried = {name: Tried(tuple(seconds[name]), peaks[name]) for name in peaks}
    if tried:
        yield from _rows_of(bench, tried, images, size)


def _warmed_up(bench: Bench, name: str, arm: Arm, images: int, size: int) -> int:
    """Two steps of a new size; the most memory that the arm takes with it."""
    from shoes.device import release, watch_memory

    device = bench.place.device
    arm.resize(images, size)
    if isinstance(arm, Ours):
        bench.decisions = replace(bench.decisions, micro_batch=size, checkpointing=_checkpointing(bench, size))
        arm.session.adapt(bench.decisions)
    release(device)
    with watch_memory(device) as watch:
        for _ in range(2):
            loss = arm.step()
    if not math.isfinite(loss):
        raise ArithmeticError(f"the loss of {name} is {loss}")
    return bench.held[name] + watch.growth_bytes


def _checkpointing(bench: Bench, size: int) -> str:
    """What the program computes again with this micro-batch, by its estimate."""
    from shoes import device

    spec, decided = bench.job.spec.model_copy(update={"train_batch_size": size}), bench.decisions
    return device.choose_checkpointing(spec, decided.device, decided.precision, bench.place.facts).value


def _refused(bench: Bench, what: str, error: BaseException) -> Row:
    """A row for an arm that does not fit, or fails."""
    from shoes.device import is_out_of_memory, release

    for arm in bench.arms.values():
        arm.forget()
    release(bench.place.device)
    if not is_out_of_memory(error):
        return failed(PART, what, error)
    others = sum(bench.held.values()) / 1024**3
    return Row(PART, what, "does not fit", f"beside the weights of all arms, {others:.1f} GB", status="does not fit")


def _rounds(bench: Bench, names: list[str]) -> dict[str, list[float]]:
    """Seconds of a step by arm; each round begins with another one. At least one round, however long it takes."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(bench.place.options.num_rounds):
        shift = number % len(names) if names else 0
        for name in names[shift:] + names[:shift]:
            found[name].append(_seconds(bench, bench.arms[name]))
        if bench.place.seconds_left <= 0:
            break
    return found


def _seconds(bench: Bench, arm: Arm) -> float:
    """Of one step, with the device's work behind it."""
    from shoes.training.measuring import timed

    synchronize(bench.place.device)

    def work() -> None:
        arm.step()
        synchronize(bench.place.device)

    return timed(work)[1]


def _rows_of(bench: Bench, tried: dict[str, Tried], images: int, size: int) -> Iterator[Row]:
    """How fast each arm is; how much of the device they use; how much memory they take."""
    from shoes.progress import size as in_words

    rates = {name: images / statistics.median(arm.seconds) for name, arm in tried.items()}
    for name, rate in rates.items():
        values: Values = {"arm": name, "micro_batch": size, "images_per_step": images, "images_per_second": rate}
        values["seconds"] = list(tried[name].seconds)
        notes = [_against(values, tried, other) for other in tried if name == "ours" and other != name]
        if name == "ours":
            values["checkpointing"] = mode = bench.decisions.checkpointing
            notes += [f"checkpointing {mode}"] if mode != "off" else []
        yield Row(PART, f"micro-batch {size}: {name}", f"{rate:.2f} images/s", "; ".join(notes), values=values)
    if bench.peak.tflops:
        used = {name: rate * bench.flops_per_image / bench.peak.tflops / 1e12 for name, rate in rates.items()}
        yield _shared(f"micro-batch {size}: use of the peak", used, lambda value: f"{value:.0%}", size, "mfu")
    bytes_of = {name: arm.peak_bytes for name, arm in tried.items()}
    row = _shared(f"micro-batch {size}: peak memory", bytes_of, in_words, size, "peak_bytes")
    if "ours" in tried:
        said = _estimate(bench, size)
        note = f"estimate {in_words(said)}" + (f"; {row.note}" if row.note else "")
        row = replace(row, note=note, values={**row.values, "estimated_bytes": said})
    yield row


def _shared(what: str, by_arm: Mapping[str, Any], spell: Callable[[Any], str], size: int, name: str) -> Row:
    """One row for all arms: the first in the figure, the others in the note."""
    first, *others = by_arm
    note = ", ".join(f"{arm} {spell(by_arm[arm])}" for arm in others)
    return Row(PART, what, spell(by_arm[first]), note, values={"micro_batch": size, name: dict(by_arm)})


def _against(values: Values, tried: dict[str, Tried], other: str) -> str:
    pairs = zip(tried["ours"].seconds, tried[other].seconds, strict=True)
    ratios = [mine / its for mine, its in pairs]
    found = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    values[f"over_{other}"] = found
    return f"{found['median']:.2f} of {other}'s time ({found['min']:.2f} to {found['max']:.2f})"


def _estimate(bench: Bench, size: int) -> int:
    from shoes.device.estimate import training_bytes

    spec, decided = bench.job.spec.model_copy(update={"train_batch_size": size}), bench.decisions
    return training_bytes(spec, decided.device, decided.precision, checkpointing=decided.checkpointing)  # type: ignore[arg-type]


def held_bytes(device: str) -> int:
    """What is in use now."""
    import torch

    from shoes.device import release

    release(device)
    if device == "cuda":
        return int(torch.cuda.memory_allocated())
    if device == "mps":
        return int(torch.mps.driver_allocated_memory())
    import psutil

    return int(psutil.Process().memory_info().rss)


def synchronize(device: str) -> None:
    """Wait for the device's work."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()

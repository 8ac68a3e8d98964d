"""A training of the demo's model that is stopped and gone on with in another process, against one that never was.

`python -m benchmarks.device.parts.resume` is that other process.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.device import ground
from benchmarks.device.place import Options, Place
from benchmarks.device.rows import Row, failed, no_time, one_line
from shoes.training.run import Decisions, Job

PART = "resume"
NUM_STEPS = 6
FEW = {
    "train.max_train_steps": "200",
    "train.train_batch_size": "2",
    "train.gradient_accumulation_steps": "2",
}
"""Small batches; the steps are the first of a long training."""
FILES = ("adapter.safetensors", "optimizer.safetensors")


def run(place: Place) -> Iterator[Row]:
    """A precision after the other, the device's own first."""
    from shoes.device import precision_name

    for precision in sorted(place.precisions, key=lambda p: p != place.precision):
        what = f"{precision_name(precision)}: {NUM_STEPS} steps, stopped after {NUM_STEPS // 2}"
        yield no_time(PART, what) if place.seconds_left <= 0 else _compared(place, precision, what)
        if place.options.smoke:
            return


def _compared(place: Place, precision: str, what: str) -> Row:
    whole, again, parted = (f"resume-{precision}-{name}" for name in ("whole", "again", "parted"))
    steps(place, precision, whole, NUM_STEPS)
    steps(place, precision, parted, NUM_STEPS // 2)
    if problem := _in_another_process(place, precision, parted):
        return failed(PART, what, problem)
    if hashes(place, whole) == hashes(place, parted):
        return Row(PART, what, "equal bytes", "adapter and optimizer, the second half by another process")
    steps(place, precision, again, NUM_STEPS)
    difference = _difference(place, whole, parted)
    values = {"largest_difference": difference, "is_deterministic": hashes(place, whole) == hashes(place, again)}
    reason = (
        "two uninterrupted trainings agree, so the resume is at fault"
        if values["is_deterministic"]
        else "two uninterrupted trainings differ as well: this device sums in no fixed order"
    )
    return Row(PART, what, "other bytes", f"adapter off by up to {difference:.1e}; {reason}", "failed", values)


def steps(place: Place, precision: str, name: str, until: int) -> None:
    """Train to a step from the last checkpoint in the folder `name`, and save one there."""
    from shoes.device import release
    from shoes.training import checkpoint
    from shoes.training.session import open_session
    from shoes.training.step import take_step

    job, decisions = prepared(place, precision, name)
    session = open_session(job, decisions, checkpoint.latest(job.checkpoints))
    while session.step < until:
        take_step(session)
    checkpoint.save(job.checkpoints, session.snapshot(), keep=1)
    del session
    release(place.device)


def prepared(place: Place, precision: str, name: str) -> tuple[Job, Decisions]:
    job = ground.demo_job(place, name, {"train.mixed_precision": precision, **FEW})
    return job, ground.decisions_for(job, precision)


def hashes(place: Place, name: str) -> list[str]:
    from shoes.storage import sha256

    return [sha256(_last(place, name) / file) for file in FILES]


def _difference(place: Place, one: str, other: str) -> float:
    from shoes.tensors import read_tensors

    first, second = (read_tensors(_last(place, name) / FILES[0]) for name in (one, other))
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def _last(place: Place, name: str) -> Path:
    return sorted((place.options.work / "runs" / name / "checkpoints").glob("step-*"))[-1]


def _in_another_process(place: Place, precision: str, name: str) -> str:
    """What went wrong; nothing when it did not."""
    request = {"work": str(place.options.work), "device": place.device, "smoke": place.options.smoke}
    text = json.dumps({"options": request, "precision": precision, "name": name})
    command = [sys.executable, "-m", "benchmarks.device.parts.resume"]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=False, timeout=max(1.0, place.seconds_left)
    )
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return f"the second process ended with code {done.returncode}: {one_line(last)}" if done.returncode else ""


def main() -> None:
    given = json.loads(sys.stdin.read())
    options = Options(**given["options"] | {"work": Path(given["options"]["work"])})
    steps(Place(options, ends_at=float("inf")), given["precision"], given["name"], NUM_STEPS)


if __name__ == "__main__":
    main()

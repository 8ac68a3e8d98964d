"""An adapter is trained for a few steps, exported, and each of its forms loaded and drawn with: half precision too."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmarks.device import ground
from benchmarks.device.place import Place
from benchmarks.device.rows import Row, failed, no_time
from shoes.training.run import Decisions, Job

if TYPE_CHECKING:
    from shoes.reports import ExportProof, TrainReport

PART = "proof"
NUM_STEPS = 6
TRAINED = {
    "train.train_batch_size": "2",
    "train.gradient_accumulation_steps": "1",
    "train.lr_scheduler": "constant",
    "train.learning_rate": "2e-3",
}
"""A few steps at a high rate: the adapter has to do something."""


def run(place: Place) -> Iterator[Row]:
    few = {"eval.num_inference_steps": "3"} if place.options.smoke else {}
    precisions = place.precisions[-1:] if place.options.smoke else place.precisions
    for precision in reversed(precisions):  # those in which proofs have failed come first
        job = ground.demo_job(place, f"{PART}-{precision}", TRAINED | few)
        yield proved(PART, place, job, precision, "the demo's model")


def proved(part: str, place: Place, job: Job, precision: str, where: str) -> Row:
    """One row for an export in a precision: refused, doubted, or proven."""
    from shoes.device import precision_name

    what = f"{precision_name(precision)}, {where}, {job.spec.resolution} px"
    if place.seconds_left <= 0:
        return no_time(part, what)
    try:
        proof = export_and_prove(job, precision)
    except Exception as error:  # noqa: BLE001 - a refused export is what this part looks for
        return failed(part, what, error)
    values = {**proof.model_dump(mode="json"), "precision": precision_name(precision)}
    if proof.doubts:
        return Row(part, what, "doubted", "; ".join(proof.doubts), "failed", values)
    most = max(proof.differences.values())
    figure, note = "equal", "the trained adapter and all three forms draw one picture, byte for byte"
    if most:
        figure = f"{most:.2g} grey levels"
        note = f"of 255, the most of three forms; two orders of rounding differ by {proof.rounding:.2g}"
    return Row(part, what, figure, f"{note}; {proof.seconds:.0f} s", values=values)


def export_and_prove(job: Job, precision: str) -> "ExportProof":
    """Train a few steps, export, and prove as a night does after its training.

    Raises:
        ExportError: a form is not the adapter that was trained.
    """
    from shoes.training.proving import prove_export

    return prove_export(job, trained(job, ground.decisions_for(job, precision)))


def trained(job: Job, decisions: Decisions) -> "TrainReport":
    """The report of a training that ends with its candidate exported as the adapter."""
    from shoes.device import release
    from shoes.publishing.export import adapter_sha256, copy_export
    from shoes.reports import Interval, TrainReport
    from shoes.training.saving import save_candidate
    from shoes.training.session import open_session
    from shoes.training.step import take_step

    session = open_session(job, decisions, None)
    for _ in range(NUM_STEPS):
        take_step(session)
    save_candidate(session)
    step, parameters = session.step, sum(p.numel() for p in session.parameters.values())
    del session
    release(decisions.device)
    adapter = job.folder / "adapter"
    copy_export(job.candidate(step), adapter)
    return TrainReport(
        fingerprint=job.fingerprint,
        run_dir=job.folder,
        adapter_dir=adapter,
        adapter_sha256=adapter_sha256(adapter),
        step=step,
        max_train_steps=step,
        end_reason="all steps were run",
        chosen_step=step,
        losses=(),
        loss_difference=Interval(mean=0.0, low=0.0, high=0.0, level=0.95, num_clusters=0, num_values=0),
        device=decisions.device,
        precision=decisions.precision,
        num_trainable_parameters=parameters,
        images_per_second=0.0,
        resumed_from=(),
        seconds=0.0,
    )

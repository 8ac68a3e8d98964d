"""A finished training whose export is another of its candidates, once one was chosen by its pictures."""

from collections.abc import Sequence

from shoes.publishing.export import adapter_sha256, copy_export
from shoes.reports import CheckpointChoice, TrainReport
from shoes.storage import pretty_json, write_text
from shoes.tracking.journal import Journal
from shoes.training.run import Job
from shoes.training.validation import loss_difference


def export_chosen(
    job: Job, report: TrainReport, choice: CheckpointChoice, captions: Sequence[str], journal: Journal
) -> TrainReport:
    """The training's report with the choice; where another step was chosen, the adapter is that step's from now on.

    The candidate's own files were drawn with when it was compared.

    Args:
        captions: of the validation split, in its order.
    """
    if choice.step != report.chosen_step:
        copy_export(job.candidate(choice.step), report.adapter_dir)
        report = report.model_copy(
            update={
                "chosen_step": choice.step,
                "adapter_sha256": adapter_sha256(report.adapter_dir),
                "loss_difference": loss_difference(job, captions, choice.step),
                "proof": None,
            }
        )
    chosen = report.model_copy(update={"choice": choice})
    write_text(job.folder / "report.json", pretty_json(chosen))
    _record(chosen, choice, journal)
    return chosen


def _record(report: TrainReport, choice: CheckpointChoice, journal: Journal) -> None:
    name = f"choice/{choice.fingerprint}"
    values: dict[str, float] = {"choice/step": choice.step}
    if report.loss_difference is not None:
        values["choice/loss_difference"] = report.loss_difference.mean
    for row in choice.checkpoints:
        scores = {f"choice/clip_score/{row.step}": row.clip_score, f"choice/cmmd/{row.step}": row.cmmd}
        values |= {name: value for name, value in scores.items() if value is not None}
    journal.metrics(name, report.step, values)
    journal.tags(f"{name}/tags", {"checkpoint_reason": choice.reason, "adapter_sha256": report.adapter_sha256})
    journal.artifact(f"adapter/{report.adapter_sha256[:16]}", report.adapter_dir, "adapter")

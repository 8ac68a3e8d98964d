"""A model's first pictures, and the comparison of the options, in MLflow: a run of their own."""

from contextlib import suppress
from pathlib import Path

from shoes.errors import TrackingRefused, TrackingUnavailable
from shoes.model.comparison import OptionComparison
from shoes.model.trial import GRID, TrialPlan, TrialReport
from shoes.settings import Settings
from shoes.spec import Recipe
from shoes.tracking.journal import Journal
from shoes.tracking.mirror import Destination, mirrored

JOURNAL = "journal.jsonl"


def record_trial(report: TrialReport, recipe: Recipe, settings: Settings) -> str | None:
    """Log a trial; its MLflow run, or nothing while MLflow is away: the next try of the same sends it."""
    plan = report.plan
    with Journal(report.path / JOURNAL) as journal:
        _describe(journal, plan, recipe, plan.options)
        values = {
            "try/load_seconds": report.load_seconds,
            "try/cold_seconds": report.cold_seconds,
            "try/warm_seconds": report.warm_seconds,
            "try/images_per_minute": report.images_per_minute,
            "try/peak_bytes": report.peak_bytes,
            "try/growth_bytes": report.growth_bytes,
            "try/bad_images": sum(picture.verdict != "OK" for picture in report.pictures),
        }
        journal.metrics("try", 0, values)
        for number, picture in enumerate(report.pictures):
            journal.image(f"try/{picture.file}", "try", number, report.path / picture.file)
        journal.image("try/grid", "grid", 0, report.path / GRID)
        journal.artifact("try/files", report.path, "try")
        journal.status("try/end", "FINISHED" if report.is_good else "FAILED", step=0)
    return _send(report.path, plan.fingerprint, plan, recipe, settings)


def record_comparison(found: OptionComparison, recipe: Recipe, settings: Settings) -> str | None:
    """Log a comparison of the options; the same."""
    (found.path / JOURNAL).unlink(missing_ok=True)  # the folder is of the newest comparison
    with Journal(found.path / JOURNAL) as journal:
        _describe(journal, found.plan, recipe, {"compared": ", ".join(row.name for row in found.rows)})
        for row in found.rows:
            if not row.skipped:
                name = row.name.replace(" ", "_")
                values = {
                    f"try/{name}/seconds_per_image": row.seconds_per_image,
                    f"try/{name}/growth_bytes": row.growth_bytes,
                    f"try/{name}/max_difference": row.max_difference,
                }
                journal.metrics(f"try/{name}", 0, values)
        journal.artifact("try/comparison", found.path / "comparison.json", "try")
        journal.status("try/end", "FINISHED" if found.is_good else "FAILED", step=0)
    return _send(found.path, found.path.name, found.plan, recipe, settings)


def _describe(journal: Journal, plan: TrialPlan, recipe: Recipe, options: dict[str, object]) -> None:
    fields = plan.model_dump(mode="json", exclude={"inference", "prompts", "name", "model_dir"})
    prompts = {f"prompt_{number + 1}": prompt for number, prompt in enumerate(plan.prompts)}
    journal.parameters({"model": plan.name, **fields, **options, **prompts})
    journal.tags("tags", {"recipe": recipe.name, "device": plan.device, "precision": plan.precision, "kind": "try"})


def _send(folder: Path, name: str, plan: TrialPlan, recipe: Recipe, settings: Settings) -> str | None:
    destination = Destination(
        tracking_uri=settings.tracking_uri,
        artifact_root=settings.mlruns / "artifacts",
        experiment=recipe.publish.experiment,
        run_name=f"try {Path(plan.name).name}",
        fingerprint=name,
    )
    with mirrored(folder / JOURNAL, destination) as mirror, suppress(TrackingUnavailable, TrackingRefused):
        mirror.send()
    return mirror.run_id

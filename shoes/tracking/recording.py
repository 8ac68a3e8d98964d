"""What each stage writes into the journal, in MLflow's terms."""

import logging
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import tomli_w

from shoes import environment
from shoes.litter import visible
from shoes.reports import (
    ArmScores,
    Comparison,
    DataReport,
    EvaluationReport,
    PromotionReport,
    TrainReport,
    interval_metrics,
)
from shoes.settings import PROJECT_ROOT, Settings, load_settings
from shoes.spec import GateSpec, Recipe
from shoes.storage import fingerprint, pretty_json, sha256, write_text
from shoes.tracking import inputs
from shoes.tracking.journal import Journal, last_status
from shoes.tracking.mirror import Destination
from shoes.training.run import Job

log = logging.getLogger(__name__)
NOTE = "mlflow.note.content"
"""Tag that MLflow shows as the description on a run's page, in Markdown."""
FLOW_RUN_URL = "prefect.flow_run_url"
"""Tag that holds the page of the Prefect flow run which trained last."""


def destination(recipe: Recipe, job: Job, settings: Settings) -> Destination:
    """The MLflow run of a training."""
    return Destination(
        tracking_uri=settings.tracking_uri,
        artifact_root=settings.mlruns / "artifacts",
        experiment=recipe.publish.experiment,
        run_name=recipe.title,
        fingerprint=job.fingerprint,
    )


def describe(journal: Journal, recipe: Recipe, job: Job, links: Mapping[str, str]) -> None:
    """Parameters, tags and the spec: what this run is."""
    model = {f"model.{name}": value for name, value in recipe.model.model_dump(mode="json").items()}
    inputs = {"model.fingerprint": job.model.fingerprint, "data.fingerprint": ",".join(dict.fromkeys(job.inputs))}
    journal.parameters({**recipe.train.model_dump(mode="json"), **model, **inputs})
    tags = {"recipe": recipe.name, **_commit()}
    journal.tags("tags", tags)
    text = note(recipe, links)
    journal.tags(f"links/{fingerprint(dict(links), text)}", {**links, NOTE: text})
    spec, machine = job.folder / "spec.toml", job.folder / "environment.json"
    write_text(spec, tomli_w.dumps(_without_none(recipe.model_dump(mode="json"))))
    report = {"report": environment.kept(load_settings())}  # of the last check before this training
    write_text(machine, pretty_json(_machine() | report))
    journal.artifact("spec", spec, "")
    journal.artifact("environment", machine, "")


def note(recipe: Recipe, links: Mapping[str, str]) -> str:
    """What a run is, for its page: the recipe in words, and the way to what started it."""
    train = recipe.train
    lines = [
        f"**{recipe.title}**",
        f"LoRA of rank {train.rank} for `{recipe.model.pretrained_model_name_or_path}`, trained on "
        f"`{recipe.data.dataset_dir}` for {train.max_train_steps:,} steps of {train.effective_batch_size} images at "
        f"{train.resolution} px.",
    ]
    if page := links.get(FLOW_RUN_URL):
        lines.append(f"[Flow run in Prefect]({page}): log, progress, Retry and Cancel")
    return "\n\n".join(lines)


def data_set(journal: Journal, job: Job, data: DataReport) -> None:
    """The splits as inputs of the run, and the description of the data set."""
    found = inputs.describe(data)
    for split, folder, digest in (
        ("train", job.train_dir, job.inputs[0]),
        ("val", job.validation_dir, job.inputs[1]),
        ("test", data.path / "test", data.fingerprint),
    ):
        journal.data_set(
            f"data/{split}/{digest[:16]}",
            name=f"{folder.parent.name}/{folder.name}",
            digest=digest[: inputs.DIGEST_LENGTH],
            context=inputs.CONTEXTS[split],
            about=inputs.about(folder, found if folder.parent == data.path else None),
        )
    for file in sorted(visible(data.description.glob("[!m.]*"), data.description)) if data.description else ():
        journal.artifact(f"data/{data.fingerprint[:16]}/{file.name}", file, "data")


@contextmanager
def its_end(journal: Journal) -> Iterator[None]:
    """Write down how a training ended that did not come to its own end: it failed, or somebody stopped it."""
    try:
        yield
    except Exception as error:
        fail(journal, error)
        raise
    except BaseException:  # Ctrl-C, or the dashboard's Cancel
        _stopped(journal)
        raise


def _stopped(journal: Journal) -> None:
    """Somebody stopped the run, unless that is written down already."""
    last = last_status(journal.path)
    if last is not None and last["status"] == "RUNNING":
        with _tolerated("that it was stopped"):
            journal.status(f"stopped/{journal.path.stat().st_size}", "KILLED", step=last["step"])


def fail(journal: Journal, error: Exception) -> None:
    """The run failed, and why."""
    at = journal.path.stat().st_size  # grows with every event, so no two failures share an id
    with _tolerated("the failure"):
        journal.tags(f"failed/{at}", {"failure": str(error)[:5000]})
        journal.status(f"failed/{at}/status", "FAILED", step=0)


@contextmanager
def _tolerated(what: str) -> Iterator[None]:
    """A full disk is no news here: the error that ended the training says more."""
    try:
        yield
    except OSError as full:
        log.warning("%s could not be written down: %s", what, full)


def proof(journal: Journal, report: TrainReport) -> None:
    """The training's report with the proof of its export, here and in a tag."""
    assert report.proof is not None, "nothing was proven"
    write_text(report.run_dir / "report.json", pretty_json(report))
    said = "; ".join(report.proof.doubts) or f"equal: {', '.join(sorted(report.proof.differences))}"
    journal.tags(f"proof/{report.adapter_sha256[:16]}/{fingerprint(said)}", {"export_proof": said[:5000]})


def evaluation(journal: Journal, report: EvaluationReport, step: int) -> None:
    """Scores, intervals, the grid and every image's scores."""
    name = f"evaluation/{report.fingerprint}"
    values = {key: value for arm in report.arms for key, value in _arm_metrics(arm)}
    values |= {key: value for comparison in report.comparisons for key, value in _comparison_metrics(comparison)}
    if report.memorisation is not None:
        found = report.memorisation
        values |= {"eval/memorisation_z": found.z, "eval/memorisation_p_tail": found.p_tail}
        values["eval/memorisation_alarm"] = float(found.fires)
    journal.metrics(name, step, values)
    journal.image(f"{name}/grid", "comparison", step, report.grid)
    journal.artifact(f"{name}/files", report.path, "evaluation")


def _arm_metrics(arm: ArmScores) -> Iterator[tuple[str, float]]:
    for metric in ("clip_score", "clip_image_similarity", "second_clip_score", "dino_similarity", "held_out_loss"):
        if (value := getattr(arm, metric)) is not None:
            yield f"eval/{metric}/{arm.name}", value
    if arm.cmmd is not None:
        yield f"eval/cmmd/{arm.name}", arm.cmmd.value
    if arm.spread is not None:
        for metric in ("density", "coverage", "vendi"):
            yield f"eval/{metric}/{arm.name}", getattr(arm.spread, metric)


def _comparison_metrics(comparison: Comparison) -> Iterator[tuple[str, float]]:
    for metric in ("clip_score", "clip_image_similarity", "second_clip_score", "dino_similarity", "held_out_loss"):
        yield from interval_metrics(f"eval/{metric}_minus_{comparison.against}", getattr(comparison, metric)).items()
    if comparison.cmmd is not None:
        yield f"eval/cmmd_minus_{comparison.against}", comparison.cmmd.value
        yield f"eval/cmmd_minus_{comparison.against}_error", comparison.cmmd.standard_error


def promotion(journal: Journal, job: Job, evaluated: EvaluationReport, gate: GateSpec, report: PromotionReport) -> None:
    """The decision, and by which thresholds it was taken."""
    values = {"promoted": str(report.promoted).lower(), "promotion_reason": report.reason}
    name = f"promotion/{evaluated.fingerprint}/{report.promoted}"
    journal.tags(name, values)
    file = job.folder / "promotion.json"
    write_text(file, pretty_json({"gate": gate.model_dump(mode="json"), "decision": report.model_dump(mode="json")}))
    journal.artifact(f"{name}/{fingerprint(gate)}", file, "evaluation")


def page(journal: Journal, path: Path) -> None:
    """The night as a page: report/index.html of the run. One that changed takes the place of the former."""
    journal.artifact(f"report/{sha256(path)[:16]}", path, "report")


def _commit() -> dict[str, str]:
    """The commit of the code, where it runs from a checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"mlflow.source.git.commit": done.stdout.strip()}


def _machine() -> dict[str, str]:
    packages = ("torch", "diffusers", "transformers", "peft", "accelerate", "prefect", "mlflow")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{package: version(package) for package in packages},
    }


def _without_none(value: dict[str, object]) -> dict[str, object]:
    """TOML has no null; the recipe reader takes the word `none` for it."""
    return {
        key: _without_none(item) if isinstance(item, dict) else "none" if item is None else item
        for key, item in value.items()
    }

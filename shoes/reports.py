"""What a stage hands on: frozen, JSON-able, small. Paths are absolute."""

from datetime import datetime
from pathlib import Path
from typing import Literal

from shoes.spec import Spec


class Report(Spec):
    """Base of what stages return."""


class Interval(Report):
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float
    level: float
    num_clusters: int
    """Independent units that were resampled: unique captions."""
    num_values: int

    def __str__(self) -> str:
        return f"{self.mean:+.2f} ({self.level:.0%} interval {self.low:+.2f} to {self.high:+.2f})"


class CheckResult(Report):
    """One line of the environment check."""

    name: str
    status: Literal["OK", "WARN", "ERROR", "INFO"]
    critical: bool
    """An ERROR here means that this machine is not ready."""
    detail: str
    fix: str = ""
    missing: tuple[str, ...] = ()
    """Packages that have to be installed, by their names on the package index."""
    seconds: float = 0.0


class EnvironmentReport(Report):
    """All lines of the environment check."""

    ready: bool
    """No critical check failed."""
    checks: tuple[CheckResult, ...]
    device: str
    seconds: float


class ModelReport(Report):
    """The base model's files, verified."""

    name: str
    path: Path
    fingerprint: str
    """Hash over the SHA-256 of every file."""
    num_files: int
    num_bytes: int
    verified_against: str
    """Where the expected hashes came from."""
    seconds: float
    commit: str | None = None
    """Commit of the files, for a model of the Hub."""
    notes: tuple[str, ...] = ()
    """What was decided about the model, for people."""


class FileCheck(Report):
    """One file of a model, compared with what it should be."""

    path: str
    status: Literal["OK", "damaged", "missing"]
    num_bytes: int
    compared_with: str
    """Where the expected hash came from."""


class ModelCheck(Report):
    """All files of one model as they are now; nothing was downloaded."""

    name: str
    path: Path | None
    """Nothing for a model that was never downloaded."""
    files: tuple[FileCheck, ...]
    problems: tuple[str, ...]
    """What is wrong, for people; empty when the model is whole."""


class ModelsReport(Report):
    """All models of a night: the base, and the CLIP that scores it."""

    base: ModelReport
    clip: ModelReport

    @property
    def seconds(self) -> float:
        """Time for both."""
        return self.base.seconds + self.clip.seconds


class SplitCount(Report):
    """One split of the data set."""

    name: Literal["train", "val", "test"]
    num_images: int
    num_captions: int
    """Different captions."""


class DataReport(Report):
    """The prepared data set, verified."""

    path: Path
    fingerprint: str
    """SHA-256 of manifest.json, which holds that of every file."""
    resolution: int
    splits: tuple[SplitCount, ...]
    notes: tuple[str, ...] = ()
    """What the import recovered or left out, for people."""
    description: Path | None = None
    """Folder with the description of the data set: index.html, description.json, samples.png."""
    seconds: float


class HeldOutLoss(Report):
    """Mean held-out loss at one step, with the standard error over images."""

    step: int
    mean: float
    standard_error: float
    train_mean: float
    """The same on as many fixed training images."""


class ParityTrial(Report):
    """One training step and one decode on a device, compared with fp32 on the CPU; errors are relative (L2 norms)."""

    device: str
    precision: str
    passed: bool
    verdict: str
    """In words: why it was taken, or what was wrong."""
    loss_error: float | None = None
    """None here and below: not finite, or not measured."""
    prediction_error: float | None = None
    """Of the noise that the UNet predicts."""
    gradient_error: float | None = None
    """Of all the adapter's gradients together."""
    decode_error: float | None = None
    """Of the picture that the VAE decodes."""
    seconds: float = 0.0


class Intervention(Report):
    """Where a training saved itself: what it met, and what it does differently since then."""

    step: int
    """The step that could not be taken as it was."""
    kind: Literal["again", "precision", "learning_rate", "micro_batch", "checkpointing", "cache", "checkpoint", "disk"]
    detail: str
    """In words, for people."""


class PausedTraining(Report):
    """A training that stopped before its end with its state saved, and goes on when it is started again."""

    fingerprint: str
    run_dir: Path
    step: int
    """Steps that were run so far."""
    max_train_steps: int
    reason: str
    """Why it stopped: the window's end, say."""
    device: str
    precision: str
    seconds: float
    """Time spent training, over all tries."""


class TrainReport(Report):
    """A finished training."""

    fingerprint: str
    run_dir: Path
    adapter_dir: Path
    """The chosen candidate, in diffusers', PEFT's and kohya's formats."""
    adapter_sha256: str
    step: int
    """Steps that were run."""
    max_train_steps: int
    end_reason: str
    chosen_step: int
    """Step of the candidate that was exported: the one with the lowest held-out loss."""
    losses: tuple[HeldOutLoss, ...]
    """One per validation; the first is the base (step 0)."""
    loss_difference: Interval
    """Held-out loss of the exported adapter minus that of the base, paired by image; below 0 is better."""
    device: str
    precision: str
    num_trainable_parameters: int
    images_per_second: float
    resumed_from: tuple[int, ...]
    """Steps at which training was taken up again."""
    seconds: float
    """Time spent training, over all tries."""
    parity: tuple[ParityTrial, ...] = ()
    """Is the device right? One entry per precision that was tried; the last one was taken. Empty: fp32 on the CPU."""
    peak_memory_bytes: int = 0
    """The most memory that training took on its device, over all tries; on the CPU that of the whole process."""
    interventions: tuple[Intervention, ...] = ()
    """How the training saved itself on its way."""


class ArmScores(Report):
    """One row of the evaluation's table."""

    name: str
    """base, adapter, champion, or a control: real, shuffled."""
    num_images: int
    clip_score: float
    """Mean of 100 × max(cos(image, text), 0)."""
    clip_score_interval: Interval
    """Of 100 × the unclamped cosine."""
    clip_image_similarity: float | None
    """Mean of 100 × cos(image, real test photo of the same product); none for the real photos."""


class Comparison(Report):
    """Adapter minus another arm, paired by caption and seed."""

    against: str
    clip_score: Interval
    clip_image_similarity: Interval
    identical: bool
    """Both drew the same pictures: no difference, whatever the interval."""

    @property
    def is_better(self) -> bool:
        """The whole interval of the CLIP score difference lies above 0."""
        return not self.identical and self.clip_score.low > 0


class EvaluationReport(Report):
    """Base against adapter on the test split."""

    fingerprint: str
    path: Path
    adapter_sha256: str
    arms: tuple[ArmScores, ...]
    comparisons: tuple[Comparison, ...]
    """The first is against the base."""
    grid: Path
    """Picture: one row per caption, columns base, adapter, real."""
    scores: Path
    """Every image's scores, as JSON lines."""
    seconds: float


class PromotionReport(Report):
    """What was decided about the registered model, and why."""

    promoted: bool
    """This adapter is the champion now."""
    reason: str
    registered_model: str
    version: str | None
    champion_version: str | None
    model_uri: str | None
    seconds: float


class StageTime(Report):
    """How long a stage took the time it did its work; less when it was there already."""

    name: str
    seconds: float


class Outcome(Report):
    """The forecast of a training against what happened."""

    predicted_seconds: float
    actual_seconds: float
    predicted_peak_bytes: int
    actual_peak_bytes: int

    @property
    def time_error(self) -> float:
        """Predicted over actual, minus 1: above 0, the forecast was too long."""
        return self.predicted_seconds / self.actual_seconds - 1

    @property
    def memory_error(self) -> float:
        """Predicted over actual, minus 1: above 0, the forecast was too large."""
        return self.predicted_peak_bytes / self.actual_peak_bytes - 1


class NightReport(Report):
    """The verdict of one night."""

    recipe: str
    verdict: str
    """One sentence."""
    text: str
    """The whole verdict as it is printed."""
    promoted: bool
    run_id: str | None
    """MLflow run, when the tracking store could be reached."""
    tracking_uri: str
    train: TrainReport
    evaluation: EvaluationReport
    promotion: PromotionReport
    stages: tuple[StageTime, ...]
    forecast: Outcome | None = None
    """How right the forecast was; none where there is nothing to compare."""
    finished: datetime

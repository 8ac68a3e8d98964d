"""What a training gives."""

from pathlib import Path
from typing import Literal

from shoes.reports.base import Interval, Report


class HeldOutLoss(Report):
    """Mean held-out loss at one step, with the standard error over images."""

    step: int
    mean: float
    standard_error: float | None
    """None where there is one photo."""
    train_mean: float
    """The same on as many fixed training images."""


class ParityTrial(Report):
    """One way of computing, compared with fp32 on the CPU in every kind of work that a night does.

    Errors are relative (L2 norms); None: not measured, or not finite.
    """

    device: str
    precision: str
    passed: bool
    verdict: str
    """In words: why it was taken, or what was wrong."""
    wrong: tuple[str, ...] = ()
    """Parts that were wrong, by their names in `device.parity.PARTS`: those of the errors below."""
    device_name: str = ""
    """Of the device on which this was found; empty where it was not written down yet."""
    checkpointing: str = ""
    micro_batch: int | None = None
    fused_optimizer: bool | None = None
    text_error: float | None = None
    """Of the text encoder's output."""
    encode_error: float | None = None
    """Of the moments that the VAE encodes photos to."""
    decode_error: float | None = None
    """Of the picture that the VAE decodes."""
    loss_error: float | None = None
    """Of a training step on one image."""
    prediction_error: float | None = None
    """Of the noise that the UNet predicts in it."""
    gradient_error: float | None = None
    """Of all the adapter's gradients together."""
    batch_prediction_error: float | None = None
    """Of the noise that is predicted in a step on a whole micro-batch."""
    batch_gradient_error: float | None = None
    """Of the gradients of that step."""
    held_out_error: float | None = None
    """Of the noise that is predicted without gradients, as for the held-out loss."""
    sampling_error: float | None = None
    """Of the latents that a few guided steps of the sampler draw."""
    optimizer_error: float | None = None
    """Of what a few updates change."""
    seconds: float = 0.0


class Intervention(Report):
    """Where a training saved itself: what it met, and what it does differently since then."""

    step: int
    """The step that could not be taken as it was."""
    kind: Literal[
        "again", "precision", "learning_rate", "micro_batch", "checkpointing", "cache", "checkpoint", "disk", "machine"
    ]
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

    @property
    def progress(self) -> str:
        """How far it is, as it is said everywhere: 1,800 of 3,000 steps."""
        return f"{self.step:,} of {self.max_train_steps:,} steps"


class CheckpointScores(Report):
    """One candidate for the export, and how it did on the validation split."""

    step: int
    loss: float
    """Held-out loss."""
    loss_minus_best: Interval | None = None
    """Held-out loss minus the lowest one, paired by photo; none for the lowest itself, for what is not kept, and
    where there are too few photos or captions."""
    is_shortlisted: bool = False
    """Its loss is within one paired standard error of the lowest."""
    clip_score: float | None = None
    """Mean of 100 × max(cos(image, text), 0) of the pictures that it drew; none where nothing was drawn."""
    clip_minus_best: Interval | None = None
    """CLIP score minus that of the shortlisted one with the highest, paired by caption."""
    cmmd: float | None = None
    """Distance of its pictures from the validation photos; none where these are too few."""
    cmmd_error: float | None = None
    """Standard error of that."""


class CheckpointChoice(Report):
    """Which checkpoint is exported, and why."""

    fingerprint: str
    step: int
    reason: str
    """In words."""
    checkpoints: tuple[CheckpointScores, ...]
    """All that were validated, in order."""
    judge: str = ""
    """Model that scored; empty where nothing had to be drawn."""
    num_images: int = 0
    """Images that each shortlisted checkpoint drew."""
    seconds: float = 0.0


class ExportProof(Report):
    """Each form of an exported adapter, loaded as its users load it, beside the adapter that was trained."""

    adapter_sha256: str
    differences: dict[str, float]
    """Of each form's picture from the trained adapter's: mean over pixels and channels, in grey levels of 255."""
    rounding: float | None = None
    """The same of the trained adapter's picture computed in another order; None: all pictures are equal."""
    doubts: tuple[str, ...] = ()
    """What speaks against forms whose weights are right, for people; a form with other weights is refused."""
    seconds: float = 0.0


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
    """Step of the candidate that was exported."""
    losses: tuple[HeldOutLoss, ...]
    """One per validation; the first is the base (step 0)."""
    loss_difference: Interval | None
    """Held-out loss of the exported adapter minus that of the base, paired by image; below 0 is better. None where
    there are too few validation photos or captions to tell."""
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
    choice: CheckpointChoice | None = None
    """How the exported step was chosen; none: by the held-out loss alone."""
    proof: ExportProof | None = None
    """That the exported adapter is the trained one; none: not proven yet."""

"""What the forecast hands on: frozen, JSON-able. Memory and disk in bytes, times in seconds."""

from datetime import datetime

from shoes import clock
from shoes.reports import Report
from shoes.training.choice import KeptChoice
from shoes.training.measuring import Samples


class MemoryPoint(Report):
    """Peak memory of one forward and backward pass."""

    checkpointing: str
    micro_batch: int
    peak_bytes: int | None
    """None: it did not fit."""


class Measurement(Report):
    """What the probe measured on this machine with one recipe."""

    device: str
    device_name: str
    precision: str
    checkpointing: str
    micro_batch: int
    load_seconds: float
    """The UNet with its adapter and optimizer."""
    verify_cache_seconds: float
    """Reading and verifying caches that are there already."""
    frozen_load_seconds: float
    """VAE and text encoder, loaded to encode."""
    encode_seconds_per_photo: float
    encode_seconds_per_caption: float
    step: Samples
    held_out_seconds_per_pass: float
    """One noisy latent through the UNet, without gradients."""
    pipeline_seconds: float
    """Putting a pipeline around the UNet, for every set of samples."""
    sample_batch_seconds: float
    """One batch of validation samples."""
    sample_batch_images: int
    drawing_seconds_per_image: float
    """In batches as the evaluation draws them."""
    judge_load_seconds: float
    judge_seconds_per_image: float
    checkpoint_seconds: float
    checkpoint_bytes: int
    candidate_seconds: float
    candidate_bytes: int
    picture_bytes: int
    latent_bytes_per_photo: int
    text_bytes_per_caption: int
    baseline_bytes: int
    """Memory before anything of the training was loaded."""
    training_peak_bytes: int
    inference_peak_bytes: int
    memory_limit_bytes: int
    """What a training may use here."""
    tuned: KeptChoice | None = None
    """The micro-batch and checkpointing that were found to be the fastest, where they were looked for."""
    memory: tuple[MemoryPoint, ...] = ()

    @property
    def peak_bytes(self) -> int:
        """The larger of both peaks."""
        return max(self.training_peak_bytes, self.inference_peak_bytes)


class Part(Report):
    """One part of the night."""

    name: str
    count: int
    seconds: float


class MicroBatchLimit(Report):
    """The largest micro-batch that fits, by checkpointing."""

    checkpointing: str
    largest: int
    """0: not even one image fits."""


class Forecast(Report):
    """What tonight will do."""

    recipe: str
    training: str
    """Fingerprint of the training."""
    made_at: datetime
    device: str
    device_name: str
    precision: str
    micro_batch: int
    checkpointing: str
    start_step: int
    num_steps: int
    """Steps that are left to run."""
    seconds_per_step: float
    seconds_per_image: float
    """Drawing one image."""
    starts_at: datetime
    ends_at: datetime
    earliest: datetime
    latest: datetime
    window_ends_at: datetime | None
    training_seconds: float
    training_low: float
    training_high: float
    night_seconds: float
    parts: tuple[Part, ...]
    measuring_seconds: float = 0.0
    """What the forecast itself took."""
    peak_memory_bytes: int
    memory_limit_bytes: int
    micro_batches: tuple[MicroBatchLimit, ...]
    disk_bytes: int
    free_disk_bytes: int
    advice: tuple[str, ...] = ()
    """What to do where it does not fit."""

    @property
    def fits_window(self) -> bool:
        """It ends inside the window, if there is one."""
        return self.window_ends_at is None or clock.seconds_between(self.ends_at, self.window_ends_at) >= 0

    @property
    def fits_memory(self) -> bool:
        """The peak lies below what may be used."""
        return self.peak_memory_bytes <= self.memory_limit_bytes

    @property
    def fits_disk(self) -> bool:
        """There is room for what it writes."""
        return self.disk_bytes <= self.free_disk_bytes

    @property
    def fits(self) -> bool:
        """Window, memory and disk."""
        return self.fits_window and self.fits_memory and self.fits_disk

    @property
    def cheapest_checkpointing(self) -> str | None:
        """The mode with the least recomputing that fits with this micro-batch; the modes stand cheapest first."""
        return next((m.checkpointing for m in self.micro_batches if m.largest >= self.micro_batch), None)


class Choice(Report):
    """One way of training the same adapter, measured."""

    precision: str
    micro_batch: int
    checkpointing: str
    seconds_per_step: float | None
    """None: it did not fit, or its results are wrong."""
    training_bytes: int | None
    inference_bytes: int | None
    total_seconds: float | None
    seconds_per_image: float | None
    note: str = ""

    @property
    def images_per_minute(self) -> float | None:
        """Drawn images."""
        return 60 / self.seconds_per_image if self.seconds_per_image else None


class Comparison(Report):
    """All choices side by side, and the one that is kept."""

    recipe: str
    device: str
    device_name: str
    rows: tuple[Choice, ...]
    chosen: int
    """Row that the run will use."""
    reason: str
    kept_in: str

"""One training's place on disk, and what is decided for it once."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from shoes import device
from shoes.errors import Busy
from shoes.reports import DataReport, ModelReport, TrainReport
from shoes.spec import EvalSpec, Recipe, TrainSpec
from shoes.storage import fingerprint, hash_files, pretty_json, write_text

log = logging.getLogger(__name__)
FORMAT = 1


@dataclass(frozen=True)
class Job:
    """A training: what, on what, and where its files go."""

    spec: TrainSpec
    model: ModelReport
    train_dir: Path
    validation_dir: Path
    inputs: tuple[str, str]
    """Fingerprints of the training and validation split."""
    folder: Path
    """The run's own folder, named by the training's fingerprint."""
    cache: Path
    sampler: EvalSpec
    """How validation samples are drawn; does not change the training."""

    @property
    def fingerprint(self) -> str:
        """Identity of the training: its spec and its inputs."""
        return self.folder.name

    @property
    def journal(self) -> Path:
        """The run's journal."""
        return self.folder / "journal.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Resumable states."""
        return self.folder / "checkpoints"

    def candidate(self, step: int) -> Path:
        """The adapter as it was at a step, exported."""
        return self.folder / "candidates" / f"step-{step:06d}"


def make_job(recipe: Recipe, model: ModelReport, data: DataReport, *, runs: Path, cache: Path) -> Job:
    """The job of a recipe on a verified model and data set."""
    spec = recipe.train
    splits = [
        Path(given).expanduser().absolute() if given else data.path / name
        for given, name in ((spec.train_data_dir, "train"), (spec.validation_data_dir, "val"))
    ]
    inputs = [_identity(split, data) for split in splits]
    name = fingerprint("training", FORMAT, spec, model.fingerprint, inputs)
    root = Path(spec.logging_dir).expanduser().absolute() if spec.logging_dir else runs
    return Job(spec, model, splits[0], splits[1], (inputs[0], inputs[1]), root / name, cache, recipe.eval)


def _identity(split: Path, data: DataReport) -> str:
    """The data set's manifest vouches for its own splits; others are hashed."""
    return data.fingerprint if split.parent == data.path else fingerprint(hash_files(split))


@dataclass(frozen=True)
class Decisions:
    """What this machine made of the spec; pinned at the first start, so that a resumed run is the same run."""

    device: str
    precision: str
    num_threads: int
    reasons: dict[str, str]


def pin_decisions(job: Job) -> Decisions:
    """The run's decisions, taken now if this is its first start."""
    import torch

    file = job.folder / "decisions.json"
    if file.is_file():
        pinned = Decisions(**json.loads(file.read_text(encoding="utf-8")))
    else:
        facts = device.measure()
        where = device.choose_device(job.spec.device, facts)
        precision = device.choose_precision(job.spec.mixed_precision, where.value, facts)
        reasons = {d.name: d.reason for d in (where, precision)}
        pinned = Decisions(where.value, precision.value, torch.get_num_threads(), reasons)
        write_text(file, pretty_json(pinned.__dict__))
    torch.set_num_threads(pinned.num_threads)
    log.info("device %s: %s", pinned.device, pinned.reasons["device"])
    log.info("precision %s: %s", pinned.precision, pinned.reasons["precision"])
    return pinned


@contextmanager
def only_one(job: Job) -> Iterator[None]:
    """Hold the run's lock; the system frees it when the process dies.

    Raises:
        Busy: another process works on this very run.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(job.folder / "lock", timeout=0)
    try:
        with lock:
            yield
    except Timeout as error:
        raise Busy(f"Another process works on this run ({job.folder}). Wait for it, or stop it.") from error


def finished(job: Job) -> TrainReport | None:
    """The report of a training that is done and whose adapter is whole."""
    from shoes.publishing.export import adapter_sha256, is_exported

    file = job.folder / "report.json"
    if not file.is_file():
        return None
    report = TrainReport.model_validate_json(file.read_text(encoding="utf-8"))
    whole = is_exported(report.adapter_dir) and adapter_sha256(report.adapter_dir) == report.adapter_sha256
    if not whole:
        log.warning("the adapter of a finished run is damaged: it is exported again from its checkpoint")
    return report if whole else None

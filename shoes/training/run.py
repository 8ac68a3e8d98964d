"""One training's place on disk, and what is decided for it once."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from shoes import device
from shoes.device.decisions import memory_room
from shoes.device.parity import in_words
from shoes.errors import Busy
from shoes.reports import DataReport, Intervention, ModelReport, ParityTrial, TrainReport
from shoes.spec import EvalSpec, InferenceSpec, Recipe, TrainSpec
from shoes.storage import fingerprint, hash_files, pretty_json, where_now, write_text
from shoes.training import checkpoint, choice
from shoes.training.moving import on_this_machine
from shoes.training.parity import check_device

log = logging.getLogger(__name__)
FORMAT = 2
SECONDS_TO_WAIT = 20.0
"""For a run's lock: those who hold it without computing, for a promotion or after a crash, are soon done."""


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
    inference: InferenceSpec
    """Which memory-saving options they are drawn with; the same."""

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

    @property
    def candidates(self) -> Path:
        """Exported adapters."""
        return self.folder / "candidates"

    def candidate(self, step: int) -> Path:
        """The adapter as it was at a step, exported."""
        return self.candidates / f"step-{step:06d}"


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
    return Job(
        spec=spec,
        model=model,
        train_dir=splits[0],
        validation_dir=splits[1],
        inputs=(inputs[0], inputs[1]),
        folder=root / name,
        cache=cache,
        sampler=recipe.eval,
        inference=recipe.inference,
    )


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
    checkpointing: str = "off"
    """What is computed again in the backward pass: off (nothing), attention, or full."""
    micro_batch: int = 1
    """Images in one forward and backward pass; the effective batch is the spec's."""
    attention: str = "sdpa"
    fused_optimizer: bool = True
    """AdamW updates all parameters in one kernel."""
    memory_limits: str = "none"
    """Environment variables of the MPS allocator, as `device.memory.apply_limits` reads them."""
    parity: tuple[ParityTrial, ...] = ()
    """What was tried against fp32 on the CPU, on the device that each names; the last one is the run's. Empty: nothing
    to try."""
    processes: int = 1
    """How many share each effective batch."""
    rate_cuts: tuple[int, ...] = ()
    """Steps from which on the learning rate is halved, each once more."""
    interventions: tuple[Intervention, ...] = ()
    """What the training did to save itself."""
    machine: str = ""
    """Name of the accelerator or the processor that this was decided for; empty in runs of earlier versions."""
    memory_bytes: int = 0
    """What a training may take there; 0 in runs of earlier versions."""

    def __post_init__(self) -> None:
        """What comes from JSON is made reports and tuples again."""
        object.__setattr__(self, "parity", tuple(ParityTrial.model_validate(trial) for trial in self.parity))
        found = tuple(Intervention.model_validate(item) for item in self.interventions)
        object.__setattr__(self, "interventions", found)
        object.__setattr__(self, "rate_cuts", tuple(self.rate_cuts))


def plan_decisions(job: Job) -> Decisions:
    """The run's decisions: those that are pinned, as far as they hold here, else what would be decided now.

    Nothing is written.

    Raises:
        ConfigurationError: the recipe asks for what this machine can't do.
    """
    kept = kept_decisions(job)
    if kept is None:
        return _decide(job)
    facts, saved = device.measure(), partial(checkpoint.latest_step, job.checkpoints)
    return on_this_machine(kept, job.spec, facts, saved, lambda: _decide(job))


def kept_decisions(job: Job) -> Decisions | None:
    """What is pinned; None before the first start."""
    file = job.folder / "decisions.json"
    return Decisions(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def keep_decisions(job: Job, decisions: Decisions) -> None:
    """Pin what holds from now on."""
    write_text(job.folder / "decisions.json", pretty_json(decisions.__dict__))


def pin_decisions(job: Job) -> Decisions:
    """The run's decisions, taken now if this is its first start here; then the device is checked against the CPU."""
    import torch

    pinned = plan_decisions(job)
    device.apply_limits(pinned.memory_limits)
    if pinned != kept_decisions(job):
        if not pinned.parity:
            pinned = _checked(job, pinned)
        keep_decisions(job, pinned)
    torch.set_num_threads(pinned.num_threads)
    log.info("device %s: %s", pinned.device, pinned.reasons["device"])
    log.info("precision %s: %s", device.precision_name(pinned.precision), pinned.reasons["precision"])
    return pinned


def _decide(job: Job) -> Decisions:
    """What the facts say, and what was measured to be best on this machine where the recipe leaves it open."""
    import torch

    facts = device.measure()
    found = {decision.name: decision for decision in device.decide(job.spec, facts)}
    values = {name: decision.value for name, decision in found.items()}
    reasons = {name: decision.reason for name, decision in found.items()}
    micro_batch = job.spec.train_batch_size
    best = choice.kept(choice.place(job.cache, job.spec, job.model.fingerprint, facts))
    if best is not None:
        values |= {"precision": best.precision, "checkpointing": best.checkpointing}
        micro_batch = best.micro_batch
        reasons |= dict.fromkeys(("precision", "checkpointing", "micro_batch"), f"measured here: {best.reason}")
    return Decisions(
        device=values["device"],
        precision=values["precision"],
        num_threads=torch.get_num_threads(),
        reasons=reasons,
        checkpointing=values["checkpointing"],
        micro_batch=micro_batch,
        attention=values["attention"],
        fused_optimizer=values["optimizer"] == "fused",
        memory_limits=values["memory_limits"],
        processes=max(job.spec.devices, int(os.environ.get("WORLD_SIZE", "1"))),
        machine=facts.device_name,
        memory_bytes=memory_room(values["device"], facts),
    )


def _checked(job: Job, planned: Decisions) -> Decisions:
    """The plan, or a safer way where the device computes something else than the CPU."""
    facts = device.measure()
    trials = check_device(job, planned, facts)
    return with_parity(job.spec, planned, trials, facts)


def with_parity(
    spec: TrainSpec, planned: Decisions, trials: tuple[ParityTrial, ...], facts: device.DeviceFacts
) -> Decisions:
    """Decisions by what was found when they were tried: the last trial's, with the reason for each change."""
    if len(trials) < 2:
        return replace(planned, parity=trials)
    taken, why = trials[-1], in_words(trials)
    changed: dict[str, Any] = {
        name: value
        for name in ("device", "precision", "checkpointing", "micro_batch", "fused_optimizer")
        if (value := getattr(taken, name)) != getattr(planned, name)
    }
    reasons = {{"fused_optimizer": "optimizer"}.get(name, name): why for name in changed}
    is_elsewhere = {"device", "precision"} & changed.keys()
    if is_elsewhere:
        reasons["precision"] = why
        reasons["checkpointing"] = device.choose_checkpointing(spec, taken.device, taken.precision, facts).reason
        reasons.pop("micro_batch", None)  # the recipe's own: it is tuned anew
    kept = {name: why for name, why in planned.reasons.items() if not (is_elsewhere and name == "micro_batch")}
    room = memory_room(taken.device, facts)
    return replace(planned, **changed, memory_bytes=room, reasons=kept | reasons, parity=trials)


@contextmanager
def only_one(job: Job) -> Iterator[None]:
    """Hold the run's lock; the system frees it when the process dies.

    Raises:
        Busy: another process works on this very run.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    lock = run_lock(job.folder, timeout=SECONDS_TO_WAIT)
    try:
        with lock:
            yield
    except Timeout as error:
        raise Busy(f"Another process works on this run ({job.folder}). Wait for it, or stop it.") from error


def run_lock(folder: Path, *, timeout: float) -> FileLock:
    """The lock of a run by its folder; waits so many seconds for who holds it."""
    return FileLock(folder / "lock", timeout=timeout)


def finished(job: Job) -> TrainReport | None:
    """The report of a training that is done and whose adapter is whole."""
    from shoes.publishing.export import adapter_sha256, is_exported

    file = job.folder / "report.json"
    if not file.is_file():
        return None
    report = _placed(TrainReport.model_validate_json(file.read_text(encoding="utf-8")), job.folder)
    whole = is_exported(report.adapter_dir) and adapter_sha256(report.adapter_dir) == report.adapter_sha256
    if not whole:
        log.warning("the adapter of a finished run is damaged: it is exported again from its checkpoint")
    return report if whole else None


def _placed(report: TrainReport, folder: Path) -> TrainReport:
    """A report with its paths where the run's folder lies now."""
    return report.model_copy(update={"run_dir": folder, "adapter_dir": where_now(report.adapter_dir, folder)})

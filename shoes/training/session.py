"""A training in memory: the adapter, its optimizer and the data, at some step."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from shoes.device import release
from shoes.model import configs
from shoes.model.load import load_noise_schedule
from shoes.progress import Progress, both, progress
from shoes.reports import HeldOutLoss
from shoes.training import lora
from shoes.training.attention import apply_checkpointing
from shoes.training.cache import CacheKey, LatentCache, open_cache, remake_cache
from shoes.training.checkpoint import Snapshot
from shoes.training.dropout import DropoutKey, use_sample_dropout
from shoes.training.ema import Average
from shoes.training.objective import Objective
from shoes.training.optimizer import make_optimizer, make_scaler, optimizer_tensors, set_optimizer_tensors
from shoes.training.run import Decisions, Job
from shoes.training.schedule import learning_rate
from shoes.training.signals import StopRequest
from shoes.training.team import ALONE, Team

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
SMOOTHING = 0.98
"""What the smoothed loss keeps of itself at a step."""


@dataclass
class Session:
    """Everything a step needs. What moves on from step to step is what a snapshot holds."""

    job: Job
    decisions: Decisions
    objective: Objective
    parameters: "dict[str, torch.nn.Parameter]"
    optimizer: "torch.optim.AdamW"
    scaler: Any
    """Loss scaler of fp16; does nothing in other precisions."""
    average: Average | None
    """Moving average of the adapter, where the spec wants one."""
    dropout: DropoutKey
    rate: Callable[[int], float]
    train: LatentCache
    validation: LatentCache
    team: Team = ALONE
    """The processes that share each step."""
    request: StopRequest = field(default_factory=StopRequest)
    """Whether somebody asked to stop: long work looks at it, and is left and done again another time."""
    step: int = 0
    losses: list[HeldOutLoss] = field(default_factory=list)
    smoothed: tuple[float, float] = (0.0, 0.0)
    """Decayed sum of the losses, and of their weights."""

    def snapshot(self) -> Snapshot:
        """The session's state, copied to the CPU."""
        return Snapshot(
            step=self.step,
            adapter=lora.adapter_weights(self.objective.unet),
            optimizer=optimizer_tensors(self.optimizer, self.parameters),
            average=self.average.tensors() if self.average else {},
            scaler=dict(self.scaler.state_dict()),
            losses=tuple(self.losses),
            smoothed=self.smoothed,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go to a saved state."""
        lora.set_adapter_weights(self.objective.unet, snapshot.adapter)
        set_optimizer_tensors(self.optimizer, self.parameters, snapshot.optimizer)
        if self.average:
            self.average.restore(snapshot.average)
        if snapshot.scaler and self.scaler.is_enabled():
            self.scaler.load_state_dict(dict(snapshot.scaler))
        self.step, self.losses, self.smoothed = snapshot.step, list(snapshot.losses), snapshot.smoothed

    @contextmanager
    def as_exported(self) -> Iterator[None]:
        """The adapter as it is validated and exported: its average, where there is one."""
        if self.average is None:
            yield
            return
        with self.average.swapped_in(self.parameters):
            yield

    def smooth(self, loss: float) -> float:
        """Take a step's loss into the smoothed one, an exponential moving average without a start at 0."""
        total, weight = self.smoothed
        self.smoothed = SMOOTHING * total + (1 - SMOOTHING) * loss, SMOOTHING * weight + 1 - SMOOTHING
        return self.smoothed[0] / self.smoothed[1]

    def adapt(self, decisions: Decisions) -> None:
        """Go on from here by other decisions; the base is loaded again where its precision or device changed."""
        before, self.decisions = self.decisions, decisions
        if (before.device, before.precision) != (decisions.device, decisions.precision):
            self._reload()
        elif before.checkpointing != decisions.checkpointing:
            apply_checkpointing(self.objective.unet, decisions.checkpointing)
        release(decisions.device)

    def _reload(self) -> None:
        snapshot = self.snapshot()
        train, validation, team, request = self.train, self.validation, self.team, self.request
        del self.objective, self.parameters, self.optimizer, self.average  # before the second copy is loaded
        release(self.decisions.device)
        self.__dict__.update(new_session(self.job, self.decisions, train, validation, team).__dict__)
        self.request = request
        self.restore(replace(snapshot, scaler={}))


def open_session(job: Job, decisions: Decisions, snapshot: Snapshot | None, team: Team = ALONE) -> Session:
    """Load and encode what the training needs, and go to a saved state if one is given."""
    train, validation = (_cache(job, decisions, which) for which in (0, 1))
    session = new_session(job, decisions, train, validation, team)
    if snapshot is not None:
        session.restore(snapshot)
        log.info("going on from step %d", session.step)
    return session


def new_session(
    job: Job, decisions: Decisions, train: LatentCache, validation: LatentCache, team: Team = ALONE
) -> Session:
    """A training at its first step, on data that is encoded already."""
    spec = job.spec
    unet = lora.load_with_adapter(
        job.model.path,
        spec,
        device=decisions.device,
        precision=decisions.precision,
        checkpointing=decisions.checkpointing,
    )
    parameters = lora.trainable(unet)
    return Session(
        job=job,
        decisions=decisions,
        objective=_objective(job, decisions, unet),
        parameters=parameters,
        optimizer=make_optimizer(spec, parameters, fused=decisions.fused_optimizer),
        scaler=make_scaler(decisions.device, decisions.precision),
        average=Average(parameters, spec.ema_decay) if spec.use_ema else None,
        dropout=use_sample_dropout(unet, spec.lora_dropout, spec.seed),
        rate=learning_rate(spec),
        train=train,
        validation=validation,
        team=team,
    )


def encode_again(session: Session) -> None:
    """Make the training split's cache anew.

    Raises:
        Interrupted: somebody asked to stop; the next start encodes the photos.
    """
    _cache(session.job, session.decisions, 0, remake_cache, heed=session.request.heed)


def open_training_cache(job: Job, decisions: Decisions) -> LatentCache:
    """The training split's cache, made where it is not there."""
    return _cache(job, decisions, 0)


def _cache(
    job: Job, decisions: Decisions, which: int, make: Any = open_cache, *, heed: Progress | None = None
) -> LatentCache:
    key = cache_key(job, decisions.device, which)
    with progress(f"encoding {key.split.name}", "photos") as report:
        return make(key, batch_size=job.spec.eval_batch_size, on_progress=both(report, heed))


def cache_key(job: Job, device: str, which: int) -> CacheKey:
    """Of a training's own split (0), mirrored too where it flips photos, or of its validation split (1)."""
    return CacheKey(
        model=job.model,
        split=(job.train_dir, job.validation_dir)[which],
        split_fingerprint=job.inputs[which],
        folder=job.cache / "latents",
        device=device,
        with_flips=which == 0 and job.spec.random_flip,
    )


def _objective(job: Job, decisions: Decisions, unet: Any) -> Objective:
    return Objective(
        unet=unet,
        schedule=load_noise_schedule(job.model.path),
        scaling_factor=configs.geometry(job.model.path).scaling_factor,
        device=decisions.device,
        precision=decisions.precision,
        snr_gamma=job.spec.snr_gamma,
    )

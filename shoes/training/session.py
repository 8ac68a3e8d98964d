"""A training in memory: the adapter, its optimizer and the data, at some step."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shoes.errors import TrainingError
from shoes.model.load import load_noise_schedule
from shoes.progress import progress
from shoes.reports import HeldOutLoss
from shoes.training import lora
from shoes.training.cache import LatentCache, open_cache
from shoes.training.checkpoint import Snapshot
from shoes.training.objective import Objective
from shoes.training.randomness import derive_seed, draw_step, sample_order
from shoes.training.run import Decisions, Job
from shoes.training.schedule import learning_rate

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


@dataclass
class Session:
    """Everything a step needs; `step` and `losses` move on."""

    job: Job
    decisions: Decisions
    objective: Objective
    parameters: "dict[str, torch.nn.Parameter]"
    optimizer: "torch.optim.AdamW"
    scaler: Any
    """Loss scaler of fp16; does nothing in other precisions."""
    rate: Callable[[int], float]
    train: LatentCache
    validation: LatentCache
    step: int = 0
    losses: list[HeldOutLoss] = field(default_factory=list)

    def snapshot(self) -> Snapshot:
        """The session's state, copied to the CPU."""
        return Snapshot(
            step=self.step,
            adapter=lora.adapter_weights(self.objective.unet),
            optimizer=_optimizer_tensors(self.optimizer, self.parameters),
            scaler=dict(self.scaler.state_dict()),
            losses=tuple(self.losses),
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go to a saved state."""
        lora.set_adapter_weights(self.objective.unet, snapshot.adapter)
        _set_optimizer_tensors(self.optimizer, self.parameters, snapshot.optimizer)
        if snapshot.scaler:
            self.scaler.load_state_dict(dict(snapshot.scaler))
        self.step, self.losses = snapshot.step, list(snapshot.losses)


def open_session(job: Job, decisions: Decisions, snapshot: Snapshot | None) -> Session:
    """Load and encode what the training needs, and go to a saved state if one is given."""
    session = new_session(job, decisions, *(_cache(job, decisions, which) for which in (0, 1)))
    if snapshot is not None:
        session.restore(snapshot)
        log.info("going on from step %d", session.step)
    return session


def new_session(job: Job, decisions: Decisions, train: LatentCache, validation: LatentCache) -> Session:
    """A training at its first step, on data that is encoded already."""
    spec = job.spec
    unet = lora.load_with_adapter(
        job.model.path,
        spec,
        device=decisions.device,
        precision=decisions.precision,
        checkpointing=decisions.checkpointing,
    )
    if spec.lora_dropout:
        unet.train()
    parameters = lora.trainable(unet)
    return Session(
        job=job,
        decisions=decisions,
        objective=_objective(job, decisions, unet),
        parameters=parameters,
        optimizer=_optimizer(job, decisions, list(parameters.values())),
        scaler=_scaler(decisions),
        rate=learning_rate(spec),
        train=train,
        validation=validation,
    )


def take_step(session: Session) -> dict[str, float]:
    """One optimizer step over the effective batch; its metrics.

    Raises:
        TrainingError: the loss is not finite.
    """
    import torch

    spec, step = session.job.spec, session.step
    order = sample_order(spec.seed, step, batch=spec.effective_batch_size, num_samples=len(session.train))
    draws = draw_step(
        spec.seed,
        step,
        latent_shape=session.train.latent_shape,
        batch=spec.effective_batch_size,
        num_timesteps=session.objective.schedule.config.num_train_timesteps,
        caption_dropout=spec.caption_dropout,
    )
    rate = session.rate(step)
    for group in session.optimizer.param_groups:
        group["lr"] = rate
    parts = []
    size = session.decisions.micro_batch
    for start in range(0, spec.effective_batch_size, size):
        if spec.lora_dropout:
            torch.manual_seed(derive_seed(spec.seed, "dropout", step, start))
        losses = session.objective.batch_loss(session.train, order, draws, slice(start, start + size))
        loss = losses.sum() / spec.effective_batch_size
        session.scaler.scale(loss).backward()
        parts.append(loss.detach())
    loss, norm = _update(session, torch.stack(parts).sum())
    session.step += 1
    return {"train/loss": loss, "train/lr": rate, "train/grad_norm": norm}


def _update(session: Session, loss: "torch.Tensor") -> tuple[float, float]:
    """Clip, step, clear; the loss and the gradient norm before clipping."""
    import torch

    value = float(loss)
    if not math.isfinite(value):
        raise TrainingError(
            f"The loss is {value} at step {session.step + 1}. The last checkpoint is kept. "
            "Lower the learning rate, or train with --train.mixed_precision no."
        )
    session.scaler.unscale_(session.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(session.parameters.values(), session.job.spec.max_grad_norm)
    session.scaler.step(session.optimizer)
    session.scaler.update()
    session.optimizer.zero_grad(set_to_none=True)
    return value, float(norm)


def _cache(job: Job, decisions: Decisions, which: int) -> LatentCache:
    split = (job.train_dir, job.validation_dir)[which]
    with progress(f"encoding {split.name}", "photos") as report:
        return open_cache(
            job.model,
            split,
            split_fingerprint=job.inputs[which],
            folder=job.cache / "latents",
            device=decisions.device,
            batch_size=job.spec.eval_batch_size,
            on_progress=report,
        )


def _objective(job: Job, decisions: Decisions, unet: Any) -> Objective:
    from diffusers import AutoencoderKL

    return Objective(
        unet=unet,
        schedule=load_noise_schedule(job.model.path),
        scaling_factor=AutoencoderKL.load_config(job.model.path, subfolder="vae")["scaling_factor"],
        device=decisions.device,
        precision=decisions.precision,
    )


def _optimizer(job: Job, decisions: Decisions, parameters: "list[torch.nn.Parameter]") -> "torch.optim.AdamW":
    import torch

    spec = job.spec
    return torch.optim.AdamW(
        parameters,
        lr=spec.learning_rate,
        betas=(spec.adam_beta1, spec.adam_beta2),
        eps=spec.adam_epsilon,
        weight_decay=spec.adam_weight_decay,
        fused=decisions.fused_optimizer,
    )


def _scaler(decisions: Decisions) -> Any:
    import torch

    return torch.amp.GradScaler(decisions.device, enabled=decisions.precision == "fp16")


_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def _optimizer_tensors(
    optimizer: "torch.optim.AdamW", parameters: "dict[str, torch.nn.Parameter]"
) -> "dict[str, torch.Tensor]":
    """AdamW's state under the parameters' names; empty before the first step."""
    return {
        f"{moment}/{name}": optimizer.state[parameter][moment].detach().to("cpu", copy=True)
        for name, parameter in parameters.items()
        if parameter in optimizer.state
        for moment in _MOMENTS
    }


def _set_optimizer_tensors(
    optimizer: "torch.optim.AdamW",
    parameters: "dict[str, torch.nn.Parameter]",
    tensors: "Any",
) -> None:
    for name, parameter in parameters.items():
        if f"step/{name}" in tensors:
            optimizer.state[parameter] = {
                moment: tensors[f"{moment}/{name}"].to(parameter.device) for moment in _MOMENTS
            }

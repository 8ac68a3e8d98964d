"""How long every stage trains: sized for two cores and under two hours in all, or for a test in minutes."""

from dataclasses import dataclass

from demo.measuring import Effort


@dataclass(frozen=True)
class Schedule:
    """Steps and batch of one network's training."""

    num_steps: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class Plan:
    """Everything that decides what is made; stages are named by the parts that they use."""

    resolution: int
    autoencoder: Schedule
    clip: Schedule
    """Of each of the two CLIP models."""
    unet: Schedule
    fine_tune_steps: int
    num_candidates: int
    num_kept: int
    """Drawings in the data set, at most."""
    effort: Effort
    seed: int = 1


FULL = Plan(
    resolution=64,
    autoencoder=Schedule(num_steps=3000, batch_size=16, learning_rate=1e-3),
    clip=Schedule(num_steps=1800, batch_size=64, learning_rate=1e-3),
    unet=Schedule(num_steps=6500, batch_size=16, learning_rate=4e-4),
    fine_tune_steps=1100,
    num_candidates=640,
    num_kept=400,
    effort=Effort(),
)
QUICK = Plan(
    resolution=64,
    autoencoder=Schedule(num_steps=20, batch_size=8, learning_rate=1e-3),
    clip=Schedule(num_steps=10, batch_size=16, learning_rate=1e-3),
    unet=Schedule(num_steps=10, batch_size=8, learning_rate=4e-4),
    fine_tune_steps=10,
    num_candidates=24,
    num_kept=20,
    effort=Effort(num_lora_steps=5, num_drawings=8, num_photos=8),
)

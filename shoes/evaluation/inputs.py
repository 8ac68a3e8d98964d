"""What an evaluation depends on, and the arms that it compares."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shoes import storage
from shoes.evaluation.drawings import DrawingSettings, Record
from shoes.spec import EvalSpec

_FORMAT = 1  # raise it when a change of this package changes results


@dataclass(frozen=True)
class Adapter:
    """An exported adapter: its folder and the SHA-256 of its weights."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Arm:
    """One way of drawing the test captions: the base model alone, or with an adapter."""

    name: Literal["base", "adapter", "champion"]
    adapter: Adapter | None = None


BASE = Arm("base")


@dataclass(frozen=True)
class EvaluationInputs:
    """All that an evaluation depends on. Only places and `batch_size` stay out of its fingerprint."""

    spec: EvalSpec
    records: Sequence[Record]
    """The test split, in its own order."""
    data_fingerprint: str
    model_fingerprint: str
    adapter: Adapter
    clip_path: Path
    clip_fingerprint: str
    resolution: int
    """Side of the drawn images, in pixels."""
    device: str
    dtype: str
    """Precision that the images are drawn in, by its name; CLIP is always in fp32."""
    out_dir: Path
    """Evaluations are kept in folders below it, named by their fingerprints."""
    cache_dir: Path
    """Drawn pictures are kept below it."""
    champion: Adapter | None = None
    """The best adapter so far, over the same base model."""
    batch_size: int = 8
    """Images scored at once."""
    vae_tiling: bool = False
    """Images are decoded in tiles."""

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Base, adapter and, when there is one, the champion."""
        ours = (BASE, Arm("adapter", self.adapter))
        return ours if self.champion is None else (*ours, Arm("champion", self.champion))

    @property
    def settings(self) -> DrawingSettings:
        """How every arm draws."""
        return DrawingSettings(
            scheduler=self.spec.scheduler,
            num_inference_steps=self.spec.num_inference_steps,
            guidance_scale=self.spec.guidance_scale,
            negative_prompt=self.spec.negative_prompt,
            resolution=self.resolution,
            device_type=self.device.split(":", maxsplit=1)[0],
            dtype=self.dtype,
            vae_tiling=self.vae_tiling,
        )

    @property
    def fingerprint(self) -> str:
        """Name of the result."""
        adapters = [arm.adapter.sha256 if arm.adapter else None for arm in self.arms]
        models = (self.model_fingerprint, adapters, self.clip_fingerprint)
        return storage.fingerprint(_FORMAT, self.spec, self.data_fingerprint, models, self.settings)

"""What an evaluation depends on, and the arms that it compares."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shoes import storage
from shoes.evaluation.drawings import DrawingSettings, Record
from shoes.reports import Role
from shoes.spec import EvalSpec, GateSpec

_FORMAT = 4  # raise it when a change of this package changes results


@dataclass(frozen=True)
class Adapter:
    """An exported adapter: its folder and the SHA-256 of its weights."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Arm:
    """One way of drawing captions: the base model alone, or with an adapter."""

    name: str
    """base, adapter, champion; for a checkpoint that is a candidate, step-000500."""
    adapter: Adapter | None = None


BASE = Arm("base")


@dataclass(frozen=True)
class JudgeModel:
    """A model that looks at pictures, on this machine and verified."""

    name: str
    path: Path
    fingerprint: str
    note: str = ""
    """Why it is another one than was asked for; empty: it is the one."""


@dataclass(frozen=True)
class Judges:
    """Who looks at the pictures."""

    clip: JudgeModel
    second_clip: JudgeModel | None = None
    dino: JudgeModel | None = None

    def by_role(self) -> dict[Role, JudgeModel]:
        """Those that are there."""
        found: dict[Role, JudgeModel] = {"clip": self.clip}
        if self.second_clip is not None:
            found["second_clip"] = self.second_clip
        if self.dino is not None:
            found["dino"] = self.dino
        return found


@dataclass(frozen=True)
class Photos:
    """A split of real photos."""

    records: Sequence[Record]
    """In the split's own order."""
    fingerprint: str


@dataclass(frozen=True)
class Canvas:
    """What all pictures of an evaluation have in common."""

    model_fingerprint: str
    settings: DrawingSettings
    cache_dir: Path
    """Drawn pictures, and what the judges saw in them, are kept below it."""


@dataclass(frozen=True)
class EvaluationInputs:
    """All that an evaluation depends on. Only places and `batch_size` stay out of its fingerprint."""

    spec: EvalSpec
    test: Photos
    training: Photos
    """What the adapter has seen."""
    validation: Photos
    """What it has not seen either: more photos for the memorisation alarm to compare with."""
    model_fingerprint: str
    adapter: Adapter
    judges: Judges
    resolution: int
    """Side of the drawn images, in pixels."""
    device: str
    dtype: str
    """Precision that the images are drawn in, by its name; the judges are always in fp32."""
    out_dir: Path
    """Evaluations are kept in folders below it, named by their fingerprints."""
    cache_dir: Path
    """Drawn pictures and what the judges saw in them are kept below it."""
    champion: Adapter | None = None
    """The best adapter so far, over the same base model."""
    batch_size: int = 8
    """Images scored at once."""
    vae_tiling: bool = False
    """Images are decoded in tiles."""
    gate: GateSpec = field(default_factory=GateSpec)
    """Decides when the memorisation alarm fires."""
    left_out: tuple[str, ...] = ()
    """Judges that could not be had, and why."""

    @property
    def records(self) -> Sequence[Record]:
        """The test split, in its own order."""
        return self.test.records

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Base, adapter and, when there is one, the champion."""
        ours = (BASE, Arm("adapter", self.adapter))
        return ours if self.champion is None else (*ours, Arm("champion", self.champion))

    @property
    def settings(self) -> DrawingSettings:
        """How every arm draws."""
        return drawing_settings(self.spec, self.resolution, self.device, self.dtype, vae_tiling=self.vae_tiling)

    @property
    def canvas(self) -> Canvas:
        """Where and how every arm draws."""
        return Canvas(self.model_fingerprint, self.settings, self.cache_dir)

    @property
    def fingerprint(self) -> str:
        """Name of the result."""
        adapters = [arm.adapter.sha256 if arm.adapter else None for arm in self.arms]
        judges = {role: (judge.fingerprint, judge.note) for role, judge in self.judges.by_role().items()}
        photos = (self.test.fingerprint, self.training.fingerprint, self.validation.fingerprint)
        thresholds = (self.gate.max_memorisation_z, self.gate.min_memorisation_p)
        models = (self.model_fingerprint, adapters, judges, self.left_out)
        return storage.fingerprint(_FORMAT, self.spec, photos, models, self.settings, thresholds)


def drawing_settings(
    spec: EvalSpec, resolution: int, device: str, dtype: str, *, vae_tiling: bool = False
) -> DrawingSettings:
    """How every arm draws, by a recipe's evaluation."""
    return DrawingSettings(
        scheduler=spec.scheduler,
        num_inference_steps=spec.num_inference_steps,
        guidance_scale=spec.guidance_scale,
        negative_prompt=spec.negative_prompt,
        resolution=resolution,
        device_type=device.split(":", maxsplit=1)[0],
        dtype=dtype,
        vae_tiling=vae_tiling,
    )

"""What an evaluation gives. Paths are absolute when a report is handed on, and relative to its folder on disk.

Similarities are in points, 100 × cosine. `None` stands for what was not measured; `EvaluationReport.notes` says why.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from shoes.reports.base import Interval, Report
from shoes.spec import Metric

Role = Literal["clip", "second_clip", "dino"]
"""What a judge is asked for."""


class Judge(Report):
    """A model that looked at the pictures."""

    role: Role
    name: str
    note: str = ""
    """Why it is another one than was asked for; empty: it is the one."""


class Distance(Report):
    """Unbiased CMMD (× 1000) between two sets of pictures, with its standard error; around 0 when they are alike."""

    value: float
    standard_error: float


class Spread(Report):
    """How well pictures cover the real test photos, at a number of pictures that is the same for all rows."""

    num_images: int
    precision: float
    """Share of the pictures that lie among the photos."""
    recall: float
    """Share of the photos that lie among the pictures."""
    density: float
    """How densely photos lie around the pictures; above 1 where pictures crowd at the typical ones."""
    coverage: float
    """Share of the photos that have a picture near them."""
    vendi: float
    """Effective number of different pictures (Vendi score)."""


class ArmScores(Report):
    """One row of the evaluation's table."""

    name: str
    """base, adapter, champion, or a control: real, shuffled or unrelated, train."""
    num_images: int
    clip_score: float | None
    """Mean of 100 × max(cos(image, text), 0); none for the training photos, which are compared as pictures only."""
    clip_score_interval: Interval | None
    """Of 100 × the unclamped cosine; none where there are too few captions or pictures."""
    clip_image_similarity: float | None
    """Mean of 100 × cos(image, real test photo of the same product); none for the real photos."""
    second_clip_score: float | None = None
    """As `clip_score`, by the second CLIP."""
    dino_similarity: float | None = None
    """As `clip_image_similarity`, by DINOv2."""
    cmmd: Distance | None = None
    """To the real test photos; for the row `train` the floor: what real photos have among themselves."""
    spread: Spread | None = None
    held_out_loss: float | None = None
    """Mean unweighted loss on the test photos."""


class Comparison(Report):
    """Adapter minus another arm, paired by caption and seed."""

    against: str
    clip_score: Interval | None
    """None here and for the others: not measured, or too few captions, pictures or photos to tell."""
    clip_image_similarity: Interval | None
    identical: bool
    """Both drew the same pictures: no difference, whatever the interval."""
    second_clip_score: Interval | None = None
    dino_similarity: Interval | None = None
    cmmd: Distance | None = None
    """Difference of the two distances; below 0 the adapter is nearer to the real photos."""
    held_out_loss: Interval | None = None
    """Below 0 is better."""

    def difference(self, metric: Metric) -> Interval | None:
        """The interval of one metric; none where it was not measured."""
        found: dict[Metric, Interval | None] = {
            "clip_score": self.clip_score,
            "clip_image_similarity": self.clip_image_similarity,
            "dino_similarity": self.dino_similarity,
        }
        return found[metric]

    @property
    def is_better(self) -> bool:
        """The whole interval of the CLIP score difference lies above 0."""
        return not self.identical and self.clip_score is not None and self.clip_score.low > 0


class Breakdown(Report):
    """The adapter on the test photos that share an attribute, against the base."""

    attribute: str
    """colour, season, gender."""
    value: str
    num_images: int
    adapter: float
    """Mean CLIP score."""
    base: float
    difference: Interval | None
    """Adapter minus base; none where there are too few captions."""


class ClosePair(Report):
    """A drawn picture and the training photo that is nearest to it."""

    drawn: Path
    photo: Path
    prompt: str
    similarity: float
    """100 × cosine."""


class Memorisation(Report):
    """Does the adapter repeat training photos?"""

    fires: bool
    reason: str
    """In words."""
    judge: str
    """Model whose features were compared."""
    z: float
    """Of the Mann–Whitney test: are drawn pictures closer to training photos than held-out photos are?"""
    p_tail: float
    """Probability that so many of the closest pictures are drawn ones, were there no difference."""
    share_close: float
    """Share of drawn pictures among the closest of all."""
    num_drawn: int
    num_held_out: int
    is_enough: bool
    """There are enough pictures for a silent alarm to mean something."""
    pairs: tuple[ClosePair, ...] = ()
    """The closest ones, the closest first; copies of the pictures lie in the evaluation's folder."""


class GalleryRow(Report):
    """One caption as each arm drew it, with the same seed; copies lie in the evaluation's folder."""

    prompt: str
    seed: int
    pictures: dict[str, Path]
    """By arm: base, adapter, champion."""
    real: Path
    """The test photo whose caption it is."""
    nearest: Path | None = None
    """The training photo nearest to what the adapter drew."""
    nearest_similarity: float | None = None


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
    judges: tuple[Judge, ...] = ()
    breakdowns: tuple[Breakdown, ...] = ()
    memorisation: Memorisation | None = None
    gallery: tuple[GalleryRow, ...] = ()
    half_width_wanted: float | None = None
    """Precision that was asked for, in points of the CLIP difference."""
    notes: tuple[str, ...] = ()
    """What was left out, drawn again or judged by another model, and why."""
    undecided: str = ""
    """Why the adapter can't be compared with the base, as the rest of a sentence; empty: it can."""
    num_blank: Mapping[str, int] = {}
    """How many pictures show nothing, drawn in fp32 as well, by the arms that drew any."""

    @property
    def stand_in(self) -> str:
        """Why another CLIP judged than was asked for; empty: it did not."""
        return next((judge.note for judge in self.judges if judge.role == "clip"), "")

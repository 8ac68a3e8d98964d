"""What is found before training: machine, models, data set."""

from pathlib import Path
from typing import Literal

from shoes.reports.base import Report


class CheckResult(Report):
    """One line of the environment check."""

    name: str
    status: Literal["OK", "WARN", "ERROR", "INFO"]
    critical: bool
    """An ERROR here means that this machine is not ready."""
    detail: str
    fix: str = ""
    missing: tuple[str, ...] = ()
    """Packages that have to be installed, by their names on the package index."""
    seconds: float = 0.0


class EnvironmentReport(Report):
    """All lines of the environment check."""

    ready: bool
    """No critical check failed."""
    checks: tuple[CheckResult, ...]
    device: str
    seconds: float


class ModelReport(Report):
    """The base model's files, verified."""

    name: str
    path: Path
    fingerprint: str
    """Hash over the SHA-256 of every file."""
    num_files: int
    num_bytes: int
    verified_against: str
    """Where the expected hashes came from."""
    seconds: float
    commit: str | None = None
    """Commit of the files, for a model of the Hub."""
    notes: tuple[str, ...] = ()
    """What was decided about the model, for people."""


class FileCheck(Report):
    """One file of a model, compared with what it should be."""

    path: str
    status: Literal["OK", "damaged", "missing"]
    num_bytes: int
    compared_with: str
    """Where the expected hash came from."""


class Defect(Report):
    """Why what would be loaded is not what is in a model's files, in one of its networks or its tokenizer."""

    kind: Literal["missing", "left over", "misshapen", "whole numbers", "not finite", "shards", "unreadable", "words"]
    where: str
    """Path of the file within the model."""
    count: int = 1
    """Tensors, or files, that it is about."""
    total: int = 0
    """Of how many; 0 where that says nothing."""
    names: tuple[str, ...] = ()
    """The first three of them."""
    detail: str = ""
    """What is wrong, where names don't say it."""


class ModelCheck(Report):
    """All files of one model as they are now; nothing was downloaded."""

    name: str
    path: Path | None
    """Nothing for a model that was never downloaded."""
    files: tuple[FileCheck, ...]
    problems: tuple[str, ...]
    """What is wrong, for people; empty when the model is whole."""
    defects: tuple[Defect, ...] = ()
    """What is wrong with the content of files that are whole; `problems` tells it as well."""
    values_read: bool = True
    """NaN and infinity were looked for in all weights."""


class ModelsReport(Report):
    """All models of a night: the base, and those that judge what is drawn."""

    base: ModelReport
    clip: ModelReport
    second_clip: ModelReport | None = None
    """A second opinion, where one is wanted and could be had."""
    dino: ModelReport | None = None
    """DINOv2, where it is wanted and could be had."""
    stand_in: str = ""
    """Why the demo's tiny CLIP stands in for the one that was wanted; empty: it does not."""
    left_out: tuple[str, ...] = ()
    """Which judges could not be had, and why."""

    @property
    def seconds(self) -> float:
        """Time for all of them."""
        models = (self.base, self.clip, self.second_clip, self.dino)
        return sum(model.seconds for model in models if model is not None)


class SplitCount(Report):
    """One split of the data set."""

    name: Literal["train", "val", "test"]
    num_images: int
    num_captions: int
    """Different captions."""


class DataReport(Report):
    """The prepared data set, verified."""

    path: Path
    fingerprint: str
    """SHA-256 of manifest.json, which holds that of every file."""
    resolution: int
    splits: tuple[SplitCount, ...]
    notes: tuple[str, ...] = ()
    """What the import recovered or left out, for people."""
    description: Path | None = None
    """Folder with the description of the data set: index.html, description.json, samples.png."""
    seconds: float

"""What an export hands on: frozen, JSON-able. Paths are absolute."""

from pathlib import Path
from typing import Literal

from shoes.reports import Report


class MergedReport(Report):
    """The base with the adapter in its weights, as a pipeline of its own."""

    path: Path
    num_bytes: int
    difference: float
    """Of its picture from the adapter's: mean over pixels and channels, in grey levels of 255."""
    tolerance: float
    """What rounding the weights to fp16 makes of it, measured on this model."""


class PushReport(Report):
    """The export on the Hub."""

    repository: str
    url: str
    commit: str
    is_changed: bool
    """Files were different there, and a commit was made."""
    is_private: bool
    notes: tuple[str, ...] = ()
    """What was not as it was asked for, for people."""


class ExportReport(Report):
    """An adapter's folder, ready for people to use."""

    path: Path
    source: Literal["training", "champion"]
    recipe: str
    """Name of the recipe that the adapter was trained with."""
    base_model: str
    adapter_sha256: str
    version: str | None
    """Of the registered model, for its champion."""
    is_evaluated: bool
    """The card holds scores."""
    files: tuple[str, ...]
    """All files by their paths in the folder."""
    num_bytes: int
    merged: MergedReport | None
    push: PushReport | None
    seconds: float

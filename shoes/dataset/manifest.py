"""The manifest of a data set: where it is from, how it was split, and the SHA-256 of every file."""

import hashlib
import json
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from shoes.dataset.splits import SPLITS, SplitName
from shoes.errors import DataError, Problem
from shoes.reports import DataReport, SplitCount
from shoes.spec import DataSpec, Spec
from shoes.storage import MANIFEST, pretty_json


class SplitRule(Spec):
    """How products were given to splits."""

    unit: str = "group of near-duplicate photos"
    stratified_by: str = "colour"
    rare_below: int
    near_duplicate_bits: int
    val_fraction: float
    test_fraction: float


class Count(Spec):
    """How much is in one split."""

    images: int
    captions: int
    """Different captions."""


class Manifest(Spec):
    """manifest.json; it holds no clock and no absolute path, so that equal imports are equal bytes."""

    format: Literal["shoes-data-set"] = "shoes-data-set"
    format_version: Literal[1] = 1
    source: dict[str, Any]
    """Name of the source, what was asked of it and what it held."""
    caption_template: str
    max_images: int | None
    resolution: int
    seed: int
    split_rule: SplitRule
    counts: Annotated[dict[SplitName, Count], Field(min_length=len(SPLITS))]
    notes: tuple[str, ...]
    files: dict[str, str]
    """SHA-256 of every other file of the data set, by its path."""


def rule(spec: DataSpec) -> SplitRule:
    """The split rule that a spec asks for."""
    return SplitRule(
        rare_below=spec.rare_below,
        near_duplicate_bits=spec.near_duplicate_bits,
        val_fraction=spec.val_fraction,
        test_fraction=spec.test_fraction,
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json, the last file of a data set."""
    (folder / MANIFEST).write_text(pretty_json(manifest), encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read and check manifest.json; DataError when it is missing or not one of ours."""
    path = folder / MANIFEST
    remake = f"move {folder} away and make it again: `shoes data import SOURCE --out {folder}`"
    try:
        return Manifest.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError:
        what = "is missing: this data set was not made by `shoes data import`, or only in part"
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(map(str, item["loc"])) or "the whole" for item in error.errors()}))
        what = f"is not a manifest of format version 1 (see: {fields})"
    except (ValueError, RecursionError) as error:
        what = f"is not JSON: {error}"
    except OSError as error:
        what = f"can't be read: {error}"
    raise DataError([Problem(str(path), what, remake)])


def report(folder: Path, manifest: Manifest, started: float) -> DataReport:
    """What stages are told of a whole data set; `started` is a time.monotonic()."""
    return DataReport(
        path=folder.resolve(),
        fingerprint=hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest(),
        resolution=manifest.resolution,
        splits=tuple(
            SplitCount(
                name=name,
                num_images=manifest.counts[name].images,
                num_captions=manifest.counts[name].captions,
            )
            for name in SPLITS
        ),
        notes=manifest.notes,
        seconds=time.monotonic() - started,
    )

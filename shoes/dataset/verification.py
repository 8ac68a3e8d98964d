"""A data set on disk against its manifest."""

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from shoes.dataset.manifest import Manifest, read_manifest, report
from shoes.dataset.records import CAPTIONS, Record, read_split
from shoes.dataset.splits import SPLITS, SplitName
from shoes.errors import DataError, Problem
from shoes.litter import has_litter, visible
from shoes.reports import DataReport
from shoes.storage import MANIFEST, sha256

METADATA = "metadata.jsonl"


def verify(dataset_dir: Path, *, resolution: int | None = None) -> DataReport:
    """Check every file's bytes, the splits and the captions; DataError holds all that is wrong.

    With `resolution`, also that its images have that side.
    """
    started = time.monotonic()
    if not dataset_dir.is_dir():
        raise DataError([missing_data_set(dataset_dir)])
    manifest = read_manifest(dataset_dir)
    splits = {name: read_split(dataset_dir / name, resolution=manifest.resolution, decode=False) for name in SPLITS}
    readable = {name: records for name, (records, problems) in splits.items() if not problems}
    of_files = [*_file_problems(dataset_dir, manifest)]
    of_contents = [
        *_resolution_problems(dataset_dir, manifest, resolution),
        *_overlap_problems(dataset_dir, manifest),
        *(problem for _, problems in splits.values() for problem in problems),
        *_count_problems(dataset_dir, manifest, readable),
        *(p for name, records in readable.items() for p in _metadata_problems(dataset_dir / name, records)),
    ]
    told = {problem.where for problem in of_files}
    if problems := of_files + [problem for problem in of_contents if problem.where not in told]:
        raise DataError(problems)
    return report(dataset_dir, manifest, started)


def missing_data_set(dataset_dir: Path) -> Problem:
    """The problem of a data set that was not made yet."""
    fix = f"make it from photos, with the same --recipe: `shoes data import SOURCE --out {dataset_dir}`"
    return Problem(str(dataset_dir), "there is no data set", fix)


def _file_problems(folder: Path, manifest: Manifest) -> Iterator[Problem]:
    restore = (
        "restore it from a copy of the data set, or move the data set away and make it again: "
        f"`shoes data import SOURCE --out {folder}`"
    )
    found = {path.relative_to(folder).as_posix(): path for path in visible(folder.rglob("*"), folder) if path.is_file()}
    expected = {name: digest for name, digest in manifest.files.items() if not has_litter(PurePosixPath(name))}
    for name, digest in expected.items():
        where = str((folder / name).absolute())
        if name not in found:
            yield Problem(where, "is missing", restore)
        elif what := _byte_fault(found[name], digest):
            yield Problem(where, what, restore)
    for name in sorted(found.keys() - expected.keys() - {MANIFEST}):
        yield Problem(str((folder / name).absolute()), "is not in the manifest", "move it out of the data set")


def _byte_fault(path: Path, digest: str) -> str | None:
    try:
        return None if sha256(path) == digest else "has other bytes than it had"
    except OSError as error:
        return f"can't be read: {error.strerror}"


def _resolution_problems(folder: Path, manifest: Manifest, resolution: int | None) -> Iterator[Problem]:
    if resolution is not None and manifest.resolution != resolution:
        yield Problem(
            str(folder),
            f"its images are {manifest.resolution} px, and the recipe's resolution is {resolution}",
            f"use `--train.resolution {manifest.resolution}`, or make another data set of {resolution} px: "
            "`shoes data import SOURCE --out DIR`",
        )


def _overlap_problems(folder: Path, manifest: Manifest) -> Iterator[Problem]:
    """Equal photos, or one product's, in two splits: then the test set was trained on."""
    by_bytes: defaultdict[str, list[str]] = defaultdict(list)
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for name, digest in manifest.files.items():
        if PurePosixPath(name).parent.name == "images":
            by_bytes[digest].append(name)
            by_name[PurePosixPath(name).name].append(name)
    fix = f"make the data set again, with the same --recipe: `shoes data import SOURCE --out {folder}`"
    for names in {tuple(names): None for names in (*by_bytes.values(), *by_name.values())}:
        if len({PurePosixPath(name).parts[0] for name in names}) > 1:
            yield Problem(", ".join(names), "one photo is in two splits", fix)


def _count_problems(folder: Path, manifest: Manifest, splits: Mapping[SplitName, list[Record]]) -> Iterator[Problem]:
    for name, records in splits.items():
        if (expected := manifest.counts[name].images) != len(records):
            yield Problem(
                str(folder / name),
                f"holds {len(records)} images, and the manifest counts {expected}",
                f"make the data set again, with the same --recipe: `shoes data import SOURCE --out {folder}`",
            )


def _metadata_problems(split: Path, records: list[Record]) -> Iterator[Problem]:
    """metadata.jsonl must say what captions.json says: other tools train on it."""
    path = (split / METADATA).absolute()
    fix = f"make it say what {CAPTIONS} says, or make the data set again: `shoes data import SOURCE --out DIR`"
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        texts = {line["file_name"]: line["text"] for line in lines}
    except OSError as error:
        yield Problem(str(path), error.strerror or "can't be read", fix)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        yield Problem(str(path), f"can't be read: {type(error).__name__}: {error}", fix)
    else:
        captions = {f"images/{record.image.name}": record.caption for record in records}
        names = sorted(str(name) for name in captions.keys() | texts.keys() if captions.get(name) != texts.get(name))
        if names or len(lines) != len(texts):
            yield Problem(str(path), f"differs from {CAPTIONS} for {', '.join(names) or 'repeated lines'}", fix)

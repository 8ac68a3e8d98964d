"""What is in a data set: counts by attribute and split, captions, sizes of the originals, near-duplicates."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from shoes.dataset.captions import is_known
from shoes.dataset.manifest import Manifest, read_manifest
from shoes.dataset.records import Record, load_split
from shoes.dataset.splits import SPLITS, SplitName
from shoes.spec import Spec
from shoes.storage import MANIFEST, sha256

COUNTED = ("colour", "gender", "season", "usage", "article", "year")
"""Attributes whose values are counted, in the order in which they are shown."""

UNKNOWN = "(unknown)"
_CAPTIONS_SHOWN = 10


class Tally(Spec):
    """How often one value is in each split."""

    value: str
    train: int
    val: int
    test: int

    @property
    def total(self) -> int:
        """In all splits."""
        return self.train + self.val + self.test


class Words(Spec):
    """How long captions are, in words."""

    shortest: int
    median: float
    longest: int


class SizeCount(Spec):
    """How many of the original photos had one size."""

    width: int
    height: int
    photos: int


class Description(Spec):
    """description.json: no clock and no absolute path, so that equal data sets have equal descriptions."""

    format: Literal["shoes-data-description"] = "shoes-data-description"
    format_version: Literal[1] = 1
    fingerprint: str
    """SHA-256 of the data set's manifest."""
    name: str
    resolution: int
    photos: Tally
    captions: Tally
    """Different captions in each split."""
    num_captions: int
    """Different captions in all."""
    attributes: dict[str, tuple[Tally, ...]]
    """Values of colour, gender, season, usage, …, the most frequent first; unknown ones last."""
    frequent_captions: tuple[Tally, ...]
    caption_words: Words
    original_sizes: tuple[SizeCount, ...] | None
    """The most frequent first; nothing when the data set was made before they were kept."""
    near_duplicates: tuple[tuple[str, ...], ...] | None
    """Ids of products whose photos look alike; nothing when they were not kept."""
    source: dict[str, Any]
    """Where the photos are from, as the manifest says."""
    split_rule: dict[str, Any]
    notes: tuple[str, ...]


def describe(folder: Path) -> Description:
    """Describe a data set that was verified.

    Raises:
        DataError: it is no data set.
    """
    return describe_records(folder, read_manifest(folder), read_records(folder))


def read_records(folder: Path) -> dict[SplitName, list[Record]]:
    """All records by split; images are not decoded."""
    return {name: load_split(folder / name, decode=False) for name in SPLITS}


def describe_records(folder: Path, manifest: Manifest, records: Mapping[SplitName, Sequence[Record]]) -> Description:
    """Describe a data set whose records are read already."""
    captions = {name: [record.caption for record in items] for name, items in records.items()}
    everything = [caption for items in captions.values() for caption in items]
    source = {k: v for k, v in manifest.source.items() if k not in ("original_sizes", "near_duplicates")}
    return Description(
        fingerprint=sha256(folder / MANIFEST),
        name=folder.resolve().name,
        resolution=manifest.resolution,
        photos=_tally("photos", {name: len(items) for name, items in captions.items()}),
        captions=_tally("captions", {name: len(set(items)) for name, items in captions.items()}),
        num_captions=len(set(everything)),
        attributes=_attributes(records),
        frequent_captions=_tallies(captions)[:_CAPTIONS_SHOWN],
        caption_words=_words(everything),
        original_sizes=_sizes(manifest.source.get("original_sizes")),
        near_duplicates=_groups(manifest.source.get("near_duplicates")),
        source=source,
        split_rule=manifest.split_rule.model_dump(),
        notes=manifest.notes,
    )


def colour_of(record: Record) -> str:
    """A record's colour as it is counted."""
    return _value(record, "colour")


def _attributes(records: Mapping[SplitName, Sequence[Record]]) -> dict[str, tuple[Tally, ...]]:
    found = {}
    for name in COUNTED:
        values = {split: [_value(record, name) for record in items] for split, items in records.items()}
        if any(value != UNKNOWN for items in values.values() for value in items):
            found[name] = _tallies(values)
    return found


def _value(record: Record, attribute: str) -> str:
    value = record.attributes.get(attribute, "").strip()
    return value if is_known(value) else UNKNOWN


def _tallies(values: Mapping[SplitName, Sequence[str]]) -> tuple[Tally, ...]:
    counts: defaultdict[str, dict[SplitName, int]] = defaultdict(dict)
    for split, items in values.items():
        for value, number in Counter(items).items():
            counts[value][split] = number
    tallies = [_tally(value, numbers) for value, numbers in counts.items()]
    return tuple(sorted(tallies, key=lambda t: (t.value == UNKNOWN, -t.total, t.value)))


def _tally(value: str, numbers: Mapping[SplitName, int]) -> Tally:
    return Tally(value=value, **{split: numbers.get(split, 0) for split in SPLITS})


def _words(captions: Sequence[str]) -> Words:
    lengths = [len(caption.split()) for caption in captions] or [0]
    return Words(shortest=min(lengths), median=statistics.median(lengths), longest=max(lengths))


def _sizes(found: object) -> tuple[SizeCount, ...] | None:
    if not isinstance(found, dict):
        return None
    sizes = []
    for text, number in found.items():
        width, _, height = text.partition(" × ")
        if width.isdecimal() and height.isdecimal() and isinstance(number, int):
            sizes.append(SizeCount(width=int(width), height=int(height), photos=number))
    return tuple(sorted(sizes, key=lambda s: (-s.photos, -s.width * s.height, s.width)))


def _groups(found: object) -> tuple[tuple[str, ...], ...] | None:
    if not isinstance(found, list):
        return None
    return tuple(tuple(str(name) for name in group) for group in found if isinstance(group, list))

"""The 600 casual shoes of the real catalogue, where it is present."""

import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shoes.dataset import import_data_set, load_split, verify
from shoes.dataset.groups import MAX_DISTANCE, Look, look
from shoes.reports import DataReport
from shoes.spec import DataSpec
from shoes.storage import hash_files

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def imported(real_catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> DataReport:
    target = tmp_path_factory.mktemp("real") / "casual_shoes"
    return import_data_set(real_catalogue, target, DataSpec(), resolution=64)


@pytest.fixture(scope="module")
def entries(imported: DataReport) -> dict[str, list[dict[str, str]]]:
    return {s: json.loads((imported.path / s / "captions.json").read_text()) for s in SPLITS}


def test_the_counts_are_those_of_the_catalogue(imported: DataReport, entries: dict[str, list[dict[str, str]]]) -> None:
    assert imported.notes[:2] == (
        "22 lines with extra commas recovered",
        "2,149 rows without a photo (listed in missing_images.txt)",
    )
    assert imported.notes[2].startswith("11 colours with fewer than 10 products stratified together: Pink (8)")
    assert len((imported.path / "missing_images.txt").read_text().splitlines()) == 2149
    source = json.loads((imported.path / "manifest.json").read_text())["source"]
    assert (source["products"], source["products_that_pass"]) == (44_349, 2_749)
    assert source["kind"] == "catalogue"
    assert source["original_sizes"] == {"224 × 224": 600}
    assert source["near_duplicates"] == [["13382", "13388"], ["19352", "19353"]]
    assert len({entry["caption"] for split in entries.values() for entry in split}) == 111


def test_the_splits_are_within_two_percent(imported: DataReport) -> None:
    for split, expected in zip(imported.splits, (420, 90, 90), strict=True):
        assert abs(split.num_images - expected) <= 0.02 * expected


def test_every_colour_is_divided_as_the_whole(entries: dict[str, list[dict[str, str]]]) -> None:
    counts = {name: Counter(entry["colour"] for entry in split) for name, split in entries.items()}
    totals = sum(counts.values(), Counter())
    common = {colour: n for colour, n in totals.items() if n >= 10}
    assert len(common) == 10
    for colour, n in common.items():
        assert abs(counts["train"][colour] - 0.70 * n) <= 2
        assert abs(counts["val"][colour] - 0.15 * n) <= 2
        assert abs(counts["test"][colour] - 0.15 * n) <= 2


def test_near_duplicates_are_in_one_split_and_few(imported: DataReport) -> None:
    looks = {record.image: _look(record.image) for split in SPLITS for record in load_split(imported.path / split)}
    pairs = [(a, b) for a, b in combinations(looks, 2) if _alike(looks[a], looks[b])]
    assert {frozenset((a.stem, b.stem)) for a, b in pairs} == {
        frozenset(("13388", "13382")),
        frozenset(("19353", "19352")),
    }
    assert all(a.parent == b.parent for a, b in pairs)


def _look(path: Path) -> Look:
    with Image.open(path) as image:
        return look(image)


def _alike(one: Look, two: Look) -> bool:
    if (one.phash ^ two.phash).bit_count() > 4:
        return False
    weight = float(np.abs(one.thumbnail).sum() + np.abs(two.thumbnail).sum()) / 2
    return float(np.abs(one.thumbnail - two.thumbnail).sum()) <= MAX_DISTANCE * weight


def test_a_second_import_is_equal_byte_for_byte(imported: DataReport, real_catalogue: Path, tmp_path: Path) -> None:
    again = import_data_set(real_catalogue, tmp_path / "again", DataSpec(), resolution=64)
    assert again.fingerprint == imported.fingerprint == verify(again.path, resolution=64).fingerprint
    assert hash_files(again.path) == hash_files(imported.path)


def test_a_subset_keeps_the_shares(real_catalogue: Path, tmp_path: Path) -> None:
    report = import_data_set(real_catalogue, tmp_path / "set", DataSpec(max_images=100), resolution=64)
    assert [s.num_images for s in report.splits] == [70, 15, 15]
    colours = Counter(r.attributes["colour"] for s in SPLITS for r in load_split(report.path / s))
    assert abs(colours["Black"] - 29) <= 1

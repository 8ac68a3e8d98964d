"""Damage of every kind gives DataError, or a data set without what was damaged: never a traceback."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shoes.dataset import import_catalogue, load_split, verify
from shoes.errors import DataError
from shoes.spec import DataSpec

Make = Callable[..., Path]
Draw = Callable[..., Image.Image]


def _damage(content: bytes, rng: random.Random) -> bytes:
    """Cut, flip bits, overwrite, repeat or insert, at random."""
    data = bytearray(content)
    start = rng.randrange(len(data))
    stop = min(len(data), start + rng.randrange(1, 200))
    kind = rng.randrange(5)
    if kind == 0:
        return bytes(data[:start])
    if kind == 1:
        for _ in range(rng.randrange(1, 30)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        data[start:stop] = rng.randbytes(stop - start)
    elif kind == 3:
        data[start:start] = data[start:stop] * 3
    else:
        data[start:start] = rng.choice([b"\0", b'"', b",", b"\xff\xd9", b"\n", b"{", b"\r", b"[[[["])
    return bytes(data)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("jpg", {}),
        ("jpg", {"progressive": True}),
        ("png", {}),
        ("webp", {}),
        ("gif", {}),
        ("tiff", {}),
        ("tiff", {"compression": "tiff_lzw"}),
        ("bmp", {}),
    ],
)
def test_damaged_photos_never_stop_an_import(
    suffix: str,
    options: dict[str, Any],
    make_catalogue: Make,
    row: Callable[..., str],
    draw: Draw,
    tmp_path: Path,
) -> None:
    rng = random.Random(f"{suffix}{options}")
    ids = [str(n) for n in range(900, 940)]
    source = make_catalogue(12, lines=tuple(row(i, "Black") for i in ids))
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in ids:
        photo = source / "images" / f"{number}.{suffix}"
        draw(int(number)).save(photo, exif=exif, **({} if suffix in ("gif", "bmp") else options))
        photo.write_bytes(_damage(photo.read_bytes(), rng))
    report = import_catalogue(source, tmp_path / "set", DataSpec(), resolution=24)
    listing = tmp_path / "set" / "damaged_images.txt"
    damaged = len(listing.read_text().splitlines()) if listing.exists() else 0
    assert sum(s.num_images for s in report.splits) == 52 - damaged
    verify(tmp_path / "set", resolution=24)
    for split in ("train", "val", "test"):
        load_split(tmp_path / "set" / split, resolution=24)


@pytest.mark.parametrize("seed", range(30))
def test_damaged_tables_give_an_error_or_the_rows_that_are_whole(
    seed: int, make_catalogue: Make, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    source = make_catalogue(20)
    content = (source / "styles.csv").read_bytes()
    whole = {line.split(",")[0] for line in content.decode().splitlines()}
    (source / "styles.csv").write_bytes(_damage(content, rng))
    error = _error_of(lambda: import_catalogue(source, tmp_path / "set", DataSpec(), resolution=16))
    if error:
        assert all(problem.fix for problem in error.problems)
        assert not (tmp_path / "set").exists()
        return
    for split in ("train", "val", "test"):
        for record in load_split(tmp_path / "set" / split):
            assert record.attributes["id"] in whole
            assert record.image.stem == record.attributes["id"]


@pytest.mark.parametrize("name", ["captions.json", "metadata.jsonl", "images", "manifest.json"])
def test_damaged_data_sets_never_verify(name: str, data_set: Path, tmp_path: Path) -> None:
    for seed in range(15):
        rng = random.Random(f"{name}{seed}")
        copy = tmp_path / f"copy-{seed}"
        shutil.copytree(data_set, copy)
        folder = copy if name == "manifest.json" else copy / "train"
        path = min((folder / name).iterdir()) if name == "images" else folder / name
        content = path.read_bytes()
        path.write_bytes(_damage(content, rng))
        if path.read_bytes() == content:
            continue
        if name == "manifest.json":
            _error_of(lambda: verify(copy))  # noqa: B023 - called at once; a changed manifest may still be one
            continue
        with pytest.raises(DataError) as caught:
            verify(copy)
        assert any(str(path) in problem.where for problem in caught.value.problems)
        if name != "metadata.jsonl":
            _error_of(lambda: _load_whole(copy / "train"))  # noqa: B023 - called at once


def _load_whole(split: Path) -> None:
    assert all(record.caption and record.image.is_file() for record in load_split(split, resolution=32))


def _error_of(action: Callable[[], object]) -> DataError | None:
    """The one error that bad data may give; any other comes through."""
    try:
        action()
    except DataError as error:
        return error
    return None

"""Damage of every kind gives DataError, or a data set without what was damaged: never a traceback."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shoes.dataset import Record, import_data_set, load_split, verify
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
    report = import_data_set(source, tmp_path / "set", DataSpec(), resolution=24)
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
    error = _error_of(lambda: import_data_set(source, tmp_path / "set", DataSpec(), resolution=16))
    if error:
        assert all(problem.fix for problem in error.problems)
        assert not (tmp_path / "set").exists()
        return
    for split in ("train", "val", "test"):
        for record in load_split(tmp_path / "set" / split):
            assert record.attributes["id"] in whole
            assert record.image.stem == record.attributes["id"]


def _caption(number: int) -> str:
    return f"caption of shoe {number}"


def _captioned(source: Path, layout: str) -> list[Path]:
    """Say what 20 photos show; the files that say it."""
    numbers = range(20)
    table = source / layout
    if layout == "captions.json":
        table.write_text(json.dumps([{"image_file": f"{n}.png", "caption": _caption(n)} for n in numbers]))
    elif layout == "object/captions.json":
        table = source / "captions.json"
        table.write_text(json.dumps({f"{n}.png": _caption(n) for n in numbers}, indent=1))
    elif layout == "metadata.jsonl":
        table.write_text("".join(json.dumps({"file_name": f"{n}.png", "text": _caption(n)}) + "\n" for n in numbers))
    elif layout == "metadata.csv":
        table.write_text("file_name,text\n" + "".join(f"{n}.png,{_caption(n)}\n" for n in numbers))
    else:
        for n in numbers:
            (source / f"{n}.txt").write_text(_caption(n))
        return [source / f"{n}.txt" for n in numbers]
    return [table]


@pytest.mark.parametrize("layout", ["captions.json", "object/captions.json", "metadata.jsonl", "metadata.csv", ".txt"])
def test_damaged_captions_give_an_error_or_the_captions_that_are_whole(layout: str, draw: Draw, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    for number in range(20):
        draw(number).save(whole / f"{number}.png")
    for seed in range(30):
        rng = random.Random(f"{layout}{seed}")
        source = tmp_path / f"source-{seed}"
        shutil.copytree(whole, source)
        files = _captioned(source, layout)
        for file in files if len(files) == 1 else rng.sample(files, 6):
            file.write_bytes(_damage(file.read_bytes(), rng))
        target = tmp_path / f"set-{seed}"
        error = _error_of(lambda: import_data_set(source, target, DataSpec(), resolution=16))  # noqa: B023
        if error:
            assert all(problem.fix for problem in error.problems)
            assert not target.exists()
            continue
        verify(target)
        for split in ("train", "val", "test"):
            for record in load_split(target / split):
                _require_said(record, files, layout)


def _require_said(record: Record, files: list[Path], layout: str) -> None:
    """The damaged file itself gives this caption to this photo: nothing is mixed up, and nothing invented."""
    name = record.image.stem
    if layout == ".txt":
        assert record.caption == " ".join((files[int(name)]).read_text(encoding="utf-8-sig").split())
        return
    text = files[0].read_text(encoding="utf-8-sig")
    pieces = text.split("\n") if layout in ("metadata.jsonl", "metadata.csv") else [text]
    said = [" ".join(piece.split()) for piece in pieces if f"{name}.png" in piece]
    # bytes that became an escape in JSON, or a doubled quotation mark in CSV, are written in another way
    assert any(record.caption in piece for piece in said) or "\\" in text or '""' in text


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

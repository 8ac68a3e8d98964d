import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from shoes.dataset import Record, load_split
from shoes.errors import DataError, Problem

Draw = Callable[..., Image.Image]


@pytest.fixture
def split(tmp_path: Path, draw: Draw) -> Path:
    """A split made by hand: three squares with captions."""
    (tmp_path / "train" / "images").mkdir(parents=True)
    for name in "abc":
        draw(ord(name), (32, 32)).save(tmp_path / "train" / "images" / f"{name}.png")
    _write(tmp_path / "train", [{"image_file": f"{name}.png", "caption": f"shoe {name}"} for name in "abc"])
    return tmp_path / "train"


def _write(split: Path, entries: object) -> None:
    (split / "captions.json").write_text(json.dumps(entries))


def _problems(split: Path, *, resolution: int | None = None, decode: bool = True) -> tuple[Problem, ...]:
    with pytest.raises(DataError) as caught:
        load_split(split, resolution=resolution, decode=decode)
    assert all(problem.fix for problem in caught.value.problems)
    return caught.value.problems


def test_records_come_in_the_order_of_captions_json(split: Path) -> None:
    entry = {"image_file": "b.png", "caption": " shoe ", "colour": "Red", "year": 2011, "usage": None}
    _write(split, [entry, {"image_file": "a.png", "caption": "a"}, {"image_file": "c.png", "caption": "c"}])
    records = load_split(split, resolution=32)
    expected = Record(image=split / "images" / "b.png", caption="shoe", attributes={"colour": "Red", "year": "2011"})
    assert records[0] == expected
    assert [r.image.name for r in records] == ["b.png", "a.png", "c.png"]
    assert all(r.image.is_absolute() for r in records)


def test_a_relative_folder_gives_absolute_images(split: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(split.parent)
    assert load_split(Path("train"))[0].image == split / "images" / "a.png"


def test_a_missing_folder_or_captions_file(split: Path) -> None:
    assert "shoes data import SOURCE --out" in _problems(split / "nowhere")[0].fix
    (split / "captions.json").unlink()
    assert [p.where for p in _problems(split)] == [str(split / "captions.json")]


@pytest.mark.parametrize("text", ["", "{", "{}", "null", "[]", "3", "[1,", "\xff\xfe\xfd", "[" * 100_000, "9" * 5000])
def test_captions_that_are_no_list_of_json(split: Path, text: str) -> None:
    (split / "captions.json").write_text(text, encoding="latin-1")
    (problem,) = _problems(split)
    assert problem.where == str(split / "captions.json")


@pytest.mark.parametrize(
    "entry",
    [
        1,
        None,
        "a.png",
        [],
        {},
        {"image_file": "a.png"},
        {"caption": "shoe"},
        {"image_file": 1, "caption": "shoe"},
        {"image_file": "a.png", "caption": None},
        {"image_file": "a.png", "caption": "  "},
        {"image_file": "a.png", "caption": ["shoe"]},
        {"image_file": "../images/a.png", "caption": "shoe"},
        {"image_file": "/etc/passwd", "caption": "shoe"},
        {"image_file": "..", "caption": "shoe"},
        {"image_file": "a\0.png", "caption": "shoe"},
        {"image_file": "a.png", "caption": "\ud800"},
        {"image_file": "a.png", "caption": "shoe", "colour": ["Red"]},
        {"image_file": "a.png", "caption": "shoe", "colour": {"is": "Red"}},
        {"image_file": "b.png", "caption": "a second caption"},
        {"image_file": "d.png", "caption": "not there"},
        {"image_file": "x" * 5000, "caption": "not there"},
    ],
)
def test_an_entry_of_the_wrong_form_is_told_with_its_number(split: Path, entry: object) -> None:
    good = [{"image_file": f"{name}.png", "caption": "shoe"} for name in "bc"]
    _write(split, [*good, entry])
    problems = _problems(split)
    assert any("entry 3" in str(problem) for problem in problems)


def test_images_that_are_no_good_are_all_told(split: Path, draw: Draw) -> None:
    images = split / "images"
    names = []

    def add(name: str, content: bytes | Image.Image) -> None:
        if isinstance(content, bytes):
            (images / name).write_bytes(content)
        else:
            content.save(images / name)
        names.append(name)

    whole = (images / "a.png").read_bytes()
    add("empty.png", b"")
    add("text.png", b"no image")
    add("truncated.png", whole[: len(whole) // 2])
    add("wide.png", draw(1, (40, 32)))
    add("large.png", draw(1, (64, 64)))
    add("alpha.png", Image.new("RGBA", (32, 32)))
    draw(2, (32, 32)).save(images / "whole.jpg")
    add("truncated.jpg", (images / "whole.jpg").read_bytes()[:700])
    (images / "forgotten.png").write_bytes(whole)
    entries = json.loads((split / "captions.json").read_text())
    _write(split, [*entries, *({"image_file": n, "caption": "x"} for n in [*names, "whole.jpg", "gone.png"])])
    problems = {Path(p.where).name: p.what for p in _problems(split, resolution=32)}
    assert problems.keys() == {*names, "forgotten.png", "gone.png"}
    assert "64 × 64" in problems["large.png"]
    assert "not square" in problems["wide.png"]
    assert "RGBA" in problems["alpha.png"]
    by_header = {Path(p.where).name for p in _problems(split, resolution=32, decode=False)}
    assert by_header == problems.keys() - {"truncated.png", "truncated.jpg"}


def test_without_a_resolution_any_square_is_good(split: Path, draw: Draw) -> None:
    draw(1, (64, 64)).save(split / "images" / "a.png")
    assert len(load_split(split)) == 3

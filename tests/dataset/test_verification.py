import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shoes.dataset import load_split, prepare, verify
from shoes.errors import DataError, Problem
from shoes.spec import DataSpec
from shoes.storage import MANIFEST, hash_files, pretty_json

Make = Callable[..., Path]


def _problems(folder: Path, resolution: int | None = None) -> tuple[Problem, ...]:
    with pytest.raises(DataError) as caught:
        verify(folder, resolution=resolution)
    assert all(problem.fix for problem in caught.value.problems)
    return caught.value.problems


def _hash_again(folder: Path, **changes: object) -> None:
    """Make the manifest vouch for what is there now."""
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(pretty_json({**manifest, "files": hash_files(folder), **changes}))


def test_a_whole_data_set_passes_also_with_what_the_finder_leaves(data_set: Path) -> None:
    before = verify(data_set, resolution=32)
    (data_set / ".DS_Store").write_bytes(b"x")
    (data_set / "train" / "images" / "._100.png").write_bytes(b"x")
    assert verify(data_set).fingerprint == before.fingerprint
    assert len(load_split(data_set / "train")) == 28


def test_all_problems_come_at_once(data_set: Path) -> None:
    train = sorted((data_set / "train" / "images").iterdir())
    train[0].unlink()
    train[1].write_bytes(b"")
    train[2].write_bytes(train[2].read_bytes()[:-40])
    (data_set / "train" / "images" / "extra.png").write_bytes(b"x")
    (data_set / "notes.txt").write_text("mine")
    (data_set / "val" / "captions.json").unlink()
    (data_set / "test" / "metadata.jsonl").write_text("{}\n")
    told = {(Path(p.where).name, p.what.split(",")[0]) for p in _problems(data_set, resolution=512)}
    assert told >= {
        (train[0].name, "is missing"),
        (train[1].name, "has other bytes than it had"),
        (train[2].name, "has other bytes than it had"),
        ("extra.png", "is not in the manifest"),
        ("notes.txt", "is not in the manifest"),
        ("captions.json", "is missing"),
        ("metadata.jsonl", "has other bytes than it had"),
        ("set", "its images are 32 px"),
    }


def test_one_changed_bit_is_found(data_set: Path) -> None:
    image = min((data_set / "val" / "images").iterdir())
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(content)
    (problem,) = _problems(data_set)
    assert problem.where == str(image)
    assert "shoes data import" in problem.fix


def test_no_photo_may_be_in_two_splits(data_set: Path) -> None:
    image = min((data_set / "train" / "images").iterdir())
    entries = json.loads((data_set / "val" / "captions.json").read_text())
    entry = {**entries[0], "image_file": "copy.png"}
    (data_set / "val" / "captions.json").write_text(json.dumps([*entries, entry]))
    with (data_set / "val" / "metadata.jsonl").open("a") as lines:
        lines.write(json.dumps({"file_name": "images/copy.png", "text": entry["caption"]}) + "\n")
    shutil.copy(image, data_set / "val" / "images" / "copy.png")
    counts = json.loads((data_set / MANIFEST).read_text())["counts"]
    counts["val"]["images"] += 1
    _hash_again(data_set, counts=counts)
    (problem,) = _problems(data_set)
    assert problem.what == "one photo is in two splits"
    assert "copy.png" in problem.where


def test_captions_and_metadata_must_agree(data_set: Path) -> None:
    lines = (data_set / "test" / "metadata.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    (data_set / "test" / "metadata.jsonl").write_text("\n".join([json.dumps({**first, "text": "another"}), *lines[1:]]))
    _hash_again(data_set)
    (problem,) = _problems(data_set)
    assert first["file_name"] in problem.what


def test_the_counts_of_the_manifest_are_checked(data_set: Path) -> None:
    counts = json.loads((data_set / MANIFEST).read_text())["counts"]
    counts["train"]["images"] = 99
    _hash_again(data_set, counts=counts)
    (problem,) = _problems(data_set)
    assert "99" in problem.what


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "3", "{}", '{"file_name": 3, "text": "x"}', '{"file_name": [], "text": "x"}', "[" * 100_000],
)
def test_metadata_that_is_no_such_list(data_set: Path, line: str) -> None:
    with (data_set / "test" / "metadata.jsonl").open("a") as lines:
        lines.write(line)
    _hash_again(data_set)
    (problem,) = _problems(data_set)
    assert problem.where == str(data_set / "test" / "metadata.jsonl")


def test_a_missing_photo_is_one_problem(data_set: Path) -> None:
    image = min((data_set / "train" / "images").iterdir())
    image.unlink()
    (problem,) = _problems(data_set)
    assert (problem.where, problem.what) == (str(image), "is missing")


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "null",
        "{",
        '{"files": {}}',
        '{"files": [1]}',
        "[" * 100_000,
        '{"format_version": 2}',
        '{"a": "\\ud800"}',
        "\xff",
    ],
)
def test_without_a_good_manifest_the_fix_is_to_import(data_set: Path, text: str | None) -> None:
    if text is None:
        (data_set / MANIFEST).unlink()
    else:
        (data_set / MANIFEST).write_text(text, encoding="latin-1")
    (problem,) = _problems(data_set)
    assert problem.where.endswith(MANIFEST)
    assert f"shoes data import SOURCE --out {data_set}" in problem.fix


def test_a_manifest_must_count_all_splits(data_set: Path) -> None:
    counts = json.loads((data_set / MANIFEST).read_text())["counts"]
    del counts["val"]
    _hash_again(data_set, counts=counts)
    (problem,) = _problems(data_set)
    assert "counts" in problem.what


def test_a_missing_data_set_names_the_command(tmp_path: Path) -> None:
    (problem,) = _problems(tmp_path / "nowhere")
    assert f"shoes data import SOURCE --out {tmp_path / 'nowhere'}" in problem.fix


def test_prepare_imports_once_and_then_verifies(make_catalogue: Make, tmp_path: Path, spec: DataSpec) -> None:
    source, target = make_catalogue(), tmp_path / "set"
    with pytest.raises(DataError, match="shoes data import SOURCE --out"):
        prepare(spec, target, resolution=32, source=None)
    made = prepare(spec, target, resolution=32, source=source)
    shutil.rmtree(source)
    again = prepare(spec, target, resolution=32, source=source)
    assert again.model_copy(update={"seconds": made.seconds}) == made


def test_prepare_never_overwrites_a_damaged_data_set(make_catalogue: Make, data_set: Path, spec: DataSpec) -> None:
    image = min((data_set / "train" / "images").iterdir())
    image.write_bytes(b"changed")
    with pytest.raises(DataError, match=image.name):
        prepare(spec, data_set, resolution=32, source=make_catalogue(name="other"))
    assert image.read_bytes() == b"changed"
    (data_set / MANIFEST).unlink()
    with pytest.raises(DataError, match=MANIFEST):
        prepare(spec, data_set, resolution=32, source=data_set.parents[1] / "other")


def test_prepare_refuses_another_resolution_and_tells_of_other_settings(data_set: Path) -> None:
    with pytest.raises(DataError, match=r"--train\.resolution 32"):
        prepare(DataSpec(), data_set, resolution=512, source=None)
    spec = DataSpec(seed=1, caption_template="{colour} shoe", filters={"gender": "Men"})
    notes = prepare(spec, data_set, resolution=32, source=None).notes
    assert [n for n in notes if n.startswith("made with seed 42; the recipe's 1")]
    assert sum(n.startswith("made with") for n in notes) == 3
    assert not any(n.startswith("made with") for n in prepare(DataSpec(), data_set, resolution=32, source=None).notes)

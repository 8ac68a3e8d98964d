"""`._name`, `.DS_Store` and what else systems leave in folders is never ours, wherever folders are looked through."""

import json
import re
import shutil
import unicodedata
from pathlib import Path

import pytest
import torch

from shoes import dataset, recipes, storage
from shoes.dataset.layouts import CaptionedImages, recognise
from shoes.device.claim import holders
from shoes.environment.disk_need import geometry_of
from shoes.generation.adapters import known_adapters
from shoes.generation.formats import find_adapter
from shoes.litter import is_litter, is_visible
from shoes.model.load import load_pipeline
from shoes.model.wanted import files_in
from shoes.publishing.export import copy_export, is_exported
from shoes.publishing.place import visible_files
from shoes.servers import record
from shoes.settings import PROJECT_ROOT, load_settings
from shoes.training import checkpoint
from tests.training.test_checkpoints import snapshot

APPLE_DOUBLE = b"\0\5\26\7\0\2\0\0Mac OS X        \xff\xfe"
OTHERS = (".DS_Store", "Icon\r", "Thumbs.db")


def leave(folder: Path) -> None:
    """What a Mac does to an exFAT drive: a file beside each file and folder, and Finder's own."""
    for path in [*folder.rglob("*")]:
        path.with_name(f"._{path.name}").write_bytes(APPLE_DOUBLE)
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for name in OTHERS:
            (place / name).write_bytes(b"x")
        (place / "__MACOSX").mkdir()
        (place / "__MACOSX" / "._a.png").write_bytes(APPLE_DOUBLE)


def test_names() -> None:
    for name in ("._10037.png", ".DS_Store", "Icon\r", "__MACOSX", ".Spotlight-V100", ".fseventsd", ".Trashes",
                 ".smbdeleteAAA1", ".nfs0001", "Thumbs.db"):  # fmt: skip
        assert is_litter(name), name
    for name in ("10037.png", ".env", ".partial-a-1", "_.png", "icon.png", "manifest.json"):
        assert not is_litter(name), name
    assert not is_visible(".env")


def test_it_is_in_no_manifest_and_no_damage_whatever_becomes_of_it(tmp_path: Path) -> None:
    with storage.new_folder(tmp_path / "step-000050") as folder:
        (folder / "adapter.safetensors").write_bytes(b"x" * 100)
        leave(folder)
    target = tmp_path / "step-000050"
    assert list(json.loads((target / "manifest.json").read_text())["files"]) == ["adapter.safetensors"]
    (target / "._adapter.safetensors").write_bytes(b"another attribute")
    assert storage.is_whole(target)
    assert storage.size_of(target) == 100 + (target / "manifest.json").stat().st_size
    (target / "._adapter.safetensors").unlink()  # as dot_clean does
    assert storage.is_whole(target)


def test_a_manifest_of_an_earlier_version_that_names_it_still_holds(tmp_path: Path) -> None:
    with storage.new_folder(tmp_path / "a") as folder:
        (folder / "b").write_bytes(b"x")
    manifest = tmp_path / "a/manifest.json"
    files = json.loads(manifest.read_text())["files"]
    manifest.write_text(json.dumps({"files": {**files, "._b": "0" * 64, "sub/.DS_Store": "0" * 64}}))
    assert storage.damage(tmp_path / "a") == []
    (tmp_path / "a/b").unlink()
    assert len(storage.damage(tmp_path / "a")) == 1


def test_a_name_may_come_back_in_another_spelling(tmp_path: Path) -> None:
    """HFS+ and some shares give `é` back as `e` with an accent."""
    with storage.new_folder(tmp_path / "a") as folder:
        (folder / "tênis.png").write_bytes(b"x")
    (tmp_path / "a/tênis.png").rename(tmp_path / "a" / unicodedata.normalize("NFD", "tênis.png"))
    assert storage.is_whole(tmp_path / "a")


def test_checkpoints_are_what_has_their_name(tmp_path: Path) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, snapshot(step), keep=5)
    leave(tmp_path)
    shutil.copytree(tmp_path / "step-000002", tmp_path / "step-000002 copy")
    (tmp_path / "step-000009 2").mkdir()
    assert [path.name for path in checkpoint.step_folders(tmp_path)] == ["step-000001", "step-000002"]
    assert checkpoint.latest(tmp_path).step == checkpoint.latest_step(tmp_path) == 2
    checkpoint.save(tmp_path, snapshot(3), keep=1)
    assert [path.name for path in checkpoint.step_folders(tmp_path)] == ["step-000003"]
    assert storage.leftovers(tmp_path) == []


def test_a_data_set_and_its_source_are_read_past_it(tmp_path: Path, small_data: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(small_data, own)
    leave(own)
    assert dataset.verify(own, resolution=64).splits == dataset.verify(small_data, resolution=64).splits
    manifest = json.loads((own / "manifest.json").read_text())
    manifest["files"]["train/._captions.json"] = "0" * 64
    (own / "manifest.json").write_text(json.dumps(manifest))
    dataset.verify(own, resolution=64)

    source = tmp_path / "source"
    (source / "shoes").mkdir(parents=True)
    shutil.copyfile(next((small_data / "train/images").iterdir()), source / "shoes/a.png")
    (source / "shoes/a.txt").write_text("a shoe")
    leave(source)
    found = recognise(source)
    assert isinstance(found, CaptionedImages)
    assert (list(found.images), list(found.texts)) == (["shoes/a.png"], ["shoes/a"])


def test_a_model_is_loaded_past_it(tmp_path: Path) -> None:
    """`._….fp16.safetensors` is no variant, and the first weights by name are no AppleDouble file."""
    model = tmp_path / "model"
    shutil.copytree(PROJECT_ROOT / "data/demo/model", model)
    before = files_in(model)
    leave(model)
    for path in [*model.rglob("*.safetensors")]:
        path.with_name(f"._{path.stem}.fp16.safetensors").write_bytes(APPLE_DOUBLE)
    assert files_in(model) == visible_files(model) == before
    assert geometry_of(model, ["to_q"]).latent_channels == 4
    load_pipeline(model, device="cpu", dtype=torch.float32, scheduler="ddim")


def test_an_adapter_is_found_and_copied_past_it(night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = tmp_path / "data/runs/abc/adapter"
    shutil.copytree(night.training.adapter_dir, adapter)
    leave(tmp_path / "data/runs")
    (tmp_path / "data/runs/._abc").write_bytes(APPLE_DOUBLE)
    assert is_exported(adapter)
    assert find_adapter(adapter, name="", weight=1.0).sha256 == night.training.adapter_sha256
    one = tmp_path / "one"
    one.mkdir()
    shutil.copyfile(adapter / "kohya" / next((adapter / "kohya").glob("[!.]*.safetensors")).name, one / "x.safetensors")
    (one / "._x.safetensors").write_bytes(APPLE_DOUBLE)
    assert find_adapter(one, name="", weight=1.0).path == one / "x.safetensors"
    copy_export(adapter, tmp_path / "copy")
    assert not [path for path in (tmp_path / "copy").rglob("*") if is_litter(path.name)]
    assert known_adapters(recipes.load("demo", {}), load_settings()) == [adapter]


def test_what_runs_is_known_past_it(own_world: Path) -> None:
    settings = load_settings()
    with record.seated(settings):
        leave(settings.data)
        assert record.anybody_seated(settings)
    settings.locks.mkdir()
    (settings.locks / "._mps.lock").write_bytes(APPLE_DOUBLE)
    assert holders(settings.locks) == []
    assert [path.name for path in settings.locks.iterdir()] == ["._mps.lock"]


LISTING = re.compile(r"\.iterdir\(|scandir\(|os\.walk\(|\.r?glob\(f?\"[*{]")
THOUGHT_OF = re.compile(r"visible\(|is_visible|without_litter\(|is_exported\(|_PARTIAL\}|PREFIX\}|_leftover\(")
"""What passes such files over, and names that none of them has."""
ELSEWHERE = {
    "with os.scandir(folder) as entries:",
    "with os.scandir(layout.folder / IMAGES) as entries:",
    "for parent, folders, files in os.walk(folder):",
}
"""Lines behind which, or in which otherwise, that is done."""


def test_nothing_looks_through_a_folder_without_thinking_of_it() -> None:
    """A pattern that begins with a letter, or with [!.], passes them over by itself."""
    found = [
        f"{file.relative_to(PROJECT_ROOT)}: {line.strip()}"
        for place in ("shoes", "tasks", "flows")
        for file in sorted((PROJECT_ROOT / place).rglob("[!.]*.py"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if LISTING.search(line) and not THOUGHT_OF.search(line) and line.strip() not in ELSEWHERE
    ]
    assert found == []

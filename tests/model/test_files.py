"""No wrong file is accepted."""

import shutil
from pathlib import Path

import pytest

from shoes.errors import ModelError
from shoes.model.files import clip_files, diffusion_files, fetch, is_local
from shoes.settings import PROJECT_ROOT, load_settings

MODEL = PROJECT_ROOT / "data/demo/model"
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(own_world: Path) -> Path:
    shutil.copytree(MODEL, own_world / "model")
    return own_world / "model"


def found(folder: Path):
    return fetch(diffusion_files(str(folder), None, None), load_settings())


def test_what_ships_verifies() -> None:
    report = fetch(diffusion_files("data/demo/model", None, None), load_settings())
    assert report.num_files >= 10
    assert fetch(clip_files("data/demo/clip", None), load_settings()).num_bytes > 1_000_000


def test_one_flipped_byte_is_named(copy: Path) -> None:
    content = bytearray((copy / UNET).read_bytes())
    content[1_000_000] ^= 1
    (copy / UNET).write_bytes(content)
    with pytest.raises(ModelError, match=UNET):
        found(copy)


def test_a_model_without_a_manifest_is_recorded_once_and_then_held_to_it(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    assert found(copy).verified_against == "recorded now, at the first use"
    assert found(copy).verified_against == "what was recorded at the first use"
    content = bytearray((copy / UNET).read_bytes())
    content[-1] ^= 1
    (copy / UNET).write_bytes(content)
    with pytest.raises(ModelError, match=UNET):
        found(copy)


def test_all_missing_files_are_named_and_pickles_refused(copy: Path) -> None:
    (copy / UNET).rename(copy / "unet/diffusion_pytorch_model.bin")
    (copy / "vae/config.json").unlink()
    with pytest.raises(ModelError) as caught:
        found(copy)
    text = str(caught.value)
    assert UNET in text
    assert "vae/config.json" in text
    assert "is a pickle" in text


@pytest.mark.parametrize(
    ("name", "local"),
    [("stable-diffusion-v1-5/stable-diffusion-v1-5", False), ("data/x", True), ("/x", True), ("a/b/c", True)],
)
def test_names_of_folders_and_of_the_hub(name: str, local: bool) -> None:
    assert is_local(diffusion_files(name, None, None), load_settings()) is local


def test_exactly_the_files_that_are_needed_are_asked_for() -> None:
    wanted = diffusion_files("a/b", "c", "fp16")
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in wanted.patterns
    assert not any("safety" in pattern or pattern == "*.safetensors" for pattern in wanted.patterns)


def test_a_model_that_was_fetched_needs_no_network_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def download(name: str, **options: object) -> None:
        calls.append(options["revision"])
        shutil.copytree(MODEL, str(options["local_dir"]), ignore=shutil.ignore_patterns("manifest.json"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    wanted = diffusion_files("owner/name", "abc", None)
    first, again = fetch(wanted, load_settings()), fetch(wanted, load_settings())
    assert calls == ["abc"]
    assert first.fingerprint == again.fingerprint
    (again.path / UNET).write_bytes(b"half")
    with pytest.raises(ModelError, match=UNET):
        fetch(wanted, load_settings())
    assert calls == ["abc"], "a damaged model is named, not replaced behind one's back"

"""The commands about damaged and about published models, as people run them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from flows.cli import main
from shoes.errors import ModelError
from shoes.model.files import clip_files, diffusion_files, fetch
from shoes.model.wanted import vision_files
from shoes.settings import PROJECT_ROOT, load_settings
from tests.hub.server import HubServer
from tests.model import tiny
from tests.published.layouts import LAYOUTS
from tests.published.models import NARROW, Recipe, make_model

SHIPPED = ("stable-diffusion-v1-5", "stable-diffusion-2-1-base")


@pytest.fixture
def models(own_world: Path) -> Path:
    tiny.make(own_world / "models")
    return own_world / "models"


@pytest.fixture
def recipe(models: Path) -> str:
    file = models.parent / "mine.toml"
    file.write_text(
        f'extends = "demo"\nname = "mine"\n[model]\npretrained_model_name_or_path = "{models}/base"\n'
        f'[eval]\nclip_model_name_or_path = "{models}/clip"\n'
        f'second_clip_model_name_or_path = "{models}/second"\ndino_model_name_or_path = "{models}/dino"\n'
    )
    return str(file)


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


@pytest.mark.slow
def test_the_commands_name_every_damage_and_exit_with_an_error(models: Path, recipe: str) -> None:
    names = list(tiny.DAMAGES)
    assert run("model", "fetch", "--recipe", recipe).exit_code == 0
    for number, path in enumerate(tiny.WEIGHTS.values()):
        tiny.DAMAGES[names[number]][0](models / path)
    shutil.rmtree(load_settings().models)  # as if nobody had looked at them yet
    for words, code in ((("check",), 1), (("model", "verify"), 1), (("model", "fetch"), 2)):
        result = run(*words, "--recipe", recipe)
        assert result.exit_code == code, result.output
        for path in tiny.WEIGHTS.values():
            assert str(models / path) in result.output.replace("\n", ""), words
    portuguese = run("check", "--recipe", recipe, "--lang", "pt")
    assert "tensores: " in portuguese.output


@pytest.mark.slow
def test_check_says_what_fetch_found_without_looking_again(
    models: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.DAMAGES["NaN"][0](models / tiny.WEIGHTS["vae"])
    assert run("model", "fetch", "--recipe", recipe).exit_code == 2
    monkeypatch.setattr("shoes.environment.checks.inputs.READ_AT_ONCE", 0)
    monkeypatch.setattr("shoes.model.contents.findings.values.count_non_finite", pytest.fail)
    result = run("check", "--recipe", recipe, "--json")
    (line,) = (check for check in json.loads(result.stdout)["checks"] if check["name"] == "Model files")
    assert result.exit_code == 1
    assert "NaN or infinity in 1 of" in line["detail"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SHIPPED, *LAYOUTS])
@pytest.mark.parametrize("variant", [None, "fp16"])
def test_no_published_layout_is_refused(own_world: Path, name: str, variant: str | None) -> None:
    folder = make_model(own_world / "model", Recipe(name, NARROW, variant))
    is_base = (folder / "model_index.json").is_file()
    if is_base:
        assert fetch(diffusion_files(str(folder), None, variant), load_settings()).num_files > 8
    elif variant is None:
        files = vision_files if "dino" in name else clip_files
        assert fetch(files(str(folder), None), load_settings()).num_files > 2


def test_a_model_of_the_hub_in_shards_is_fetched_whole_and_a_shard_that_it_lacks_is_named(
    hub: HubServer, models: Path
) -> None:
    shards = [tiny.shard(models / tiny.WEIGHTS[name]) for name in ("unet", "text encoder", "CLIP")]
    hub.add("owner/base", models / "base")
    hub.add("owner/clip", models / "clip")
    base = fetch(diffusion_files("owner/base", None, None), load_settings())
    assert sorted(file.name for file in base.path.glob("unet/*.safetensors")) == [file.name for file in shards[0]]
    assert fetch(clip_files("owner/clip", None), load_settings()).path.is_dir()
    shards[0][1].unlink()
    hub.add("owner/half", models / "base")
    with pytest.raises(ModelError, match=f"{shards[0][1].name}: is missing; unet/.*index.json lists it"):
        fetch(diffusion_files("owner/half", None, None), load_settings())
    assert not [request for request in hub.downloads(".safetensors") if "half" in request.path], (
        "found before the weights"
    )


def test_a_damaged_model_of_the_hub_is_refused_and_no_night_begins_with_it(hub: HubServer, models: Path) -> None:
    tiny.DAMAGES["NaN"][0](models / tiny.WEIGHTS["text encoder"])
    hub.add("owner/base", models / "base")
    for _ in range(2):  # at the download, and from memory
        with pytest.raises(ModelError, match=r"NaN or infinity in 1 of its \d+ tensors: .*\n.*another revision"):
            fetch(diffusion_files("owner/base", None, None), load_settings())


def test_the_models_that_ship_hold_what_their_configs_ask_for() -> None:
    fetch(diffusion_files("data/demo/model", None, None), load_settings())
    for name in ("data/demo/clip", str(PROJECT_ROOT / "data/demo/clip")):
        fetch(clip_files(name, None), load_settings())
    assert torch.get_default_dtype() is torch.float32

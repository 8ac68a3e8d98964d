"""A picture says how it was made, and can be made again from itself alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from flows.cli import main
from shoes.evaluation.pictures import same_pixels
from shoes.generation.metadata import PictureRecipe, parameters, read_picture, write_picture
from tests.champion import crown
from tests.generation.conftest import PROMPT

PROMPTS = ("größere red shoes", "blue shoes", PROMPT)


@pytest.fixture
def pictures(in_night, report, strong: Path) -> list[Path]:
    """Three pictures of one batch, with two adapters."""
    crown(in_night)
    words = ("--adapter", "champion=2", "--adapter", f"{strong}=0.3", "--negative-prompt", "red, (dark:1.2)")
    found = report(*PROMPTS, *words, "--seed", 5, "--batch", 3, "--scheduler", "ddim", "--guidance", 3.5)
    return [Path(found["path"]) / one["file"] for one in found["pictures"]]


def remake(*words: object) -> Result:
    """With nothing but the picture and places: not even the recipe that it was made with."""
    return CliRunner().invoke(main, ["generate", "--from", *map(str, words)])


def found(*words: object) -> dict[str, Any]:
    result = remake(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_picture_says_all_that_made_it(in_night, pictures: list[Path]) -> None:
    with Image.open(pictures[0]) as picture:
        text = dict(picture.text)
    recipe = json.loads(text["shoes"])
    assert text["shoes"] == json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert (recipe["prompt"], recipe["seed"], recipe["device"], recipe["precision"]) == (PROMPTS[0], 5, "cpu", "no")
    assert recipe["base"]["fingerprint"] == in_night.models.base.fingerprint
    assert recipe["adapters"][0]["sha256"] == in_night.training.adapter_sha256
    assert [one["weight"] for one in recipe["adapters"]] == [2, 0.3]
    assert recipe["sampling"]["negative_prompt"] == "red, (dark:1.2)"
    assert {"torch", "diffusers", "shoes"} <= recipe["computation"]["versions"].keys()
    assert str(in_night.data_dir) not in text["shoes"], "no place of this machine"
    first, second, settings = text["parameters"].split("\n")
    assert first == PROMPTS[0]
    assert second == "Negative prompt: red, (dark:1.2)"
    assert settings.startswith("Steps: 2, Sampler: DDIM, CFG scale: 3.5, Seed: 5, Size: 64x64, Model hash: ")
    assert 'Lora weights: "casual-shoes-lora-demo version' in settings


@pytest.mark.parametrize("number", [0, 2])
def test_from_itself_alone_it_is_made_again_with_the_same_pixels(
    pictures: list[Path], strong: Path, own_world: Path, number: int
) -> None:
    moved = own_world / "sent by a friend.png"
    shutil.copy(pictures[number], moved)
    again = found(moved, "--adapter", strong, "--out", "again")
    assert again["largest_difference"] == 0
    assert again["notes"] == []
    assert Path(again["path"]).parent == own_world / "again"
    assert same_pixels(Path(again["path"]), moved)
    assert read_picture(Path(again["path"]))[1].deciding == read_picture(moved)[1].deciding
    assert "pixel for pixel" in remake(moved, "--adapter", strong).stdout


def test_an_adapter_that_is_not_here_is_named(pictures: list[Path], own_world: Path, strong: Path) -> None:
    missing = remake(pictures[0], "--json")
    assert missing.exit_code == 2
    (problem,) = json.loads(missing.stdout)["problems"]
    assert problem["where"] == "adapter adapter"
    assert "no adapter of this machine has the SHA-256" in problem["what"]
    assert "--adapter PATH" in problem["fix"]
    changed = own_world / "adapter"
    shutil.copytree(strong, changed)
    shutil.copy(strong / "kohya/adapter.safetensors", changed / "pytorch_lora_weights.safetensors")
    assert "has other bytes here" in remake(pictures[0], "--adapter", changed).stderr


def change(picture: Path, target: Path, **changes: Any) -> Path:
    image, recipe = read_picture(picture)
    write_picture(target, image, PictureRecipe.model_validate({**recipe.model_dump(), **changes}))
    return target


@pytest.fixture
def plain(report) -> Path:
    """One picture of the base model."""
    made = report("red shoes", "--adapter", "none", "--seed", 5)
    return Path(made["path"]) / made["pictures"][0]["file"]


def test_another_model_is_said(plain: Path, own_world: Path) -> None:
    base = read_picture(plain)[1].base.model_dump()
    other = change(plain, own_world / "other.png", base={**base, "fingerprint": "0123456789abcdef"})
    result = remake(other)
    assert result.exit_code == 2
    assert "made with another model, fingerprint 0123456789abcdef" in result.stderr
    gone = change(plain, own_world / "gone.png", base={**base, "name": "/nowhere/model"})
    recipes = ("--model.pretrained_model_name_or_path", "data/shallow")
    assert found(gone, *recipes)["largest_difference"] == 0, "the recipe's model is the same one"


def test_what_is_not_as_it_was_is_said(plain: Path, own_world: Path) -> None:
    recipe = read_picture(plain)[1]
    computation = recipe.computation.model_dump()
    versions = {**computation["versions"], "torch": "1.0"}
    changes = {"device": "mps", "precision": "fp16", "computation": {**computation, "versions": versions}}
    told = found(change(plain, own_world / "mac.png", **changes))
    assert told["good"] is True
    notes = "\n".join(told["notes"])
    for words in ("drawn on mps, and this is cpu", "in fp32 instead of fp16", "drawn with torch 1.0, and here is"):
        assert words in notes


def test_a_picture_that_was_painted_over_is_exit_code_1(plain: Path, own_world: Path) -> None:
    image, recipe = read_picture(plain)
    image.putpixel((3, 3), tuple(255 - value for value in image.getpixel((3, 3))))
    write_picture(own_world / "painted.png", image, recipe)
    result = remake(own_world / "painted.png")
    assert result.exit_code == 1
    assert "Not the same picture" in result.stdout
    assert "was changed after it was drawn" in result.stdout


def test_a_picture_without_its_recipe_is_one_clear_error(plain: Path, own_world: Path) -> None:
    image, recipe = read_picture(plain)
    image.save(own_world / "copy.png")
    (own_world / "cut.png").write_bytes(plain.read_bytes()[:-300])
    (own_world / "text.png").write_text("no picture")
    change_format(own_world / "newer.png", image, recipe)
    for name, words in (
        ("copy.png", "does not say how it was made"),
        ("cut.png", "is no whole picture"),
        ("text.png", "is no whole picture"),
        ("nowhere.png", "there is no such file"),
        ("newer.png", "another version of this program (format 2, here 1)"),
    ):
        result = remake(own_world / name)
        assert result.exit_code == 2, result.output
        assert words in result.stderr


def change_format(target: Path, image: Image.Image, recipe: PictureRecipe) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("shoes", json.dumps({**recipe.model_dump(mode="json"), "format": 2}))
    image.save(target, pnginfo=info)


def test_parameters_of_a_picture_without_adapters_are_short(plain: Path) -> None:
    text = parameters(read_picture(plain)[1])
    assert text.startswith("red shoes\nSteps: 2, Sampler: DPM++ 2M, CFG scale: 2, Seed: 5, Size: 64x64")
    assert "Lora" not in text

"""Recipes: every shipped one loads, layers win in the documented order, all errors come at once."""

from pathlib import Path

import pytest
import yaml

from shoes import recipes
from shoes.errors import ConfigurationError
from shoes.settings import PROJECT_ROOT
from shoes.spec import Recipe


@pytest.mark.parametrize("name", recipes.names())
def test_every_shipped_recipe_loads(name: str) -> None:
    assert recipes.load(name).name == name


def test_overnight_is_the_table_of_the_first_write_up() -> None:
    train = recipes.load("overnight").train
    assert (train.resolution, train.train_batch_size, train.gradient_accumulation_steps) == (512, 2, 8)
    assert (train.learning_rate, train.lr_scheduler, train.lr_warmup_steps) == (1e-4, "constant_with_warmup", 500)
    assert (train.rank, train.lora_alpha, train.lora_dropout) == (8, 16, 0.0)
    assert train.lora_target_modules == ("to_k", "to_q", "to_v", "to_out.0")
    assert (train.max_train_steps, train.save_steps, train.validation_steps) == (3000, 500, 500)
    assert train.checkpointing_steps == 1000


def test_a_demo_never_meets_the_real_champion() -> None:
    demo, overnight = recipes.load("demo"), recipes.load("overnight")
    assert demo.publish.registered_model.endswith("-demo")
    assert demo.publish.registered_model != overnight.publish.registered_model


def test_later_layers_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOES_TRAIN__SEED", "1")
    monkeypatch.setenv("SHOES_TRAIN__RANK", "2")
    assert recipes.load("overnight").train.seed == 1
    (tmp_path / ".env").write_text("SHOES_TRAIN__SEED=3\n")
    assert recipes.load("overnight").train.seed == 3
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nextends = "demo"\n[train]\nseed = 4\n')
    loaded = recipes.load(str(file))
    assert (loaded.train.seed, loaded.train.resolution) == (4, 64)
    loaded = recipes.load(str(file), {"train.seed": "5", "train.lora_target_modules": "to_q,to_v"})
    assert (loaded.train.seed, loaded.train.rank) == (5, 8), "the recipe states a rank, so it wins over the variable"
    assert loaded.train.lora_target_modules == ("to_q", "to_v")


def test_all_problems_at_once_each_with_its_fix() -> None:
    with pytest.raises(ConfigurationError) as caught:
        recipes.load("demo", {"train.rank": "0", "train.learnin_rate": "1", "train.max_train_steps": "many"})
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "train.rank" in text
    assert "did you mean train.learning_rate?" in text
    assert "train.max_train_steps" in text
    assert all(problem.fix for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        ({"data.caption_template": "a {color} shoe"}, "colour"),
        ({"train.lr_warmup_steps": "200", "train.max_train_steps": "100"}, "lr_warmup_steps"),
        ({"data.val_fraction": "0.5", "data.test_fraction": "0.45"}, "val_fraction"),
        ({"publish.experiment": "a/b"}, "publish.experiment"),
        ({"train.use_8bit_adam": "true"}, "use_8bit_adam"),
        ({"train.learning_rate": "nan"}, "learning_rate"),
    ],
)
def test_values_that_make_no_sense_are_refused(overrides: dict[str, str], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        recipes.load("demo", overrides)


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="did you mean demo"):
        recipes.load("dmeo")


@pytest.mark.parametrize("text", ["name = ", "\x00", "[train\n"])
def test_a_recipe_that_is_no_toml_is_one_clear_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="broken"):
        recipes.load(str(file))


def test_a_recipe_that_extends_itself_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "loop.toml"
    file.write_text('extends = "loop.toml"\n')
    with pytest.raises(ConfigurationError, match="extends itself"):
        recipes.load(str(file))


def test_old_names_of_the_field_are_understood() -> None:
    changes = {"model.pretrained_model_name_or_path": "runwayml/stable-diffusion-v1-5", "model.revision": "fp16"}
    model = recipes.load("overnight", changes).model
    assert model.pretrained_model_name_or_path == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert model.variant == "fp16"


def test_deployments_hold_the_shipped_recipes() -> None:
    text = (PROJECT_ROOT / "prefect.yaml").read_text()
    document = yaml.safe_load(text.replace("{{ $TZ }}", ""))  # what Prefect makes of it where TZ is not set
    for deployment in document["deployments"]:
        recipe = Recipe.model_validate(deployment["parameters"]["recipe"])
        assert recipe == recipes.load(recipe.name), deployment["name"]


def test_every_field_has_a_documentation() -> None:
    assert [name for name, field in recipes.fields().items() if not field.description] == []

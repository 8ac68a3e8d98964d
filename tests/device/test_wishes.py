"""What a recipe may ask of the device, and what it is told before any work when that can't be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shoes import device, recipes
from shoes.device import DeviceFacts
from shoes.device.facts import GIGABYTE, HIGH_WATERMARK, LOW_WATERMARK
from shoes.errors import ConfigurationError, DataError
from shoes.preflight import preflight
from shoes.spec import Recipe


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("attention", "attention"),
        ("full", "full"),
        ("auto", "auto"),
        ("true", "full"),
        ("yes", "full"),
        ("False", "off"),
        ("0", "off"),
    ],
)
def test_checkpointing_is_a_mode_or_a_switch(text: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    by_flag = recipes.load("overnight", {"train.gradient_checkpointing": text})
    monkeypatch.setenv("SHOES_TRAIN__GRADIENT_CHECKPOINTING", text)
    by_variable = recipes.load("overnight")
    assert [recipe.train.gradient_checkpointing for recipe in (by_flag, by_variable)] == [value, value]


def test_checkpointing_in_a_file_and_by_default(tmp_path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\n[train]\ngradient_checkpointing = false\n', encoding="utf-8")
    assert recipes.load(str(file)).train.gradient_checkpointing == "off"
    assert recipes.load("overnight").train.gradient_checkpointing == "auto"


def test_another_word_is_one_problem_that_names_them_all() -> None:
    with pytest.raises(ConfigurationError) as caught:
        recipes.load("overnight", {"train.gradient_checkpointing": "maybe"})
    (problem,) = caught.value.problems
    assert problem.where == "train.gradient_checkpointing"
    assert problem.what.startswith("Input should be 'off', 'attention', 'full' or 'auto'")


def test_a_wish_that_the_device_can_not_fulfil_is_told_before_any_work(micro: Callable[..., Recipe]) -> None:
    with pytest.raises(ConfigurationError, match="fp16 on the CPU") as caught:
        preflight(micro({"train.mixed_precision": "fp16", "train.device": "cpu"}))
    assert [problem.where for problem in caught.value.problems] == ["train.mixed_precision"]


def test_splits_of_ones_own_are_looked_at_before_any_work(micro: Callable[..., Recipe], tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    given = {"train.train_data_dir": str(tmp_path / "nowhere"), "train.validation_data_dir": str(tmp_path / "val")}
    with pytest.raises(ConfigurationError) as caught:
        preflight(micro(given))
    train, validation = caught.value.problems
    assert (train.what, "correct train.train_data_dir" in train.fix) == ("there is no such folder", True)
    assert validation.where.endswith("val/captions.json")


def test_a_night_begins_by_looking_at_splits_of_ones_own(micro: Callable[..., Recipe], tmp_path: Path) -> None:
    from shoes import stages

    with pytest.raises(DataError, match="there is no such folder"):
        stages.verify_environment(micro({"train.train_data_dir": str(tmp_path / "nowhere")}))


def test_an_empty_name_is_no_model() -> None:
    with pytest.raises(ConfigurationError, match="is empty: name a model on the Hub"):
        recipes.load("demo", {"model.pretrained_model_name_or_path": " "})


def test_memory_on_mps_is_limited_before_anything_is_put_there(
    micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    for name in (HIGH_WATERMARK, LOW_WATERMARK):
        monkeypatch.setenv(name, "")
    mac = DeviceFacts(
        device_name="Apple M2 Max",
        mps=True,
        mps_built=True,
        macos_version="14.5",
        total_memory_bytes=32 * GIGABYTE,
        device_memory_bytes=21 * GIGABYTE,
    )
    monkeypatch.setattr(device, "measure", lambda: mac)
    preflight(micro())
    assert (os.environ[HIGH_WATERMARK], os.environ[LOW_WATERMARK]) == ("1.0", "0.85")

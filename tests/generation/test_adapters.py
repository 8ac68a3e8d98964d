"""Adapters by name and by file: every format draws alike, weights count, and what can't be used is said."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shoes.settings import load_settings
from shoes.tensors import read_tensors, write_tensors
from shoes.tracking.registry import Registry
from tests.champion import crown
from tests.generation.conftest import PROMPT

ONE = (PROMPT, "--seed", 3)


def pixels(found: dict) -> np.ndarray:
    with Image.open(Path(found["path"]) / found["pictures"][0]["file"]) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.float32)


def difference(one: dict, other: dict) -> float:
    return float(np.abs(pixels(one) - pixels(other)).mean())


def test_every_format_draws_the_same_picture(report, strong: Path) -> None:
    base = report(*ONE, "--adapter", "none")
    expected = report(*ONE, "--adapter", strong)
    assert difference(base, expected) > 5, "the adapter does something"
    for path, kind in (
        (strong / "pytorch_lora_weights.safetensors", "diffusers"),
        (strong / "kohya/adapter.safetensors", "kohya"),
        (strong / "kohya", "kohya"),
        (strong / "peft", "peft"),
    ):
        found = report(*ONE, "--adapter", path)
        assert found["plan"]["adapters"][0]["kind"] == kind
        assert difference(found, expected) < 1, path


def test_a_weight_of_0_is_the_base_and_half_lies_between(report, strong: Path) -> None:
    base, whole = report(*ONE, "--adapter", "none"), report(*ONE, "--adapter", strong)
    nothing = report(*ONE, "--adapter", f"{strong}=0")
    assert difference(nothing, base) == 0
    half = report(*ONE, "--adapter", f"{strong}=0.5")
    assert 1 < difference(half, base) < difference(whole, base)


def test_several_adapters_with_weights_are_combined(in_night, report, strong: Path) -> None:
    crown(in_night)
    alone = report(*ONE, "--adapter", f"{strong}=0.5")
    both = report(*ONE, "--adapter", "champion=-6", "--adapter", f"{strong}=0.5")
    assert difference(alone, both) > 0.5
    assert [one["weight"] for one in both["plan"]["adapters"]] == [-6, 0.5]
    assert difference(report(*ONE, "--adapter", "champion=0", "--adapter", f"{strong}=0.5"), alone) == 0


def test_a_path_may_hold_an_equals_sign(report, strong: Path, own_world: Path) -> None:
    shutil.copytree(strong, own_world / "rank=4")
    assert report(*ONE, "--adapter", "rank=4")["plan"]["adapters"][0]["weight"] == 1
    assert report(*ONE, "--adapter", "rank=4=0.5")["plan"]["adapters"][0]["weight"] == 0.5


def test_pickles_and_files_that_are_no_adapters_are_refused_all_at_once(
    generate, strong: Path, own_world: Path
) -> None:
    (own_world / "old").mkdir()
    torch.save({"lora": torch.zeros(1)}, own_world / "old/adapter_model.bin")
    torch.save({"lora": torch.zeros(1)}, own_world / "mine.pt")
    write_tensors(own_world / "other.safetensors", {"conv.weight": torch.zeros(1)})
    (own_world / "cut.safetensors").write_bytes((strong / "kohya/adapter.safetensors").read_bytes()[:900])
    (own_world / "peft").mkdir()
    shutil.copy(strong / "peft/adapter_model.safetensors", own_world / "peft")
    (own_world / "empty").mkdir()
    names = ("old", "mine.pt", "other.safetensors", "cut.safetensors", "peft", "empty", "nowhere")
    result = generate(PROMPT, *(word for name in names for word in ("--adapter", name)), "--json")
    assert result.exit_code == 2
    problems = json.loads(result.stdout)["problems"]
    expected = (
        "pickle",
        "pickle",
        "no adapter (LoRA)",
        "no whole safetensors",
        "can't be read",
        "no adapter",
        "no such",
    )
    assert len(problems) == len(expected)
    for problem, words in zip(problems, expected, strict=True):
        assert words in problem["what"], problem
        assert problem["fix"]
    assert "adapter_config.json" in problems[4]["where"]


def test_an_adapter_of_another_architecture_is_one_clear_error(generate, strong: Path, own_world: Path) -> None:
    tensors = read_tensors(strong / "kohya/adapter.safetensors")
    wide = {name: torch.zeros(4, 77) if name.endswith("down.weight") else weight for name, weight in tensors.items()}
    write_tensors(own_world / "wide.safetensors", wide)
    nowhere = {name.replace("lora_unet", "lora_te"): weight for name, weight in tensors.items()}
    write_tensors(own_world / "text.safetensors", nowhere)
    for name in ("wide", "text"):
        result = generate(PROMPT, "--adapter", f"{name}.safetensors", "--out", "here")
        assert result.exit_code == 2, result.output
        assert f"{name}.safetensors" in result.stderr
        assert "trained on this base model" in result.stderr
        assert "Traceback" not in result.stderr
        assert not (own_world / "here").exists()


def test_no_champion_yet_names_the_ways_out(own_world: Path, with_small_data: Path) -> None:
    from click.testing import CliRunner

    from flows.cli import main

    result = CliRunner().invoke(main, ["generate", PROMPT])
    assert result.exit_code == 2
    for word in ("casual-shoes-lora-demo has no champion", "shoes run --recipe demo", "--adapter trained", "none"):
        assert word in result.stderr
    assert not (own_world / "data/mlruns").exists(), "asking makes no database"
    untrained = CliRunner().invoke(main, ["generate", PROMPT, "--adapter", "trained", "--data.dataset_dir=data/small"])
    assert untrained.exit_code == 2
    assert "is not trained yet" in untrained.stderr


def test_a_champion_of_another_base_or_with_other_bytes_is_refused(
    in_night, generate, monkeypatch: pytest.MonkeyPatch
) -> None:
    crown(in_night)
    registry = Registry(load_settings().tracking_uri, "casual-shoes-lora-demo")
    champion = registry.champion()
    changes = {
        "trained on another base model (fingerprint 0123456789abcdef)": {"base_fingerprint": "0123456789abcdef"},
        "have other bytes than those that were registered": {"adapter_sha256": "0" * 64},
    }
    for words, change in changes.items():
        other = dataclasses.replace(champion, **change)
        monkeypatch.setattr(Registry, "champion", lambda registry, other=other: other)
        result = generate(PROMPT)
        assert result.exit_code == 2
        assert words in result.stderr


def test_a_champion_of_another_machine_comes_out_of_mlflow(in_night, report, monkeypatch: pytest.MonkeyPatch) -> None:
    crown(in_night)
    here = Registry(load_settings().tracking_uri, "casual-shoes-lora-demo").champion()
    elsewhere = dataclasses.replace(here, adapter_dir=Path("/nowhere/adapter"))
    monkeypatch.setattr(Registry, "champion", lambda registry: elsewhere)
    (adapter,) = report("red shoes", "--seed", 77)["plan"]["adapters"]
    assert Path(adapter["path"]).is_relative_to(in_night.data_dir / "cache/adapters")
    assert adapter["sha256"] == in_night.training.adapter_sha256
    monkeypatch.setattr(Registry, "download", lambda *given: pytest.fail("it was fetched before"))
    assert report("red shoes", "--seed", 77)["num_drawn"] == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("champion=heavy",), "'heavy' is no weight"),
        (("champion=nan",), "'nan' is no weight"),
        (("none", "champion"), "stands beside other adapters"),
    ],
)
def test_what_can_not_be_understood(generate, words: tuple[str, ...], expected: str) -> None:
    result = generate(PROMPT, *(part for word in words for part in ("--adapter", word)))
    assert result.exit_code == 2
    assert expected in result.stderr

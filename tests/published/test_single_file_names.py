"""A checkpoint in a single file by its name: for the Hub, checks and commands, in what is published, for a night."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save

from flows.cli import main
from shoes.environment.checks import CHECKS
from shoes.environment.verify import verify
from shoes.errors import ConfigurationError
from shoes.preflight import preflight
from shoes.publishing.licence import is_on_hub, licence_of, public_name
from shoes.reports import CheckResult
from shoes.settings import load_settings
from shoes.spec import ModelSpec, Recipe
from shoes.spec.names import below_home

pytestmark = pytest.mark.usefixtures("no_network")


def shoes(*words: str):
    return CliRunner().invoke(main, list(words), catch_exceptions=False)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dreams.safetensors", "there is no such file"),
        ("~/models/dreams.safetensors", "there is no such file"),
        ("owner/dreams.safetensors", "there is no such file"),
        ("C:\\models\\dreams.ckpt", "there is no such file"),
        ("./owner/name", "there is no such folder"),
        ("https://civitai.com/api/download/models/1?token=secret", "download the file (.safetensors) with a browser"),
        ("https://huggingface.co/owner/name/blob/main/x.safetensors", "name the repository itself, owner/name"),
    ],
)
def test_a_name_that_can_only_be_a_path_is_never_asked_for_on_the_hub(own_world: Path, name: str, words: str) -> None:
    for field in ("model.pretrained_model_name_or_path", "eval.clip_model_name_or_path"):
        result = shoes("model", "fetch", "--recipe", "demo", f"--{field}", name)
        assert result.exit_code == 2, result.output
        assert words in result.stderr
        assert "secret" not in result.stderr
    assert list(own_world.iterdir()) == []


def test_a_judge_is_no_single_file(sd15_file: Path) -> None:
    result = shoes("model", "fetch", "--recipe", "demo", "--eval.clip_model_name_or_path", str(sd15_file))
    assert result.exit_code == 2
    assert "is a file, and what judges pictures is a folder" in result.stderr


def test_preflight_looks_at_the_header_and_converts_nothing(
    sd15_file: Path, micro: Callable[..., Recipe], own_world: Path
) -> None:
    changes = {"model.pretrained_model_name_or_path": str(sd15_file), "model.variant": "fp16"}
    preflight(micro(changes))
    with pytest.raises(ConfigurationError, match="this UNet has no layer to_x"):
        preflight(micro(changes | {"train.lora_target_modules": "to_q,to_x"}))
    assert not list((own_world / "data/models").glob("single-file-*"))


def seen_by_check(recipe: Recipe) -> Mapping[str, CheckResult]:
    checks = [check for check in CHECKS if check.name in ("Model files", "Disk")]
    return {one.name: one for one in verify(recipe, load_settings(), checks=checks).checks}


def test_checks_and_commands_know_a_single_file(sd15_file: Path, micro: Callable[..., Recipe], own_world: Path) -> None:
    changes = {"model.pretrained_model_name_or_path": str(sd15_file)}
    before = seen_by_check(micro(changes))
    assert (before["Model files"].status, "is not converted yet" in before["Model files"].detail) == ("INFO", True)
    assert "converted model 47 MB" in before["Disk"].detail
    words = ("--recipe", "demo", "--model.pretrained_model_name_or_path", str(sd15_file), "--json")
    assert json.loads(shoes("model", "verify", *words).stdout)["whole"] is False
    assert json.loads(shoes("model", "fetch", *words).stdout)["base"]["num_files"] == 13
    assert json.loads(shoes("model", "verify", *words).stdout)["whole"] is True
    after = seen_by_check(micro(changes))
    assert (after["Model files"].status, "converted model" in after["Disk"].detail) == ("OK", False)
    (own_world / "lora.safetensors").write_bytes(save({"lora_unet_x.lora_down.weight": torch.zeros(1)}))
    refused = seen_by_check(micro({"model.pretrained_model_name_or_path": "lora.safetensors"}))["Model files"]
    assert (refused.status, "is a LoRA or another adapter" in refused.detail) == ("ERROR", True)
    missing = seen_by_check(micro({"model.pretrained_model_name_or_path": "no.safetensors"}))["Model files"]
    assert (missing.status, "there is no such file" in missing.detail) == ("ERROR", True)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("~/models/dreams.safetensors", "dreams.safetensors"),
        ("models/dreams.safetensors", "dreams.safetensors"),
        ("C:\\Users\\jane\\dreams.safetensors", "dreams.safetensors"),
        ("{home}/models/dreams.safetensors", "dreams.safetensors"),
        ("owner/name", "owner/name"),
    ],
)
def test_what_is_published_does_not_say_where_the_file_lies(name: str, told: str) -> None:
    name = name.format(home=Path.home())
    assert public_name(name) == told
    assert is_on_hub(name) is (name == "owner/name")
    assert licence_of(name).link == (None if name != "owner/name" else "https://huggingface.co/owner/name")
    assert ModelSpec(pretrained_model_name_or_path=name).short_name in ("dreams", "C:\\Users\\jane\\dreams", "name")
    assert below_home(str(Path.home() / "models/x")) == "~/models/x"
    assert below_home("/elsewhere/x") == "/elsewhere/x"


def own_environment(home: Path, data: Path, locks: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "SHOES_DATA_DIR": str(data),
        "SHOES_LOCK_DIR": str(locks),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "OMP_NUM_THREADS": "1",
    }


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_night_on_a_single_file_by_the_command_line(
    sd15_file: Path, with_small_data: Path, own_world: Path, micro_flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # Prefect's server is asked by sockets
    home = own_world / "home/jane"
    (home / "models").mkdir(parents=True)
    shutil.copy(sd15_file, home / "models/dreams_8.safetensors")
    environment = own_environment(home, with_small_data, own_world / "locks")
    name = str(home / "models/dreams_8.safetensors")  # as the shell writes it for ~/models/dreams_8.safetensors
    base = ("--recipe", "demo", *micro_flags, "--model.pretrained_model_name_or_path", name)

    def run(*words: str) -> dict[str, object]:
        command = [str(Path(sys.executable).with_name("shoes")), *words, "--json"]
        done = subprocess.run(
            command, cwd=own_world, env=environment, capture_output=True, text=True, check=False, timeout=1200
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    night = run("run", *base)
    assert night["state"] == "finished"
    (converted,) = (with_small_data / "models").glob("single-file-*/")
    run("generate", *base, "a red shoe", "--adapter", "trained", "--out", "pictures")
    picture = next(file for file in (own_world / "pictures").glob("*.png") if file.name != "index.png")
    assert str(home).encode() not in picture.read_bytes()
    assert b"~/models/dreams_8.safetensors" in picture.read_bytes()
    assert run("generate", *base, "--from", str(picture))["largest_difference"] == 0
    exported = Path(run("export", *base, "--merged", "--out", "out")["path"])
    card = (exported / "README.md").read_text()
    assert 'from_single_file(\n    "dreams_8.safetensors"' in card
    assert not any(str(home).encode() in file.read_bytes() for file in exported.rglob("*") if file.is_file())
    config = json.loads((converted / "unet/config.json").read_text())
    assert config["block_out_channels"] == [32, 64, 128, 128]
    (home / "models/dreams_8.safetensors").unlink()  # the registered model draws all the same
    script = "import mlflow; print(mlflow.pyfunc.load_model('models:/casual-shoes-lora-demo/1').predict(['a shoe']))"
    tracking = {"MLFLOW_TRACKING_URI": f"sqlite:///{with_small_data / 'mlruns/mlflow.db'}"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=own_world,
        env=environment | tracking,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert "PIL.Image.Image" in done.stdout, done.stderr[-3000:]

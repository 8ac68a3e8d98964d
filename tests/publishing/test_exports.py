"""`shoes export`, from the command line to the folder and the Hub."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import ModelCard, snapshot_download

from flows.cli import main
from shoes import exports
from shoes.errors import ConfigurationError, NotReady
from shoes.exports import Wishes, export_adapter
from shoes.publishing import place
from shoes.publishing.export import DIFFUSERS_FILE, KOHYA_FILE
from shoes.publishing.place import place_problems, visible_files
from shoes.storage import hash_files, is_whole
from shoes.tracking.registry import Champion, Registry
from tests import world
from tests.hub.server import HubServer
from tests.hub.uploads import Account

FORMS = [KOHYA_FILE, "peft/adapter_config.json", "peft/adapter_model.safetensors", DIFFUSERS_FILE]
PICTURES = ["images/grid.png", *(f"images/sample-{number}.png" for number in range(1, 5))]


@pytest.fixture
def champion(in_night, monkeypatch: pytest.MonkeyPatch):
    """The night's adapter as version 3 of the registered model, whatever its scores were."""
    found = Champion(
        version="3",
        adapter_sha256=in_night.training.adapter_sha256,
        adapter_dir=in_night.training.adapter_dir,
        base_fingerprint=in_night.models.base.fingerprint,
        beat=None,
    )
    monkeypatch.setattr(Registry, "champion", lambda self, version=None: found)
    return found


def test_the_folder_of_a_training(in_night, tmp_path: Path) -> None:
    report = export_adapter(in_night.recipe, Wishes())
    folder = in_night.data_dir / "exports" / f"demo-{in_night.training.adapter_sha256[:8]}"
    assert report.path == folder
    assert list(report.files) == visible_files(folder)
    assert set(report.files) == {*FORMS, *PICTURES, "README.md", "export.json", "manifest.json"}
    assert is_whole(folder)
    for name in FORMS:
        assert (folder / name).read_bytes() == (in_night.training.adapter_dir / name).read_bytes()
    assert ModelCard.load(folder / "README.md").data.to_dict()["pipeline_tag"] == "text-to-image"
    assert (report.source, report.version, report.is_evaluated) == ("training", None, True)
    before = hash_files(folder)
    export_adapter(in_night.recipe, Wishes())
    assert hash_files(folder) == before, "a second export is the same, byte for byte"


def test_metadata_of_a_training_are_its_own(in_night) -> None:
    from safetensors import safe_open

    with safe_open(in_night.training.adapter_dir / KOHYA_FILE, "pt") as file:
        found = file.metadata()
    train = next(split for split in in_night.data.splits if split.name == "train")
    assert found["ss_num_train_images"] == str(train.num_images)
    assert found["ss_steps"] == str(in_night.training.chosen_step)
    assert found["ss_mixed_precision"] == "no"
    tags = json.loads(found["ss_tag_frequency"])["train"]
    assert tags["centered on white background"] == train.num_images


def test_the_champion_with_the_recipe_that_it_was_trained_with(champion, in_night, tmp_path: Path) -> None:
    asked = in_night.recipe.model_copy(update={"train": in_night.recipe.train.model_copy(update={"rank": 32})})
    report = export_adapter(asked, Wishes(champion=True, out=tmp_path / "best"))
    assert (report.source, report.version, report.recipe) == ("champion", "3", "demo")
    assert report.adapter_sha256 == champion.adapter_sha256
    assert f"rank {in_night.recipe.train.rank}" in (tmp_path / "best/README.md").read_text()


def test_a_champion_whose_files_are_gone(champion, in_night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Champion("4", champion.adapter_sha256, tmp_path / "gone/adapter", champion.base_fingerprint, None)
    monkeypatch.setattr(Registry, "champion", lambda self, version=None: gone)
    with pytest.raises(ConfigurationError, match="is not here any more as version 4 was registered"):
        export_adapter(in_night.recipe, Wishes(champion=True))
    monkeypatch.setattr(Registry, "champion", lambda self, version=None: None)
    with pytest.raises(ConfigurationError, match="has no champion"):
        export_adapter(in_night.recipe, Wishes(champion=True))


def test_a_champion_on_other_data_has_a_card_without_them(
    champion, in_night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(in_night.data_dir, copy, symlinks=True)
    (copy / "small").unlink()
    monkeypatch.setenv("SHOES_DATA_DIR", str(copy))
    export_adapter(in_night.recipe, Wishes(champion=True, out=tmp_path / "best"))
    assert "no longer at hand" in (tmp_path / "best/README.md").read_text()


def test_only_an_unchanged_export_is_replaced(in_night, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert place_problems(out) == []
    out.mkdir()
    (out / ".DS_Store").touch()
    export_adapter(in_night.recipe, Wishes(out=out))
    assert place_problems(out) == []
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"added or changed since: notes\.txt"):
        export_adapter(in_night.recipe, Wishes(out=out))
    (out / "notes.txt").unlink()
    (out / "README.md").write_text("my own words")
    assert "README.md" in place_problems(out)[0].what
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigurationError, match="holds other files and is no earlier export"):
        export_adapter(in_night.recipe, Wishes(out=other))
    assert (other / "thesis.txt").read_text() == "years of work"
    assert "is a file" in place_problems(other / "thesis.txt")[0].what
    assert "can't be written to" in place_problems(other / "thesis.txt/below")[0].what


def test_a_full_disk_is_told_before_anything_is_written(
    in_night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = sum(file.stat().st_size for file in in_night.training.adapter_dir.rglob("*") if file.is_file())
    enough = adapter + place.SPARE_BYTES + exports._CARD_BYTES
    monkeypatch.setattr(place, "free_bytes", lambda path: enough)
    export_adapter(in_night.recipe, Wishes(out=tmp_path / "out"))
    with pytest.raises(NotReady, match="the export needs"):
        export_adapter(in_night.recipe, Wishes(out=tmp_path / "merged", merged=True))
    assert not (tmp_path / "merged").exists()


def test_a_failed_export_leaves_the_former_one(in_night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    export_adapter(in_night.recipe, Wishes(out=out))

    def fail(*args, **kwargs):
        raise OSError("no")

    monkeypatch.setattr(exports, "write_card", fail)
    with pytest.raises(OSError, match="no"):
        export_adapter(in_night.recipe, Wishes(out=out))
    assert is_whole(out)
    assert list(tmp_path.glob(".partial*")) == []


# The command line -------------------------------------------------------------------------------------------


def shoes(micro_flags: list[str], *words: str):
    return CliRunner().invoke(main, ["export", *micro_flags, *words])


def test_merged_and_pushed_from_the_command_line(
    in_night, micro_flags: list[str], hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.uploads.accounts.append(Account("hf_secret"))
    out = tmp_path / "out"
    words = ("--out", str(out), "--merged", "--push", "owner/shoes", "--public", "--json")
    result = shoes(micro_flags, *words)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["merged"]["difference"] <= report["merged"]["tolerance"]
    assert report["merged"]["path"] == str(out / "merged")
    assert (report["push"]["is_changed"], report["push"]["is_private"]) == (True, False)
    assert "hf_secret" not in result.output
    back = Path(snapshot_download("owner/shoes", local_dir=tmp_path / "back"))
    assert visible_files(back) == visible_files(out)
    assert all((back / name).read_bytes() == (out / name).read_bytes() for name in visible_files(out))
    assert 'load_lora_weights("owner/shoes"' in (back / "README.md").read_text()
    again = shoes(micro_flags, *words[:-1])
    assert again.exit_code == 0, again.output
    assert "unchanged on the Hub" in again.stdout
    assert "grey levels of 255" in again.stdout
    assert len(hub.uploads.commits) == 1


def test_the_text_says_where_everything_is(in_night, micro_flags: list[str], tmp_path: Path) -> None:
    result = shoes(micro_flags, "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "Exported the training of demo: 12 files" in result.stdout
    assert f"load_lora_weights('{tmp_path / 'out'}')" in result.stdout


def test_everything_that_is_wrong_is_told_at_once(
    with_small_data, micro_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").touch()
    result = shoes(micro_flags, "--out", str(tmp_path / "mine"), "--push", "nothing", "--json")
    assert result.exit_code == 2, result.output
    found = [problem["where"] for problem in json.loads(result.stdout)["problems"]]
    assert found == ["the recipe demo", str(tmp_path / "mine"), "--push nothing", "HF_HUB_OFFLINE", "HF_TOKEN"]


@pytest.mark.parametrize("flag", ["--public", "--private"])
def test_a_flag_that_would_do_nothing_is_refused(in_night, micro_flags: list[str], flag: str) -> None:
    result = shoes(micro_flags, flag)
    assert result.exit_code == 2
    assert f"{flag}: says how to push" in result.stderr


def test_a_hub_that_is_away_fails_before_anything_is_written(
    in_night, micro_flags: list[str], hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.stop()
    result = shoes(micro_flags, "--out", str(tmp_path / "out"), "--push", "owner/shoes")
    assert result.exit_code == 1
    assert "can't be reached" in result.stderr
    assert not (tmp_path / "out").exists()


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys\nfrom flows.cli import main\n"
        "try: main(['export', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'mlflow', 'prefect', 'diffusers', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=world.ROOT)
    assert done.stdout.splitlines()[-1] == "[]"
    for option in ("--champion", "--out", "--merged", "--push", "--private / --public", "--json", "--recipe"):
        assert option in done.stdout

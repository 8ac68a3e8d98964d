"""The command line: codes, messages, and nothing left behind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli import main


def shoes(*words: str):
    return CliRunner().invoke(main, words)


def test_the_commands_are_those_that_work() -> None:
    expected = ["check", "data", "down", "evaluate", "export", "forecast", "generate", "model", "report", "run"]
    expected += ["schedule", "service", "status", "train", "up"]
    assert sorted(main.commands) == expected


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys\nfrom flows.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'mlflow', 'prefect', 'diffusers', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["run", "train", "evaluate", "export", "check", "forecast", "generate"])
def test_every_command_lists_the_fields_of_a_recipe(command: str) -> None:
    result = shoes(command, "--help")
    assert result.exit_code == 0
    assert "--train.learning_rate" in result.output
    assert "--json" in result.output


BAD = {
    "unknown field": (["--train.lr", "1"], ["train.lr"]),
    "wrong type": (["--train.max_train_steps", "many"], ["train.max_train_steps"]),
    "rank 0": (["--train.rank", "0"], ["train.rank"]),
    "missing data set": (["--data.dataset_dir", "data/nowhere"], ["nowhere", "shoes data import"]),
    "missing model": (["--model.pretrained_model_name_or_path", "data/nothing"], ["nothing"]),
    "two at once": (["--train.rank", "0", "--train.seed", "x"], ["train.rank", "train.seed"]),
    "two of different kinds": (
        ["--data.dataset_dir", "data/nowhere", "--model.pretrained_model_name_or_path", "data/nothing"],
        ["nowhere", "nothing"],
    ),
    "no value": (["--train.rank"], ["--train.rank", "VALUE"]),
    "stray word": (["rank=8"], ["rank=8"]),
    "unknown recipe": (["--recipe", "dmeo"], ["did you mean demo"]),
    "missing device": (["--train.device", "mps"], ["train.device", "--train.device auto"]),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("command", ["run", "train"])
def test_bad_input_is_one_clear_error_and_leaves_nothing_behind(own_world: Path, case: str, command: str) -> None:
    words, expected = BAD[case]
    result = shoes(command, *words)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    for word in expected:
        assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert list(own_world.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "content"),
    [("train/captions.json", b"{not json"), ("train/images", b""), ("test/captions.json", b'{"a": 1}')],
)
def test_a_broken_data_set_is_one_clear_error(own_world: Path, small_data: Path, file: str, content: bytes) -> None:
    folder = own_world / "data" / "broken"
    shutil.copytree(small_data, folder)
    target = folder / file
    if target.is_dir():
        target = sorted(target.iterdir())[0]
    target.write_bytes(content)
    before = sorted(own_world.rglob("*"))
    result = shoes("run", "--data.dataset_dir", "data/broken")
    assert result.exit_code == 2
    assert target.name in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(own_world.rglob("*")) == before


def test_errors_are_json_too() -> None:
    result = shoes("run", "--json", "--train.rank", "0")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert found["problems"][0]["where"] == "train.rank"
    assert found["problems"][0]["fix"]


def test_check_says_ready_for_machines_and_people() -> None:
    result = shoes("check", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["ready"] is True
    assert set(found["checks"][0]) == {"name", "status", "critical", "detail", "fix"}
    assert "Ready for training" in shoes("check", "--lang", "en").stdout
    assert "Pronto para treinar" in shoes("check", "--lang", "pt").stdout


def test_a_failed_critical_check_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    result = shoes("check", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert [check["name"] for check in found["checks"] if check["status"] == "ERROR"] == ["PEFT (LoRA)"]


def test_data_verify_tells_good_from_bad(own_world: Path, small_data: Path) -> None:
    assert shoes("data", "verify", str(small_data)).exit_code == 0
    folder = own_world / "broken"
    shutil.copytree(small_data, folder)
    image = sorted((folder / "val/images").iterdir())[0]
    image.write_bytes(b"")
    result = shoes("data", "verify", str(folder), "--json")
    assert result.exit_code == 1
    assert any(image.name in problem["where"] for problem in json.loads(result.stdout)["problems"])


def test_data_describe_prints_a_table_and_writes_a_page(own_world: Path, small_data: Path) -> None:
    result = shoes("data", "describe", str(small_data))
    assert result.exit_code == 0, result.stderr
    page = Path(result.stdout.splitlines()[-1].removeprefix("Page: "))
    assert page.is_relative_to(own_world / "data" / "descriptions")
    assert page.is_file()
    found = json.loads(shoes("data", "describe", str(small_data), "--out", "page", "--json").stdout)
    assert found["photos"]["train"] + found["photos"]["val"] + found["photos"]["test"] == 28
    assert found["page"] == str(own_world / "page" / "index.html")
    assert shoes("data", "describe", "nowhere").exit_code == 2


def test_data_import_takes_images_with_captions(own_world: Path, small_data: Path) -> None:
    source = own_world / "photos"
    shutil.copytree(small_data / "train" / "images", source)
    for photo in source.glob("*.png"):
        photo.with_suffix(".txt").write_text(f"a shoe called {photo.stem}")
    result = shoes("data", "import", str(source), "--out", "mine", "--train.resolution", "64", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert sum(split["num_images"] for split in found["splits"]) == len(list(source.glob("*.png")))
    assert shoes("data", "verify", "mine").exit_code == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "SOURCE"),
        (["photos"], "is no folder"),
        (["hub:name"], "write it like hub:owner/name"),
        (["kaggle:name"], "write it like kaggle:owner/name"),
    ],
)
def test_a_bad_source_is_bad_input_and_leaves_nothing(own_world: Path, words: list[str], expected: str) -> None:
    result = shoes("data", "import", *words, "--out", "mine")
    assert result.exit_code == 2, result.output
    assert expected in result.stderr
    assert list(own_world.iterdir()) == []


def test_the_demos_data_set_is_never_replaced(own_world: Path, small_data: Path) -> None:
    result = shoes("data", "import", str(small_data))
    assert result.exit_code == 2
    assert "belongs to the demo" in result.stderr


@pytest.mark.parametrize(
    "words",
    [["--train.resolution", "64", "{}"], ["{}", "--train.resolution=64"], ["--train.resolution=64", "{}", "--json"]],
)
def test_fields_of_the_recipe_may_stand_before_and_behind_an_argument(small_data: Path, words: list[str]) -> None:
    result = shoes("data", "verify", *(word.format(small_data) for word in words))
    assert result.exit_code == 0, result.output
    assert str(small_data) in result.stdout


def test_a_field_instead_of_the_argument(with_small_data: Path) -> None:
    result = shoes("data", "verify", "--data.dataset_dir", "data/small")
    assert result.exit_code == 0, result.output


def test_a_library_that_is_broken_is_one_clear_error(
    with_small_data: Path, micro_flags: list[str], monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    result = shoes("train", *micro_flags)
    assert result.exit_code == 1
    assert "`shoes check` says what to install" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_names_the_words_that_a_field_takes() -> None:
    text = " ".join(shoes("train", "--help").output.split())
    assert "One of true, false, auto." in text
    assert "One of auto, no, fp16, bf16." in text


def test_training_alone_ends_with_its_forecast_and_says_that_it_is_finished(
    in_night, micro_flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from shoes.forecast import outcome

    class Said:
        training_seconds, peak_memory_bytes, start_step = 2 * in_night.training.seconds, 10**9, 0

    monkeypatch.setattr(outcome, "kept", lambda folder: Said() if folder == in_night.training.run_dir else None)
    text = shoes("train", *micro_flags).stdout
    assert "What the forecast said" in text
    assert "(+100%)" in text
    found = json.loads(shoes("train", "--json", *micro_flags).stdout)
    assert (found["state"], found["step"]) == ("finished", 4)
    assert found["forecast"]["predicted_peak_bytes"] == 10**9
    monkeypatch.setattr(outcome, "kept", lambda folder: None)
    assert "What the forecast said" not in shoes("train", *micro_flags).stdout


def test_a_training_that_pauses_is_no_failure(in_night, micro_flags: list[str], monkeypatch) -> None:
    from shoes import stages
    from shoes.reports import PausedTraining

    shared = {name: getattr(in_night.training, name) for name in PausedTraining.model_fields if name != "reason"}
    report = PausedTraining(reason="the disk has 2.1 GB left", **{**shared, "step": 2})
    monkeypatch.setattr(stages, "train", lambda *given: report)
    result = shoes("train", *micro_flags)
    assert result.exit_code == 0
    assert "paused at 2 of 4 steps: the disk has 2.1 GB left" in result.stdout
    found = json.loads(shoes("train", "--json", *micro_flags).stdout)
    assert (found["state"], found["reason"]) == ("paused", report.reason)

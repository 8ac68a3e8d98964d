"""A training that is killed or stopped goes on, and ends with the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import furnish

STEPS = ["--train.max_train_steps", "10", "--train.checkpointing_steps", "3", "--train.save_steps", "5"]
STEPS += ["--train.validation_steps", "5"]


def start(data_dir: Path, micro_flags: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", "from flows.cli import main; main()", "train", "--json", *micro_flags, *STEPS],
        env={**os.environ, "SHOES_DATA_DIR": str(data_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(data_dir: Path, micro_flags: list[str]) -> dict[str, object]:
    process = start(data_dir, micro_flags)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out)


def data_folder(place: Path, small_data: Path) -> Path:
    return furnish(place / "data", small_data)


@pytest.fixture(scope="module")
def straight(
    tmp_path_factory: pytest.TempPathFactory, small_data: Path, micro_flags: list[str]
) -> tuple[Path, dict[str, object]]:
    """The same training without interruption."""
    folder = data_folder(tmp_path_factory.mktemp("straight"), small_data)
    return folder, finish(folder, micro_flags)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow),  # test_kills kills three times
        pytest.param(signal.SIGTERM, 130, marks=pytest.mark.slow),  # test_leaving asks so in a process
        (signal.SIGINT, 130),
    ],
)
def test_it_goes_on_and_ends_with_the_same_bytes(
    own_world: Path,
    small_data: Path,
    micro_flags: list[str],
    straight: tuple[Path, dict[str, object]],
    number: signal.Signals,
    code: int,
) -> None:
    _, expected = straight
    folder = data_folder(own_world / number.name, small_data)
    process = start(folder, micro_flags)
    journal = wait_for_step(folder, 5, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    at = max(steps_of(journal))
    assert at < 10, "the training was over before the signal came"
    report = finish(folder, micro_flags)
    assert report["adapter_sha256"] == expected["adapter_sha256"]
    assert Counter(steps_of(journal)) == Counter(range(1, 11))
    if number != signal.SIGKILL:
        assert report["resumed_from"] == [at], "a stop that was asked for saves the state: no step is done twice"
    points, num_runs = mlflow_steps(folder)
    assert (points, num_runs) == (list(range(1, 11)), 1)


def wait_for_step(folder: Path, step: int, process: "subprocess.Popen[str]") -> Path:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        for journal in folder.glob("runs/*/journal.jsonl"):
            if step in steps_of(journal):
                return journal
        time.sleep(0.02)
    raise AssertionError(f"step {step} was never reached: {process.stderr.read() if process.stderr else ''}")


def steps_of(journal: Path) -> list[int]:
    lines = journal.read_bytes().split(b"\n")[:-1]
    events = [json.loads(line) for line in lines]
    return [event["step"] for event in events if "train/loss" in event.get("values", {})]


def mlflow_steps(folder: Path) -> tuple[list[int], int]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlruns/mlflow.db'}")
    experiment = client.get_experiment_by_name("casual-shoes-lora-demo")
    runs = client.search_runs([experiment.experiment_id])
    assert runs[0].info.status == "FINISHED"
    history = client.get_metric_history(runs[0].info.run_id, "train/loss")
    return sorted(metric.step for metric in history), len(runs)

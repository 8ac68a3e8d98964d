"""Cancel in the dashboard: the step ends, the state is saved, all places know, and the next run goes on."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shoes.spec import Recipe
from shoes.tracking.journal import last_status, read_events
from tests.conftest import furnish
from tests.operations.live import LiveUp
from tests.training.opening import train
from tests.training.test_interruption import mlflow_steps

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning"),
]
CHANGES = {
    "train.max_train_steps": "60",
    "train.checkpointing_steps": "20",
    "train.save_steps": "30",
    "train.validation_steps": "30",
}


def start(up: LiveUp, recipe: Recipe) -> str:
    (deployment,) = [d for d in up.post("deployments/filter", {}) if d["name"] == "train-lora"]
    given = {"parameters": {"recipe": recipe.model_dump(mode="json")}, "state": {"type": "SCHEDULED"}}
    return up.post(f"deployments/{deployment['id']}/create_flow_run", given)["id"]


def state(up: LiveUp, run: str) -> dict[str, Any]:
    return up.get(f"flow_runs/{run}")["state"]


def steps(journal: Path) -> list[int]:
    return [event["step"] for event in read_events(journal) if "train/loss" in event.get("values", {})]


def journal_of(up: LiveUp) -> Path | None:
    return next(up.data.glob("runs/*/journal.jsonl"), None)


def reached(up: LiveUp, step: int) -> bool:
    journal = journal_of(up)
    return journal is not None and step in steps(journal)


def test_a_cancelled_training_goes_on_and_ends_with_the_same_bytes(
    micro: Callable[..., Recipe], small_data: Path, tmp_path: Path
) -> None:
    expected = train(micro(CHANGES))
    up = LiveUp(tmp_path / "up")
    furnish(up.data, small_data)
    with up:
        run = start(up, micro(CHANGES))
        up.until(lambda: reached(up, 22))
        up.post(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        up.until(lambda: state(up, run)["type"] == "CANCELLED")
        journal = journal_of(up)
        assert journal is not None
        at = max(steps(journal))
        assert 22 <= at < 60, "it was over before it could be cancelled"
        assert last_status(journal)["status"] == "KILLED"
        saved = [json.loads(file.read_text())["step"] for file in journal.parent.glob("checkpoints/*/state.json")]
        assert max(saved) == at, "the state of the last step is saved"
        again = start(up, micro(CHANGES))
        up.until(lambda: state(up, again)["type"] not in ("SCHEDULED", "PENDING", "RUNNING"))
        assert state(up, again)["type"] == "COMPLETED", state(up, again)
    report = json.loads((journal.parent / "report.json").read_text())
    assert report["adapter_sha256"] == expected.adapter_sha256
    assert report["resumed_from"] == [at]
    assert Counter(steps(journal)) == Counter(range(1, 61))
    assert mlflow_steps(up.data) == (list(range(1, 61)), 1)

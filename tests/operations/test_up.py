"""`shoes up` as a person starts it: real servers, a real worker, and nothing left afterwards."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from shoes.spec import Recipe
from shoes.tracking.journal import last_status, read_events
from tests import asking, world
from tests.conftest import furnish
from tests.operations.live import LiveUp
from tests.training.opening import train
from tests.training.test_interruption import mlflow_steps
from tests.world import free_port

pytestmark = pytest.mark.timeout(1200)
LONGER = {
    "train.max_train_steps": "60",
    "train.checkpointing_steps": "20",
    "train.save_steps": "30",
    "train.validation_steps": "30",
}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveUp]:
    with LiveUp(tmp_path_factory.mktemp("up")) as up:
        yield up


def test_all_is_there_when_it_says_ready(live: LiveUp) -> None:
    assert live.ready["is_ready"]
    assert set(live.ready["programs"]) == {"prefect-server", "mlflow-server", "worker"}
    assert asking.ask("GET", f"{live.ready['mlflow']}/health")
    names = {deployment["name"] for deployment in live.post("deployments/filter", {})}
    assert {"overnight", "demo", "train-lora", "report"} <= names
    (queue,) = [q for q in live.post("work_pools/shoes/queues/filter", {}) if q["name"] == "device"]
    assert queue["concurrency_limit"] == 1
    (worker,) = live.post("work_pools/shoes/workers/filter", {})
    assert worker["status"] == "ONLINE"


def test_a_person_who_waits_is_told_for_what(live: LiveUp) -> None:
    said = live.log.read_text()
    assert "starting Prefect, MLflow, Worker" in said
    assert said.index("starting Prefect") < said.index("registering the deployments")


def test_everything_listens_on_the_loopback_only(live: LiveUp) -> None:
    seats = [psutil.Process(seat["pid"]) for seat in live.ready["programs"].values()]
    everybody = [p for seat in seats for p in (seat, *seat.children(recursive=True))]
    addresses = {c.laddr.ip for p in everybody for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert addresses == {"127.0.0.1"}


def test_status_says_so_for_people_and_machines(live: LiveUp) -> None:
    told = live.shoes("status", "--json")
    found = json.loads(told.stdout)
    assert told.returncode == 0, told.stderr
    assert found["is_up"]
    assert {server["name"] for server in found["servers"]} == {"prefect-server", "mlflow-server", "worker"}
    assert all(server["is_good"] for server in found["servers"])
    assert len(found["next_runs"]) == 3
    text = live.shoes("status").stdout
    assert live.ready["dashboard"] in text
    assert "Nothing is running" in text


def test_a_second_one_is_refused_with_where_the_first_is(live: LiveUp) -> None:
    told = live.shoes("up")
    assert told.returncode == 1
    assert f"runs already (process {live.process.pid}" in told.stderr
    assert live.ready["dashboard"] in told.stderr


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")
def test_a_cancelled_training_goes_on_and_ends_with_the_same_bytes(
    live: LiveUp, micro: Callable[..., Recipe], small_data: Path
) -> None:
    expected = train(micro(LONGER))
    furnish(live.data, small_data)
    run = start(live, micro(LONGER))
    live.until(lambda: reached(live, 5))
    live.post(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    live.until(lambda: state(live, run)["type"] == "CANCELLED")
    journal = journal_of(live)
    assert journal is not None
    at = max(steps(journal))
    assert 5 <= at < 60, "it was over before it could be cancelled"
    assert last_status(journal)["status"] == "KILLED"
    saved = [json.loads(file.read_text())["step"] for file in journal.parent.glob("checkpoints/*/state.json")]
    assert max(saved) == at, "the state of the last step is saved"
    again = start(live, micro(LONGER))
    live.until(lambda: state(live, again)["type"] not in ("SCHEDULED", "PENDING", "RUNNING"))
    assert state(live, again)["type"] == "COMPLETED", state(live, again)
    report = json.loads((journal.parent / "report.json").read_text())
    assert report["adapter_sha256"] == expected.adapter_sha256
    assert report["resumed_from"] == [at]
    assert Counter(steps(journal)) == Counter(range(1, 61))
    assert mlflow_steps(live.data) == (list(range(1, 61)), 1)


def start(live: LiveUp, recipe: Recipe) -> str:
    (deployment,) = [d for d in live.post("deployments/filter", {}) if d["name"] == "train-lora"]
    given = {"parameters": {"recipe": recipe.model_dump(mode="json")}, "state": {"type": "SCHEDULED"}}
    return live.post(f"deployments/{deployment['id']}/create_flow_run", given)["id"]


def state(live: LiveUp, run: str) -> dict[str, Any]:
    return live.get(f"flow_runs/{run}")["state"]


def steps(journal: Path) -> list[int]:
    return [event["step"] for event in read_events(journal) if "train/loss" in event.get("values", {})]


def journal_of(live: LiveUp) -> Path | None:
    return next(live.data.glob("runs/*/journal.jsonl"), None)


def reached(live: LiveUp, step: int) -> bool:
    journal = journal_of(live)
    return journal is not None and step in steps(journal)


def test_a_server_that_is_killed_comes_back(live: LiveUp) -> None:
    pid = live.ready["programs"]["mlflow-server"]["pid"]
    os.kill(pid, signal.SIGKILL)
    live.until(lambda: live.record()["programs"]["mlflow-server"]["pid"] != pid)
    live.until(lambda: asking.answers(f"{live.ready['mlflow']}/health"))


def test_a_taken_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        up = LiveUp(tmp_path, {"SHOES_PREFECT_PORT": str(taken.getsockname()[1])})
        told = up.shoes("up")
    assert told.returncode == 2
    assert "SHOES_PREFECT_PORT" in told.stderr
    assert not (up.data / "servers" / "running.json").exists()
    assert not (up.data / "logs").exists()


def test_a_teams_server_that_is_away_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    up = LiveUp(tmp_path, {"PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api"})
    told = up.shoes("up")
    assert told.returncode == 1
    assert "nothing answers there. Start that server, or unset PREFECT_API_URL" in told.stderr
    assert up.leftovers() == []


def running_run(live: LiveUp, deployment: str) -> dict[str, Any]:
    """A flow run that is running as far as Prefect knows, and that nobody works on."""
    (found,) = [d for d in live.post("deployments/filter", {}) if d["name"] == deployment]
    run = live.post(f"deployments/{found['id']}/create_flow_run", {"state": {"type": "PENDING"}, "tags": found["tags"]})
    live.post(f"flow_runs/{run['id']}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    return run


@pytest.mark.slow
def test_after_a_power_cut_nothing_stays_running_and_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    up = LiveUp(tmp_path)
    with up:
        lost = running_run(up, "demo")
        up.power_cut()
    assert up.leftovers() == []
    with up:
        assert up.get(f"flow_runs/{lost['id']}")["state"]["type"] == "CRASHED"
        servers = up.record()["programs"].values()
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(100) == 0
        assert not any(psutil.pid_exists(seat["pid"]) for seat in servers)
        assert up.leftovers() == []
    assert not (up.data / "servers" / "running.json").exists()


@pytest.mark.slow
def test_a_killed_one_leaves_programs_that_down_stops(tmp_path: Path) -> None:
    up = LiveUp(tmp_path)
    with up:
        up.process.kill()
        up.process.wait()
        assert up.leftovers() != []
        told = up.shoes("down")
        assert told.returncode == 0
        assert "prefect-server" in told.stdout
        assert up.leftovers() == []
    assert "Nothing was running" in up.shoes("down").stdout


def test_status_without_anything_running(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "flows", "status"],
        cwd=world.ROOT,
        env={**os.environ, "SHOES_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert "Nothing runs. `shoes up` starts" in told.stdout

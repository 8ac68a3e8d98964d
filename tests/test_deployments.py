"""The deployments on a real Prefect server: they register, and the nightly cron yields runs.

With SQLAlchemy 2.1 the server makes no cron run, and says so only in its log; this is the test that sees it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flows.operations.database import make_database
from tests import asking, world
from tests.world import free_port


def prefect(environment: dict[str, str], *words: str) -> str:
    command = [str(Path(sys.executable).with_name("prefect")), "--no-prompt", *words]
    done = subprocess.run(
        command,
        check=False,
        cwd=world.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Prefect server of its own; the environment of those who talk to it."""
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    make_database(home)
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
        "DO_NOT_TRACK": "1",
        "SHOES_ROOT": str(world.ROOT),
        "TZ": "America/Sao_Paulo",
    }
    start = [
        str(Path(sys.executable).with_name("prefect")),
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    log = (home / "server.log").open("w")
    process = subprocess.Popen(start, env=environment, stdout=log, stderr=log)
    try:
        wait_until_healthy(environment["PREFECT_API_URL"], process, home / "server.log")
        yield environment
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def wait_until_healthy(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        if asking.answers(f"{url}/health"):
            return
        time.sleep(0.3)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def deployed(server: dict[str, str]) -> str:
    """The server's address, with everything of prefect.yaml on it."""
    asking.post(f"{server['PREFECT_API_URL']}/work_pools/", {"name": "shoes", "type": "process"})
    prefect(server, "deploy", "--all")
    return server["PREFECT_API_URL"]


def test_everything_deploys_and_the_night_is_scheduled(deployed: str) -> None:
    names = {deployment["name"] for deployment in asking.post(f"{deployed}/deployments/filter", {})}
    assert {"overnight", "demo", "prototype", "train-lora", "evaluate"} <= names
    runs = scheduled_runs(deployed)
    assert len(runs) >= 3
    assert {run["parameters"]["recipe"]["name"] for run in runs} == {"overnight"}
    assert clocks(runs) == {"01:00"}, "ten in the evening in São Paulo"


def test_the_schedule_of_the_machine_moves_the_runs_and_outlives_deploys(server: dict[str, str], deployed: str) -> None:
    from flows.operations.nights import apply, around_deploying, connected, drop_stale
    from flows.operations.register import Deploying, is_up_to_date, project_version
    from shoes.nights import Schedule, save
    from shoes.settings import load_settings

    kept = Schedule(starts="23:15", ends="06:30", timezone="America/Sao_Paulo", recipe="prototype")
    settings = load_settings()
    with connected(deployed) as client:
        assert not is_up_to_date(client, world.ROOT), "a deploy by hand knows no version"
        assert apply(client, kept)
        runs = scheduled_runs(deployed)
        assert {run["parameters"]["recipe"]["name"] for run in runs} == {"prototype"}
        assert clocks(runs) == {"02:15"}
        window = runs[0]["parameters"]["recipe"]["window"]
        assert window == {"starts": "23:15", "ends": "06:30", "timezone": "America/Sao_Paulo"}
        save(kept, settings.data)
        with around_deploying(client, settings):
            prefect(server, "deploy", "--all")
        time.sleep(2)  # the server's scheduler may still put in what it read before
        drop_stale(client, datetime.now(UTC))
        assert clocks(scheduled_runs(deployed)) == {"02:15"}, "a deploy does not bring the shipped hours back"
        assert not apply(client, kept.model_copy(update={"is_paused": True}))
        with around_deploying(client, settings):
            Deploying(server, world.ROOT).finish()
        time.sleep(2)
        drop_stale(client, datetime.now(UTC))
        assert scheduled_runs(deployed, wanted=1, seconds=4) == [], "nor does it wake what was paused"
        assert is_up_to_date(client, world.ROOT), "what `shoes up` registers knows its version, and is left alone"
        report = client.read_deployment_by_name("report/report")
        assert report.version == project_version(world.ROOT)
        client.delete_deployment(report.id)
        assert not is_up_to_date(client, world.ROOT), "what was deleted comes back"


def test_changed_code_is_another_version(tmp_path: Path) -> None:
    from flows.operations.register import project_version

    (tmp_path / "prefect.yaml").write_text("deployments: []\n")
    (tmp_path / "flows").mkdir()
    versions = [project_version(tmp_path)]
    for code in ("a = 1\n", "a = 2\n"):
        (tmp_path / "flows" / "night.py").write_text(code)
        versions.append(project_version(tmp_path))
    (tmp_path / "prefect.yaml").write_text("deployments: [] # other\n")
    versions.append(project_version(tmp_path))
    assert len(set(versions)) == 4


def clocks(runs: list[dict[str, Any]]) -> set[str]:
    """Times of day in UTC at which runs are to start."""
    return {run["expected_start_time"][11:16] for run in runs}


def scheduled_runs(url: str, wanted: int = 3, seconds: float = 60) -> list[dict[str, Any]]:
    """Runs that wait for their time, once there are as many as wanted; what there is after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        found = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
        runs = asking.post(f"{url}/flow_runs/filter", found)
        if len(runs) >= wanted or time.monotonic() > deadline:
            return runs
        time.sleep(0.5)

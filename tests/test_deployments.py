"""The deployments on a real Prefect server: they register, and the nightly cron yields runs.

With SQLAlchemy 2.1 the server makes no cron run, and says so only in its log; this is the test that sees it.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shoes.settings import PROJECT_ROOT


def prefect(environment: dict[str, str], *words: str) -> str:
    command = [str(Path(sys.executable).with_name("prefect")), "--no-prompt", *words]
    done = subprocess.run(
        command,
        check=False,
        cwd=PROJECT_ROOT,
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
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "SHOES_ROOT": str(PROJECT_ROOT),
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
        try:
            if httpx.get(f"{url}/health").is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.3)
    raise AssertionError(log.read_text())


def test_everything_deploys_and_the_night_is_scheduled(server: dict[str, str]) -> None:
    prefect(server, "work-pool", "create", "shoes", "--type", "process")
    prefect(server, "deploy", "--all")
    listed = prefect(server, "deployment", "ls")
    for name in ("overnight", "demo", "prototype", "train-lora", "evaluate"):
        assert name in listed
    runs = asyncio.run(scheduled_runs(server["PREFECT_API_URL"]))
    assert len(runs) >= 3
    assert {run["parameters"]["recipe"]["name"] for run in runs} == {"overnight"}


async def scheduled_runs(url: str) -> list[dict[str, dict[str, dict[str, str]]]]:
    async with httpx.AsyncClient() as client:
        for _ in range(120):
            wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
            runs = (await client.post(f"{url}/flow_runs/filter", json=wanted)).json()
            if len(runs) >= 3:
                return runs
            await asyncio.sleep(0.5)
    return []

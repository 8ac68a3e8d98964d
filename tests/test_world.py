"""The tests' own world: nothing of a person's comes in, and nothing of theirs is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest

from tests import world

INSIDE = """
import json, os, signal, subprocess, sys, time
from pathlib import Path

import pytest

from shoes.settings import load_settings
from tests import world


@pytest.fixture(scope="module")
def wide():
    settings = load_settings()
    return [str(settings.data), settings.tracking_uri, str(settings.prefect_api_url)]


def test_seen(wide, tmp_path):
    names = [name for name in os.environ if name.startswith(("SHOES_", "MLFLOW_", "PREFECT_", "HF_", "AWS_"))]
    deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    found = {"names": names, "home": str(Path.home()), "deaf": deaf, "wide": wide, "root": str(world.ROOT)}
    found["env_file"] = (world.ROOT / ".env").exists()
    Path(os.environ["PYTEST_TOLD"]).write_text(json.dumps(found))


def test_child():
    code = "import os, time; os.fork() or os.setsid(); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], env={"PATH": os.environ["PATH"]})
    Path(os.environ["PYTEST_TOLD"]).with_suffix(".pid").write_text(str(child.pid))
    if "PYTEST_WAITS" in os.environ:
        time.sleep(600)
"""


class Counted(BaseHTTPRequestHandler):
    """Answers nothing well, and counts."""

    def do_GET(self) -> None:
        self.server.count += 1
        self.send_error(404)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing is said."""


@pytest.fixture
def somebodys_server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Counted) as server:
        server.count = 0
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """Tests that are run by tests, below the project's own configuration and conftest.py."""
    file = tmp_path / "test_inside.py"
    file.write_text(INSIDE)
    return file


def start(file: Path, tests: str, **more: str) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "pytest", str(file), "-k", tests, "-p", "tests.conftest", "-c", "pyproject.toml"]
    words += [f"--rootdir={world.PROJECT}", f"--basetemp={file.parent / 'temp'}", "-p", "no:cacheprovider"]
    own = {"PYTEST_TOLD": str(file.with_suffix(".json")), "PYTHONPATH": str(world.PROJECT)}
    environment = {**os.environ, **own, **more}
    del environment["PYTEST_CURRENT_TEST"]  # as a person starts it
    return subprocess.Popen(words, cwd=world.PROJECT, env=environment, text=True, stdout=subprocess.PIPE)


def test_nothing_of_the_person_comes_in(inside: Path, somebodys_server: ThreadingHTTPServer) -> None:
    address = f"http://127.0.0.1:{somebodys_server.server_address[1]}"
    theirs = {
        "MLFLOW_TRACKING_URI": address,
        "PREFECT_API_URL": f"{address}/api",
        "SHOES_DATA_DIR": "/somebody/data",
        "SHOES_MLFLOW_TRACKING_URI": address,
        "HTTP_PROXY": address,
        "HF_TOKEN": "secret",
        "HOME": "/somebody",
        "LANGUAGE": "pt_BR",
    }
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts what is in the background
    try:
        process = start(inside, "seen", **theirs)
    finally:
        signal.signal(signal.SIGINT, before)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    found = json.loads(inside.with_suffix(".json").read_text())
    assert not {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", "HF_TOKEN", "SHOES_MLFLOW_TRACKING_URI"} & set(found["names"])
    assert "somebody" not in json.dumps(found)
    assert not found["deaf"]
    assert not found["env_file"]
    assert found["wide"][0].startswith(str(Path(found["root"]).parent)), "a wide fixture sees the run's own folder"
    assert somebodys_server.count == 0


@pytest.mark.parametrize("how", ["the test ends", "pytest is killed"])
def test_a_tests_processes_die_with_it(inside: Path, how: str) -> None:
    waits = {"PYTEST_WAITS": "yes"} if how == "pytest is killed" else {}
    process = start(inside, "child", **waits)
    told = inside.with_suffix(".pid")
    if waits:
        while not (told.is_file() and told.read_text()):
            assert process.poll() is None
            time.sleep(0.1)
        process.kill()
    said, _ = process.communicate(timeout=300)
    assert waits or process.returncode == 0, said
    pid = int(told.read_text())
    until = time.monotonic() + 60
    while _alive(pid):
        assert time.monotonic() < until, "the test's process still lives"
        time.sleep(0.1)


def _alive(pid: int) -> list[int]:
    """A process and those of its session; both were started by the test inside."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            is_it = one.pid == pid or (one.ppid() == pid) or "os.fork() or os.setsid()" in " ".join(one.cmdline())
            if is_it and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one.pid)
    return found


def test_no_port_is_given_twice() -> None:
    code = "from tests.world import free_port; print(*[free_port() for _ in range(200)]); input()"
    here = [world.free_port() for _ in range(200)]
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=world.PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        there = [int(port) for port in other.stdout.readline().split()]
        other.communicate("\n", timeout=60)
    assert len({*here, *there}) == 400

"""A command that is forked is to its test what it would be if Python had started it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import forkserver

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="commands start plainly here")

SELF = """
import json, os, sys, threading
words = {"pid": os.getpid(), "parent": os.getppid(), "session": os.getsid(0), "folder": os.getcwd(), "words": sys.argv,
         "path": sys.path[0], "variable": os.environ.get("GIVEN"), "input": sys.stdin.read(), "name": __name__,
         "project": sorted({name.partition(".")[0] for name in sys.modules} & {"shoes", "flows", "tasks", "tests"})}
print(json.dumps(words))
print("to stderr", file=sys.stderr)
sys.exit(int(os.environ.get("CODE", "0")))
"""


@pytest.fixture(params=["forked", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both ways of starting must show the same."""
    monkeypatch.setattr(forkserver, "is_known", lambda words: request.param == "forked")
    return request.param


def run(code: str, *words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, **options)


def test_it_is_a_child_as_any_other(way: str, tmp_path: Path) -> None:
    environment = {**os.environ, "GIVEN": "ä", "CODE": "3"}
    done = run(SELF, "one", "two words", env=environment, cwd=tmp_path, input="asked", start_new_session=True)
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (3, "to stderr\n")
    assert found["parent"] == os.getpid()
    assert found["session"] == found["pid"]
    assert (found["folder"], found["words"], found["path"]) == (str(tmp_path), ["-c", "one", "two words"], "")
    assert (found["variable"], found["input"], found["name"]) == ("ä", "asked", "__main__")
    assert found["project"] == [], "the project's own modules are read anew"


def test_without_a_session_of_its_own_it_is_in_ours(way: str) -> None:
    assert json.loads(run(SELF, input="").stdout)["session"] == os.getsid(0)


@pytest.mark.parametrize(
    ("code", "expected", "said"),
    [
        ("raise SystemExit", 0, ""),
        ("raise SystemExit('it is wrong')", 1, "it is wrong\n"),
        ("raise ValueError('a bug')", 1, "ValueError: a bug\n"),
        ("import os; os._exit(9)", 9, ""),
        ("import threading, time; threading.Timer(0.2, print, ['late']).start()", 0, ""),
        ("import atexit, sys; atexit.register(print, 'over', file=sys.stderr)", 0, "over\n"),
    ],
)
def test_it_ends_as_python_ends(way: str, code: str, expected: int, said: str) -> None:
    done = run(code)
    assert (done.returncode, done.stderr[-len(said) :] if said else done.stderr) == (expected, said)
    assert done.stdout == ("late\n" if "late" in code else "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_hears_signals(way: str, number: signal.Signals) -> None:
    code = "import time; print('here', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.readline()
    assert process.poll() is None
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == -number


def test_numbers_drawn_by_chance_differ(way: str) -> None:
    code = "import random, numpy, tempfile; print(random.random(), numpy.random.rand(), tempfile.mktemp())"
    assert not set(run(code).stdout.split()) & set(run(code).stdout.split())


@pytest.mark.parametrize(
    ("words", "known"),
    [
        (["-m", "flows", "train"], True),
        (["-c", forkserver.SHOES, "run", "--recipe", "demo"], True),
        (["-m", "shoes.forecast"], True),
        (["-m", "flows", "up"], False),
        (["-m", "flows"], False),
        (["-W", "error", "-m", "flows", "train"], False),
        (["-c", "import this", "train"], False),
    ],
)
def test_only_this_programs_commands_are_forked(words: list[str], known: bool) -> None:
    assert forkserver.is_known([sys.executable, *words]) is known
    assert not forkserver.is_known(["python", *words])


@pytest.mark.parametrize(
    ("change", "is_forked"),
    [
        ({}, True),
        ({"SHOES_SEED": "1"}, True),
        ({"TORCHINDUCTOR_CACHE_DIR": "x"}, True),  # torch sets it in this process, too
        ({"HF_HUB_OFFLINE": "0"}, False),
        ({"COVERAGE_FILE": "x"}, False),
    ],
)
def test_where_a_library_would_read_something_else_it_starts_plainly(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, str], is_forked: bool
) -> None:
    monkeypatch.setattr(forkserver, "is_known", lambda words: True)
    code = "import sys; print('torch' in sys.modules)"
    assert run(code, env={**os.environ, **change}).stdout == f"{is_forked}\n"


def test_the_forkserver_outlives_the_test_that_needed_it_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests import world

    monkeypatch.setattr(forkserver, "is_known", lambda words: True)
    run("")
    server = forkserver._forkserver()._process
    assert server not in world._started
    assert server.poll() is None

"""The world that the tests run in: nothing of the person's who starts them, and nothing left of it behind.

The process that starts the tests and each of its workers enter it before they import anything that reads a variable:
`tests/entering.py` is what `tests/conftest.py` imports first.

- **Variables**: those in `_KEPT`, and a few of the tests' own. Servers, tokens, proxies and language of the person are
  gone.
- **Folders**: home, data and locks are below one folder, which goes when the process ends. The project is seen through
  links, without the person's `.env`.
- **Signals** as a terminal gives them: a shell starts what is in the background deaf to SIGINT.
- **Processes**: what a test has started dies with it, and what any of them has started dies with this process,
  however that ends: a watchdog looks for the mark that all of them inherit.
- **Ports**: no two processes of any tests on this machine get the same one.
- **Disk**: nobody waits until it has written: no test's files have to survive a power cut.
"""

import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom
from typing import Any

import psutil
from filelock import FileLock, Timeout

from tests import forkserver

PROJECT = Path(__file__).resolve().parent.parent
MARK = "TESTS_RUN"
"""Variable that everything has which a test has started, whatever else is in its environment."""
_KEPT = re.compile(
    r"PATH|TERM|USER|LOGNAME|SHELL|TMPDIR|VIRTUAL_ENV|PYTHONPATH|PYTHONDONTWRITEBYTECODE|(DY)?LD_\w+|CI|"
    r"PYTEST_\w+|COVERAGE_\w+|MUTANTS_\w+|PIP_\w+|SSL_CERT_\w+|(OMP|MKL)_NUM_THREADS|CUDA_VISIBLE_DEVICES|DISPLAY"
)
_LINKED = ("benchmarks", "data", "demo", "flows", "prefect.yaml", "pyproject.toml", "shoes", "tasks", "tests")
_PORTS = range(20_000, 32_000)
"""Below those that systems give to outgoing connections."""
_LOCKS = Path(tempfile.gettempdir()) / "shoes-tests-ports"
ROOT = PROJECT
"""The project as a clean checkout shows it."""
VARIABLES: dict[str, str] = {}
"""What fixtures that are wider than a test see."""
_held: list[FileLock] = []
_started: list["subprocess.Popen[Any]"] = []
_is_in_test = False


def enter() -> None:
    """Leave the person's world; once in a process."""
    global ROOT  # noqa: PLW0603
    folder = _make()
    ROOT = folder / "project"
    VARIABLES.update(_variables(folder))
    _hear()
    _watch(folder)
    _mark_processes()
    forkserver.patch()
    forkserver.do_not_wait_for_the_disk()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _make() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="shoes-tests-"))
    home, project = folder / "home", folder / "project"
    home.mkdir()
    project.mkdir()
    for name in _LINKED:
        (project / name).symlink_to(PROJECT / name)
    for name in list(os.environ):
        if not _KEPT.fullmatch(name):
            del os.environ[name]
    os.environ.update(_variables(folder))
    os.environ[MARK] = uuid.uuid4().hex
    return folder


def _variables(folder: Path) -> dict[str, str]:
    return {
        "HOME": str(folder / "home"),
        "LANG": "C.UTF-8",
        "SHOES_DATA_DIR": str(folder / "data"),
        "SHOES_LOCK_DIR": str(folder / "locks"),
        "HF_HUB_OFFLINE": "1",
        # no server of a test asks the network for anything
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _hear() -> None:
    """SIGINT and SIGQUIT reach this process and those that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP})


def _mark_processes() -> None:
    """Each process that is started has the mark, and is known to the test that starts it."""
    plain = subprocess.Popen.__init__

    def marked(self: "subprocess.Popen[Any]", *words: Any, env: Any = None, **options: Any) -> None:
        given = None if env is None else {**env, MARK: os.environ[MARK]}
        plain(self, *words, env=given, **options)
        if _is_in_test:
            _started.append(self)

    subprocess.Popen.__init__ = marked  # type: ignore[method-assign]


def _watch(folder: Path) -> None:
    """A process of its own, which outlives this one just long enough to clean up."""
    program = Path(__file__).with_name("watchdog.py")
    words = [sys.executable, str(program), str(os.getpid()), os.environ[MARK], str(folder)]
    lonely = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    nowhere = subprocess.DEVNULL
    subprocess.run(words, env=lonely, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True, check=True)


@contextmanager
def outside_of_tests() -> Iterator[None]:
    """What a fixture finds that is wider than a test: the run's own folders, and no settings that a test has made.

    What the fixture sets stays.
    """
    given = {name: value for name, value in os.environ.items() if is_setting(name)}
    for name in given:
        del os.environ[name]
    os.environ.update(VARIABLES)
    was_in_test, folder = pause_test(), Path.cwd()
    os.chdir(ROOT)
    try:
        yield
    finally:
        os.chdir(folder)
        go_on(is_in_test=was_in_test)
        for name, value in given.items():
            if os.environ.get(name) == VARIABLES.get(name):
                os.environ[name] = value


def is_setting(name: str) -> bool:
    """A variable that this program or a library of its takes for a setting."""
    return name.startswith(("SHOES_", "MLFLOW_"))


def begin_test() -> None:
    """What is started from now on belongs to the test."""
    global _is_in_test  # noqa: PLW0603
    _started.clear()
    _is_in_test = True


def pause_test() -> bool:
    """What is started from now on belongs to a wider fixture; whether it was a test's before."""
    global _is_in_test
    before, _is_in_test = _is_in_test, False
    return before


def go_on(*, is_in_test: bool) -> None:
    """As it was before `pause_test`."""
    global _is_in_test  # noqa: PLW0603
    _is_in_test = is_in_test


def end_test() -> list[str]:
    """Kill what the test has started and not ended, with all that came of it; their commands."""
    pause_test()
    left = []
    for process in _started:
        if process.poll() is None:
            with suppress(psutil.Error):
                left.append(" ".join(psutil.Process(process.pid).cmdline())[:200])
            _kill_with_children(process)
    _started.clear()
    return left


def _kill_with_children(process: "subprocess.Popen[Any]") -> None:
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()
    process.wait()


def free_port() -> int:
    """A port that nobody listens on, and that no other process of tests gets while this one lives."""
    _LOCKS.mkdir(exist_ok=True)
    while True:
        port = SystemRandom().choice(_PORTS)
        lock = FileLock(_LOCKS / f"{port}.lock")
        with suppress(Timeout, OSError):
            lock.acquire(timeout=0)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
            _held.append(lock)
            return port

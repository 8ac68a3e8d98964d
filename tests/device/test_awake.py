"""The machine is kept awake while it works and a while longer, and never longer than the process lives."""

import logging
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from shoes.device import awake, kept_awake
from shoes.device.awake import Inhibitor, Keeper, choose_inhibitor
from tests import world

SYSTEMD_INHIBIT = """#!/bin/sh
# As the real one: takes its options, then waits for the command behind them.
echo "what it says is not the training's output"
echo "$$ $*" > "{folder}/started"
while [ "${{1#--}}" != "$1" ]; do shift; done
"$@"
echo ended > "{folder}/ended"
"""
CAFFEINATE = """#!/bin/sh
# As the real one: -w waits for a process to end.
echo "what it says is not the training's output"
echo "$$ $*" > "{folder}/started"
while kill -0 "$3" 2>/dev/null; do sleep 0.05; done
echo ended > "{folder}/ended"
"""
REFUSED = """#!/bin/sh
echo 'Failed to inhibit: Access denied' >&2
exit 1
"""
TRAINING = """
import os, platform, time
platform.system = lambda: "{system}"
from shoes.device import kept_awake
with kept_awake():
    print(os.getpid(), flush=True)
    time.sleep(60)
"""
LINUX = ("systemd-inhibit", "--what=idle:sleep", "--who=shoes", "--why=computing", "--mode=block", "cat")
TOOLS = {"Linux": ("systemd-inhibit", SYSTEMD_INHIBIT), "Darwin": ("caffeinate", CAFFEINATE)}
pytestmark = pytest.mark.skipif(os.name != "posix", reason="the tools are shell scripts here")


@pytest.fixture
def children() -> Callable[[], list[psutil.Process]]:
    """Processes that the test has started; fixtures that are wider have some of their own."""
    before = {child.pid for child in psutil.Process().children()}
    return lambda: [child for child in psutil.Process().children() if child.pid not in before]


@pytest.fixture(autouse=True)
def keeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    """One of this test's own, that ends its tool with the last block."""
    keeper = Keeper()
    monkeypatch.setattr(awake, "_KEEPER", keeper)
    monkeypatch.setattr(awake, "SECONDS_AFTERWARDS", 0)
    yield keeper
    keeper.end_unless_needed()


@pytest.mark.parametrize(
    ("system", "tools", "chosen"),
    [
        ("Darwin", ["caffeinate"], Inhibitor(("caffeinate", "-is", "-w", "42"), ends_with_input=False)),
        ("Linux", ["systemd-inhibit"], Inhibitor(LINUX, ends_with_input=True)),
        ("Linux", ["systemd-inhibit", "caffeinate"], Inhibitor(LINUX, ends_with_input=True)),
        ("Linux", ["caffeinate"], "systemd-inhibit is not installed"),
        ("Darwin", [], "caffeinate is not installed"),
        ("Windows", [], "no tool for it is known on Windows"),
        ("", [], "no tool for it is known on this system"),
    ],
)
def test_each_system_has_its_tool(system: str, tools: list[str], chosen: Inhibitor | str) -> None:
    assert choose_inhibitor(system, tools, 42) == chosen


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, system: str, script: str) -> None:
    """A tool of that system, before all others on the path."""
    tool = folder / "bin" / TOOLS[system][0]
    tool.parent.mkdir()
    tool.write_text(script.format(folder=folder))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(platform, "system", lambda: system)


def appears(file: Path) -> str:
    while not (file.exists() and file.read_text().endswith("\n")):
        time.sleep(0.01)
    return file.read_text().strip()


def started(folder: Path) -> tuple[psutil.Process, list[str]]:
    pid, *words = appears(folder / "started").split()
    return psutil.Process(int(pid)), words


def ends(tool: psutil.Process) -> None:
    """Soon, and is cleared away."""
    while psutil.pid_exists(tool.pid):
        time.sleep(0.01)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("system", TOOLS)
def test_the_tool_runs_while_the_block_does(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    install(tmp_path, monkeypatch, system, TOOLS[system][1])
    with kept_awake():
        tool, words = started(tmp_path)
        assert words == (list(LINUX[1:]) if system == "Linux" else ["-is", "-w", str(os.getpid())])
        assert tool.ppid() == os.getpid()
        assert os.getpgid(tool.pid) != os.getpgid(0), "Ctrl-C in the terminal must not reach it"
        family = [tool, *tool.children(recursive=True)]
        assert not (tmp_path / "ended").exists()
    ends(tool)
    psutil.wait_procs(family, timeout=30)
    assert not any(process.is_running() for process in family)
    assert not caplog.records


@pytest.mark.timeout(60)
def test_one_tool_serves_all_blocks_and_some_time_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeper: Keeper
) -> None:
    """Between two stages of a night, or two tries of one, the system might fall asleep at once."""
    install(tmp_path, monkeypatch, "Linux", SYSTEMD_INHIBIT)
    with kept_awake():
        tool, _ = started(tmp_path)
        with kept_awake():
            pass
        monkeypatch.setattr(awake, "SECONDS_AFTERWARDS", 3)
    monkeypatch.setattr(awake, "SECONDS_AFTERWARDS", 600)
    with kept_awake():
        pass
    time.sleep(3.5)
    assert tool.is_running(), "what was to end it was called off"
    keeper.end_unless_needed()
    ends(tool)
    monkeypatch.setattr(awake, "SECONDS_AFTERWARDS", 0)
    (tmp_path / "started").unlink()
    with kept_awake():
        assert started(tmp_path)[0] != tool


@pytest.mark.timeout(60)
def test_it_is_not_ended_while_another_block_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeper: Keeper
) -> None:
    install(tmp_path, monkeypatch, "Linux", SYSTEMD_INHIBIT)
    with kept_awake():
        tool, _ = started(tmp_path)
        with kept_awake():
            pass
        keeper.end_unless_needed()
        time.sleep(0.3)
        assert tool.is_running()
    ends(tool)


@pytest.mark.timeout(60)
def test_a_tool_that_died_is_started_again_by_the_next_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "Linux", SYSTEMD_INHIBIT)
    with kept_awake():
        tool, _ = started(tmp_path)
        (command,) = tool.children()
        tool.kill()
        while tool.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        (tmp_path / "started").unlink()
        with kept_awake():
            assert started(tmp_path)[0] != tool
        ends(command)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("system", TOOLS)
def test_the_tool_ends_when_the_training_is_killed(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, system, TOOLS[system][1])
    training = subprocess.Popen(
        [sys.executable, "-c", TRAINING.format(system=system)],
        cwd=world.ROOT,
        stdout=subprocess.PIPE,
    )
    assert training.stdout is not None
    with training, training.stdout:
        pid = int(training.stdout.readline())
        tool, _ = started(tmp_path)
        assert tool.ppid() == pid
        assert not (tmp_path / "ended").exists()
        training.send_signal(signal.SIGKILL)
        assert training.stdout.read() == b""
    assert appears(tmp_path / "ended") == "ended"


@pytest.mark.timeout(60)
def test_a_tool_that_does_not_want_to_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awake, "SECONDS_TO_END", 0.2)
    stubborn = "#!/bin/sh\ntrap '' TERM\necho \"$$ $*\" > {folder}/started\nwhile kill -0 $PPID; do sleep 0.05; done\n"
    install(tmp_path, monkeypatch, "Linux", stubborn)
    with kept_awake():
        tool, _ = started(tmp_path)
    ends(tool)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (REFUSED, "systemd-inhibit ended: Failed to inhibit: Access denied"),
        ("#!/bin/sh\nexit 3\n", "systemd-inhibit ended: exit status 3"),
        ("#!/no/such/shell\n", "systemd-inhibit does not start: No such file or directory"),
        (None, "systemd-inhibit is not installed"),
    ],
    ids=["refused", "silent", "broken", "missing"],
)
def test_where_it_can_not_be_done_one_line_says_why(
    script: str | None,
    reason: str,
    children: Callable[[], list[psutil.Process]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    if script is None:
        monkeypatch.setattr(platform, "system", lambda: "Linux")
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        install(tmp_path, monkeypatch, "Linux", script)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with kept_awake():
        while not caplog.records:
            time.sleep(0.01)
        assert not children(), "what ended is cleared away at once"
    with kept_awake():
        time.sleep(0.2)  # said once, though it is tried again
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", f"the machine is not kept awake: {reason}. Switch its sleep off for the night.")
    ]


def test_an_error_in_the_block_is_not_swallowed(
    children: Callable[[], list[psutil.Process]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "Linux", SYSTEMD_INHIBIT)
    with pytest.raises(ValueError, match="mine"), kept_awake():
        raise ValueError("mine")
    while children():
        time.sleep(0.01)

"""The machine is kept awake while it trains, by the system's own tool, which ends when this process does.

macOS has `caffeinate`. With `-i` and `-s` it holds off idle sleep, and any sleep while on mains power; the display may
turn off: one that was kept on has ended in watchdog restarts. Linux with systemd has `systemd-inhibit`, which holds off
sleep while a command runs. Ours reads a pipe that only this process writes to, so that it ends however we do.
"""

import logging
import os
import platform
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

log = logging.getLogger(__name__)
TOOLS = {"Darwin": "caffeinate", "Linux": "systemd-inhibit"}
"""What keeps a system awake, by the system's name."""
SECONDS_TO_END = 5.0


@dataclass(frozen=True)
class Inhibitor:
    """A command that keeps the machine awake as long as it runs."""

    command: tuple[str, ...]
    ends_with_input: bool
    """It ends when its standard input is closed; otherwise it watches for our process by itself."""


def choose_inhibitor(system: str, tools: Sequence[str], pid: int) -> Inhibitor | str:
    """How a system is kept awake for a process, or why it can't be.

    Args:
        system: as `platform.system()` names it.
        tools: those of `TOOLS` that are installed.
        pid: the process that sleep would interrupt.
    """
    tool = TOOLS.get(system)
    if tool is None:
        return f"no tool for it is known on {system or 'this system'}"
    if tool not in tools:
        return f"{tool} is not installed"
    if tool == "caffeinate":
        return Inhibitor((tool, "-is", "-w", str(pid)), ends_with_input=False)
    options = ("--what=idle:sleep", "--who=shoes", "--why=training", "--mode=block")
    return Inhibitor((tool, *options, "cat"), ends_with_input=True)


@contextmanager
def kept_awake() -> Iterator[None]:
    """Keep the machine awake while the block runs; where that can't be done, one line says why."""
    tools = [tool for tool in TOOLS.values() if shutil.which(tool)]
    inhibitor = choose_inhibitor(platform.system(), tools, os.getpid())
    if isinstance(inhibitor, str):
        _tell_why_not(inhibitor)
        yield
        return
    try:
        process = _start(inhibitor)
    except OSError as error:
        _tell_why_not(f"{inhibitor.command[0]} does not start: {error.strerror}")
        yield
        return
    ending = threading.Event()
    watcher = threading.Thread(
        target=_wait, args=(process, inhibitor.command[0], ending), name="kept-awake", daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        ending.set()
        _end(process)
        watcher.join(SECONDS_TO_END)


def _start(inhibitor: Inhibitor) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        inhibitor.command,
        stdin=subprocess.PIPE if inhibitor.ends_with_input else subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the training, which then saves its state, still awake
    )


def _wait(process: "subprocess.Popen[bytes]", tool: str, ending: threading.Event) -> None:
    """Clear the tool away as soon as it ends, and say so when that is before the training's end."""
    assert process.stderr is not None
    with process.stderr as stream:
        words = stream.read().decode(errors="replace").strip()
    status = process.wait()
    if not ending.is_set():
        _tell_why_not(f"{tool} ended: {words or f'exit status {status}'}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask by its closed input, then by SIGTERM, then don't ask."""
    if process.stdin is not None:
        process.stdin.close()
    else:
        process.terminate()
    for last_resort in (process.terminate, process.kill):
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            last_resort()
        else:
            return
    process.wait()


def _tell_why_not(reason: str) -> None:
    log.info("the machine is not kept awake: %s. Switch its sleep off for the night.", reason)

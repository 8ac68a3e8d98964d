"""The machine is kept awake while it works, by the system's own tool, which ends when this process does.

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

log = logging.getLogger(__name__)
TOOLS = {"Darwin": "caffeinate", "Linux": "systemd-inhibit"}
"""What keeps a system awake, by the system's name."""
SECONDS_TO_END = 5.0
SECONDS_AFTERWARDS = 600.0
"""How much longer it is kept awake, for the next stage of a night or another try of the same one: the system may fall
asleep at once when nothing holds it off any more."""


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
    options = ("--what=idle:sleep", "--who=shoes", "--why=computing", "--mode=block")
    return Inhibitor((tool, *options, "cat"), ends_with_input=True)


@contextmanager
def kept_awake() -> Iterator[None]:
    """Keep the machine awake while the block runs, and SECONDS_AFTERWARDS; where that can't be done, one line says why.

    Blocks may lie within each other or in several threads: one tool serves the process.
    """
    _KEEPER.begin()
    try:
        yield
    finally:
        _KEEPER.end()


class Keeper:
    """The tool of a process, from the first block to some time after the last one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_blocks = 0
        self._tool: _Tool | None = None
        self._later: threading.Timer | None = None
        self._told: set[str] = set()

    def begin(self) -> None:
        """A block begins: from now on the tool runs."""
        with self._lock:
            self._num_blocks += 1
            if self._later is not None:
                self._later.cancel()
            if self._tool is not None and not self._tool.is_running:
                self._tool.end()
                self._tool = None
            self._tool = self._tool or self._start()

    def end(self) -> None:
        """A block has ended; after the last one the tool has SECONDS_AFTERWARDS left."""
        with self._lock:
            self._num_blocks -= 1
            if self._num_blocks == 0 and self._tool is not None:
                self._later = threading.Timer(SECONDS_AFTERWARDS, self.end_unless_needed)
                self._later.daemon = True
                self._later.start()

    def end_unless_needed(self) -> None:
        """End the tool, if no block runs."""
        with self._lock:
            if self._num_blocks == 0 and self._tool is not None:
                self._tool.end()
                self._tool = None

    def _start(self) -> "_Tool | None":
        tools = [tool for tool in TOOLS.values() if shutil.which(tool)]
        inhibitor = choose_inhibitor(platform.system(), tools, os.getpid())
        if isinstance(inhibitor, str):
            self._tell_why_not(inhibitor)
            return None
        try:
            return _Tool(inhibitor, self._tell_why_not)
        except OSError as error:
            self._tell_why_not(f"{inhibitor.command[0]} does not start: {error.strerror}")
            return None

    def _tell_why_not(self, reason: str) -> None:
        if reason not in self._told:
            log.info("the machine is not kept awake: %s. Switch its sleep off for the night.", reason)
        self._told.add(reason)


class _Tool:
    """A command that runs; `on_loss` is told why where it ends before it is asked to."""

    def __init__(self, inhibitor: Inhibitor, on_loss: Callable[[str], None]) -> None:
        self._process = subprocess.Popen(
            inhibitor.command,
            stdin=subprocess.PIPE if inhibitor.ends_with_input else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the training, which then saves its state, still awake
        )
        self._name = inhibitor.command[0]
        self._on_loss = on_loss
        self._is_to_end = threading.Event()
        self._watcher = threading.Thread(target=self._wait, name="kept-awake", daemon=True)
        self._watcher.start()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def _wait(self) -> None:
        """Clear the process away as soon as it ends."""
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            words = stream.read().decode(errors="replace").strip()
        status = self._process.wait()
        if not self._is_to_end.is_set():
            self._on_loss(f"{self._name} ended: {words or f'exit status {status}'}")

    def end(self) -> None:
        """Ask by its closed input, then by SIGTERM, then don't ask."""
        self._is_to_end.set()
        if self._process.stdin is not None:
            self._process.stdin.close()
        else:
            self._process.terminate()
        for last_resort in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                last_resort()
            else:
                break
        self._process.wait()
        self._watcher.join(SECONDS_TO_END)


_KEEPER = Keeper()

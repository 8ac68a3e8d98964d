"""One program as a process of its own session, so that Ctrl-C in the terminal reaches only who decides about it."""

import os
import signal
import ssl
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

import httpx2 as httpx

from shoes.errors import ShoesError
from shoes.servers.program import Program
from shoes.servers.record import Seat, seat
from shoes.servers.rotation import last_lines

SECONDS_TO_START = 120.0
"""The first start makes databases, which a slow disk or a busy machine may stretch."""
SECONDS_FOR_AN_ANSWER = 5.0


class Child:
    """A program that was started."""

    def __init__(self, program: Program, environment: Mapping[str, str], folder: Path) -> None:
        self.program = program
        self.started = time.monotonic()
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("ab") as log:
            self._process = subprocess.Popen(
                program.command,
                cwd=folder,
                env={**environment, **program.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.seat: Seat = seat(self._process.pid)

    @property
    def exit_code(self) -> int | None:
        """How it ended; None: it runs. That of a signal is negative."""
        return self._process.poll()

    def answers(self) -> bool:
        """It runs, and is healthy as far as that can be asked."""
        if self.exit_code is not None:
            return False
        return self.program.health is None or is_healthy(self.program.health)

    def wait_until_ready(self, seconds: float = SECONDS_TO_START) -> None:
        """Wait for its health.

        Raises:
            ShoesError: it ended, or took too long; with the end of its log.
        """
        until = time.monotonic() + seconds
        while not self.answers():
            if self.exit_code is not None:
                raise ShoesError(self._told(f"{self.program.title} did not start (exit code {self.exit_code})"))
            if time.monotonic() > until:
                raise ShoesError(self._told(f"{self.program.title} was not ready after {seconds:.0f} s"))
            time.sleep(0.1)

    def _told(self, what: str) -> str:
        end = last_lines(self.program.log)
        return f"{what}. Its log, {self.program.log}, ends with:\n{end}"

    def stop(self) -> None:
        """Ask it to stop, wait, and kill what is left of its session."""
        if self.exit_code is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self.program.stop_seconds)
        self.kill()

    def kill(self) -> None:
        """Kill it and whatever it started in its session."""
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of dead processes
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def is_healthy(address: str) -> bool:
    """A server answers at an address."""
    try:
        found = httpx.get(address, timeout=SECONDS_FOR_AN_ANSWER, trust_env=False, verify=_certificates())
    except httpx.HTTPError:
        return False
    return found.status_code < 400


@cache
def _certificates() -> ssl.SSLContext:
    """Read once: a server that starts is asked ten times a second, and reading them takes 30 ms of a core."""
    return httpx.create_ssl_context(trust_env=False)

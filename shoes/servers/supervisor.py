"""Several programs kept running: what dies is started again, what hangs is killed first, and all stop together."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from shoes.servers.child import Child
from shoes.servers.program import Program
from shoes.servers.record import Seat
from shoes.servers.rotation import last_lines, rotate

log = logging.getLogger(__name__)
SECONDS_BETWEEN_QUESTIONS = 10.0
"""Health is asked less often than whether a process runs: servers write each question into their logs."""
SECONDS_WITHOUT_ANSWER = 90.0
"""A server that does not answer for so long is started again; one that is only busy answers sooner."""
SECONDS_TO_BE_STABLE = 300.0
"""What runs for so long is well: its next restart does not wait."""
LONGEST_PAUSE = 60.0


def pause_before_restart(num_restarts: int) -> float:
    """Seconds to wait: 1, 2, 4, … up to a minute."""
    return min(LONGEST_PAUSE, 2.0**num_restarts)


class Supervisor:
    """Starts programs, and keeps them running."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._environment = dict(environment)
        self._folder = folder
        self._kept: dict[str, _Kept] = {}

    def start(self, program: Program) -> Child:
        """Start a program; wait for it with `Child.wait_until_ready`."""
        kept = _Kept(program, Child(program, self._environment, self._folder))
        self._kept[program.name] = kept
        return kept.child

    @property
    def seats(self) -> dict[str, Seat]:
        """The processes as they are now."""
        return {name: kept.child.seat for name, kept in self._kept.items()}

    def look(self) -> bool:
        """Restart what has died or hangs, once it is time, and rotate logs; whether a process was replaced."""
        now = time.monotonic()
        changed = False
        for kept in self._kept.values():
            if kept.is_down(now):
                changed |= self._restart(kept, now)
            rotate(kept.program.log)
        return changed

    def _restart(self, kept: "_Kept", now: float) -> bool:
        if now < kept.wait_until:
            return False
        if kept.child.exit_code is None:
            kept.child.kill()
        kept.child = Child(kept.program, self._environment, self._folder)
        kept.last_answer = time.monotonic()
        log.info("%s is started again", kept.program.title)
        return True

    def stop(self) -> None:
        """Stop all, the last started first."""
        for kept in reversed(self._kept.values()):
            kept.child.stop()
        self._kept.clear()

    def kill(self) -> None:
        """Stop all at once."""
        for kept in self._kept.values():
            kept.child.kill()
        self._kept.clear()


class _Kept:
    """A program with its present process, and what it has been through."""

    def __init__(self, program: Program, child: Child) -> None:
        self.program = program
        self.child = child
        self.num_restarts = 0
        self.wait_until = 0.0
        self.last_answer = time.monotonic()
        self._noticed: Child | None = None
        self._last_question = 0.0

    def is_down(self, now: float) -> bool:
        """It has died, or has not answered for long; said once for each process."""
        if self.child.exit_code is None and not self._hangs(now):
            return False
        if self._noticed is not self.child:
            self._notice(now)
        return True

    def _hangs(self, now: float) -> bool:
        if now - self._last_question >= SECONDS_BETWEEN_QUESTIONS:
            self._last_question = now
            if self.child.answers():
                self.last_answer = time.monotonic()
        return now - self.last_answer > SECONDS_WITHOUT_ANSWER

    def _notice(self, now: float) -> None:
        self._noticed = self.child
        was_stable = now - self.child.started > SECONDS_TO_BE_STABLE
        self.num_restarts = 0 if was_stable else self.num_restarts + 1
        pause = pause_before_restart(self.num_restarts - 1) if self.num_restarts else 0.0
        self.wait_until = now + pause
        code = self.child.exit_code
        how = "does not answer" if code is None else f"ended (exit code {code})"
        log.warning(
            "%s %s; it is started again in %.0f s. Its log: %s", self.program.title, how, pause, self.program.log
        )
        if code is not None and (end := last_lines(self.program.log, 3)):
            log.warning("%s said last: %s", self.program.title, end)

"""What a system's service manager can do for us, and which one this system has."""

import getpass
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shoes.errors import ConfigurationError, Problem, ServiceError
from shoes.service.definition import STOP_SECONDS, Definition

_SECONDS = STOP_SECONDS + 30.0
"""Stopping is part of what the tools wait for."""


@dataclass(frozen=True)
class State:
    """What the system knows of the service."""

    is_loaded: bool
    pid: int | None = None


class Manager(Protocol):
    """launchd or systemd."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def file(self) -> Path:
        """Where the system looks for the service's definition."""

    @property
    def log(self) -> str:
        """Where what the service prints is to be found: a file or a command."""

    def render(self, definition: Definition) -> bytes:
        """The definition in the system's form."""

    def read(self, content: bytes) -> Definition | None:
        """The definition back from that form; nothing when it can't be read."""

    def state(self) -> State:
        """Whether it is loaded, and its process."""

    def load(self) -> str:
        """Let the system take the file and start the service, in the place of one that runs.

        Returns: what the person should know, or nothing.

        Raises:
            ServiceError: the system refused; its own message is in it.
        """

    def unload(self) -> None:
        """Stop the service, and let the system not start it any more.

        Raises:
            ServiceError: it could not be stopped.
        """

    def forget(self) -> None:
        """The file is gone: tell the system."""

    def starts(self) -> str:
        """When the service starts, in words."""

    def hints(self, definition: Definition) -> list[str]:
        """What a person should do so that it starts when it should, and can do its work."""


@dataclass(frozen=True)
class Done:
    """How a program ended."""

    code: int
    output: str
    """Standard output and error."""


def call(*words: str) -> Done:
    """Run one of the system's tools.

    Raises:
        ServiceError: it is not there, or does not end.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"`{shlex.join(words)}` did not end within {_SECONDS:.0f} s.") from error
    except OSError as error:
        raise ServiceError(f"`{shlex.join(words)}` could not be run: {error}") from error
    return Done(done.returncode, "\n".join(text.strip() for text in (done.stdout, done.stderr) if text.strip()))


def require(*words: str, fix: str) -> Done:
    """Run one of the system's tools that has to succeed.

    Raises:
        ServiceError: it failed: with its own message, and the fix.
    """
    done = call(*words)
    if done.code:
        said = done.output or f"exit code {done.code}"
        raise ServiceError(f"`{shlex.join(words)}` failed:\n    {said}\n    fix: {fix}")
    return done


def choose_manager(
    definition: Definition,
    logs: Path,
    *,
    platform: str | None = None,
    environment: Mapping[str, str] = os.environ,
    which: Callable[[str], str | None] = shutil.which,
) -> Manager:
    """The service manager of this system.

    Raises:
        ConfigurationError: there is none that is known here; the fix is a line for cron.
    """
    from shoes.service.launchd import Launchd
    from shoes.service.systemd import Systemd

    platform = platform or sys.platform
    home = Path(environment.get("HOME") or Path.home())
    if platform == "darwin" and which("launchctl"):
        return Launchd(home, os.getuid(), logs)
    if platform.startswith("linux") and which("systemctl"):
        return Systemd(Path(environment.get("XDG_CONFIG_HOME") or home / ".config"), getpass.getuser())
    what = f"can't be installed: neither launchd nor systemd is here ({platform})"
    raise ConfigurationError([Problem("shoes service", what, _by_cron(definition, logs))])


def _by_cron(definition: Definition, logs: Path) -> str:
    """A crontab takes % for the end of a line."""
    command = f"cd {shlex.quote(str(definition.folder))} && "
    command += f"{shlex.join(definition.program)} >> {shlex.quote(str(logs / 'service.log'))} 2>&1"
    return "where there is cron, run `crontab -e` and add the line\n    @reboot " + command.replace("%", "\\%")

"""The service as a launchd agent: ~/Library/LaunchAgents/shoes.up.plist."""

import plistlib
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from shoes.errors import ServiceError
from shoes.local_network import LOCAL_NETWORK, host_of, is_local
from shoes.service.definition import RESTART_SECONDS, STOP_SECONDS, Definition
from shoes.service.manager import State, call, require

LABEL = "shoes.up"
SECONDS_BETWEEN_LOOKS = 0.5
_WAITING = ("/bin/sh", "-c", 'until cd "$0" 2>/dev/null; do sleep 10; done; exec "$@"')
_PID = re.compile(r"^\s*pid = (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Launchd:
    """A person's agents: they start at the person's login at the screen."""

    home: Path
    uid: int
    logs: Path
    name: str = "launchd"

    @property
    def file(self) -> Path:
        """Where launchd finds a person's agents."""
        return self.home / "Library/LaunchAgents" / f"{LABEL}.plist"

    @property
    def log(self) -> str:
        """What it prints: below ~/Library where launchd may not open it, and would start nothing (exit 78)."""
        folder = self.home / "Library/Logs/shoes" if self._is_guarded(self.logs) else self.logs
        return str(folder / "service.log")

    def render(self, definition: Definition) -> bytes:
        """The agent's property list."""
        found = agent(definition, self.log)
        if self._is_guarded(definition.folder):
            found |= {"ProgramArguments": _when_it_is_there(definition), "WorkingDirectory": str(self.home)}
        return plistlib.dumps(found)

    def read(self, content: bytes) -> Definition | None:
        """The definition of a property list."""
        try:
            found = plistlib.loads(content)
            words = tuple(found["ProgramArguments"])
            waits = words[: len(_WAITING)] == _WAITING
            folder, *program = words[len(_WAITING) :] if waits else (found["WorkingDirectory"], *words)
            return Definition(
                program=tuple(program),
                folder=Path(folder),
                environment=dict(found["EnvironmentVariables"]),
            )
        except (plistlib.InvalidFileException, ExpatError, ValueError, KeyError, TypeError):
            return None

    def state(self) -> State:
        """As `launchctl print` tells it."""
        done = call("launchctl", "print", self._target)
        if done.code:
            return State(is_loaded=False)
        pid = _PID.search(done.output)
        return State(is_loaded=True, pid=int(pid[1]) if pid else None)

    def load(self) -> str:
        """Into the person's session at the screen; without one, launchd loads the file at the next login by itself."""
        Path(self.log).parent.mkdir(parents=True, exist_ok=True)  # launchd makes no folders
        if call("launchctl", "print", self._domain).code:
            return "nobody is logged in at this Mac's screen: it starts at your next login there"
        call("launchctl", "enable", self._target)  # one that was switched off by hand is refused
        self._leave()
        fix = f"see what is wrong with it: plutil -lint {self.file}; launchctl print {self._domain}"
        require("launchctl", "bootstrap", self._domain, str(self.file), fix=fix)
        return ""

    def unload(self) -> None:
        """Out of the person's session."""
        self._leave()

    def forget(self) -> None:
        """Nothing to tell: launchd reads the folder at login."""

    def starts(self) -> str:
        """At login: launchd knows no agents of a person who is not there."""
        return "when you log in at the screen"

    def hints(self, definition: Definition) -> list[str]:
        """Automatic login, folders for which macOS wants a person's word, and servers in the local network."""
        found = [
            "to start after a power cut as well, let the Mac log you in by itself: System Settings → Users & Groups "
            "(not to be had with FileVault, which waits for a password first)"
        ]
        asked = [str(path) for path in (definition.folder, definition.data_dir) if self._is_guarded(path)]
        if asked:
            places = " and ".join(dict.fromkeys(asked))
            found.append(
                f"macOS asks once whether Python may read {places}: answer at the screen before the first night"
            )
        servers = [host for address in definition.servers if is_local(host := host_of(address))]
        if servers:
            found.append(f"{', '.join(dict.fromkeys(servers))} is in the local network: {LOCAL_NETWORK}")
        return found

    def _is_guarded(self, path: Path) -> bool:
        """It lies where launchd may not write, or where nothing may be yet: other drives, a person's own folders."""
        own = [self.home / name for name in ("Desktop", "Documents", "Downloads", "Library/Mobile Documents")]
        return any(map(path.resolve().is_relative_to, [Path("/Volumes"), *(folder.resolve() for folder in own)]))

    def _leave(self) -> None:
        """Ended and gone: launchd answers while the service still stops, and takes no second one meanwhile."""
        if not self.state().is_loaded:
            return
        said = call("launchctl", "bootout", self._target)
        deadline = time.monotonic() + STOP_SECONDS
        while self.state().is_loaded:
            if time.monotonic() > deadline:
                raise ServiceError(f"`launchctl bootout {self._target}` did not stop it: {said.output or 'no message'}")
            time.sleep(SECONDS_BETWEEN_LOOKS)

    @property
    def _domain(self) -> str:
        return f"gui/{self.uid}"

    @property
    def _target(self) -> str:
        return f"{self._domain}/{LABEL}"


def _when_it_is_there(definition: Definition) -> list[str]:
    """The program of a folder whose drive may not be there yet when the person logs in."""
    return [*_WAITING, str(definition.folder), *definition.program]


def agent(definition: Definition, log: str) -> dict[str, Any]:
    """The agent's keys; launchd.plist(5) has their meanings."""
    return {
        "Label": LABEL,
        "ProgramArguments": list(definition.program),
        "WorkingDirectory": str(definition.folder),
        "EnvironmentVariables": dict(sorted(definition.environment.items())),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": RESTART_SECONDS,
        # 20 seconds by default, and then SIGKILL, in the middle of a step
        "ExitTimeOut": STOP_SECONDS,
        # Background would train on the efficiency cores, and the default throttles CPU and disk; a night is work
        # that somebody waits for
        "ProcessType": "Interactive",
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }

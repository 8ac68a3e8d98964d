"""The service as a systemd user unit: ~/.config/systemd/user/shoes.service."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shoes.errors import ServiceError
from shoes.service.definition import RESTART_SECONDS, STOP_SECONDS, Definition
from shoes.service.manager import State, call, require

UNIT = "shoes.service"
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ACTIVE = ("active", "activating", "reloading", "deactivating")

_TEMPLATE = """\
# Written by `shoes service install`, which writes it anew; changes are lost. No secrets: they are in {env_file}
[Unit]
Description=Prefect, its worker and MLflow for the nights (shoes up)

[Service]
Type=exec
ExecStart={program}
WorkingDirectory={folder}
{environment}
Restart=on-failure
RestartSec={restart_seconds}
# 2: the configuration can't be used, and starting again does not mend it; 130: it was interrupted
RestartPreventExitStatus=2 130
SuccessExitStatus=130
# SIGTERM goes to `shoes up` alone, which stops the others in their order and saves the training
KillMode=mixed
TimeoutStopSec={stop_seconds}

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True)
class Systemd:
    """A person's own systemd: it runs while the person is logged in, or always where lingering is on."""

    config: Path
    """XDG_CONFIG_HOME."""
    user: str
    name: str = "systemd"

    @property
    def file(self) -> Path:
        """Where systemd finds a person's units."""
        return self.config / "systemd/user" / UNIT

    @property
    def log(self) -> str:
        """systemd keeps what it prints, and rotates it."""
        return f"journalctl --user -u {UNIT}"

    def render(self, definition: Definition) -> bytes:
        """The unit's text."""
        return unit(definition).encode()

    def read(self, content: bytes) -> Definition | None:
        """The definition of a unit that `unit` wrote."""
        lines = list(_settings(content.decode(errors="replace")))
        program = [_words(value) for name, value in lines if name == "ExecStart"]
        folder = [value.replace("%%", "%") for name, value in lines if name == "WorkingDirectory"]
        pairs = [_words(value)[0].partition("=") for name, value in lines if name == "Environment" and _words(value)]
        if not program or not program[0] or not folder:
            return None
        first, *others = program[0]
        return Definition((first.removeprefix(":"), *others), Path(folder[0]), {name: text for name, _, text in pairs})

    def state(self) -> State:
        """As `systemctl show` tells it."""
        done = call("systemctl", "--user", "show", UNIT, "--property=ActiveState,MainPID,UnitFileState")
        found = dict(_settings(done.output))
        is_loaded = found.get("UnitFileState") == "enabled" and found.get("ActiveState") in _ACTIVE
        pid = found.get("MainPID", "0")
        return State(is_loaded, int(pid) if pid.isdigit() and pid != "0" else None)

    def load(self) -> str:
        """Enabled and started; one that runs is stopped first, for it has the former definition."""
        fix = "run it in a login of your own (at the screen or by ssh, not by su or sudo): systemctl --user needs one"
        require("systemctl", "--user", "daemon-reload", fix=fix)
        require("systemctl", "--user", "enable", UNIT, fix=f"see what is wrong with it: systemd-analyze verify {UNIT}")
        require("systemctl", "--user", "restart", UNIT, fix=f"see why: {self.log}")
        return ""

    def unload(self) -> None:
        """Stopped and disabled."""
        require("systemctl", "--user", "disable", "--now", UNIT, fix=f"see why: systemctl --user status {UNIT}")

    def forget(self) -> None:
        """systemd keeps what it read until it is told."""
        call("systemctl", "--user", "daemon-reload")

    def starts(self) -> str:
        """Lingering lets a person's systemd start with the machine."""
        return "when the machine starts" if self._lingers() else "when you log in"

    def hints(self, definition: Definition) -> list[str]:
        """Lingering, where it is off."""
        del definition
        fix = f"to start with the machine, without a login: sudo loginctl enable-linger {self.user}"
        return [] if self._lingers() else [fix]

    def _lingers(self) -> bool:
        try:
            return call("loginctl", "show-user", self.user, "--property=Linger").output == "Linger=yes"
        except ServiceError:  # loginctl is not here
            return False


def unit(definition: Definition) -> str:
    """The unit's text; systemd.exec(5) and systemd.service(5) have its meanings."""
    variables = sorted(definition.environment.items())
    program, *arguments = definition.program
    return _TEMPLATE.format(
        env_file=definition.folder / ".env",
        # the colon lets a $ be a $
        program=" ".join(_quote(word) for word in (f":{program}", *arguments)),
        folder=str(definition.folder).replace("%", "%%"),
        environment="\n".join(f"Environment={_quote(f'{name}={value}')}" for name, value in variables),
        restart_seconds=RESTART_SECONDS,
        stop_seconds=STOP_SECONDS,
    )


def _quote(word: str) -> str:
    """A word of a unit file: systemd reads backslashes as C does, and % as the beginning of a specifier."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
    return f'"{escaped}"'


def _words(line: str) -> list[str]:
    return [
        re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], word).replace("%%", "%")
        for word in _WORD.findall(line)
    ]


def _settings(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, is_setting, value = line.partition("=")
        if is_setting and not line.startswith("#"):
            yield name, value

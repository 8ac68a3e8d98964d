"""What the service runs: program, working folder, variables. The same on every system."""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from shoes.settings import Settings, environment_values

STOP_SECONDS = 120
"""What the system waits for `shoes up` to stop: it saves the training first, for which it takes a minute at most."""
RESTART_SECONDS = 30
"""Pause before `shoes up` is started again after it failed."""
_FOLDERS = ("/opt/homebrew/bin", "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")
_OPEN_NAMES = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME")
"""Variables beside SHOES_* that the service needs and everybody may read."""
_SECRET_NAMES = re.compile(r"PASSWORD|SECRET|TOKEN|WEBHOOK|AUTH_STRING|(^|_)KEY($|_)")
_SECRET_VALUE = re.compile(r"://[^/@\s]*:[^/@\s]*@")
"""An address with a password."""


@dataclass(frozen=True)
class Definition:
    """What starts with the machine."""

    program: tuple[str, ...]
    folder: Path
    """Where it starts; its `.env` holds the secrets."""
    environment: Mapping[str, str]

    @property
    def data_dir(self) -> Path:
        """The data folder of the service: `.env` wins, as everywhere."""
        values = dict(self.environment) | _env_file(self.folder)
        return self.folder / Path(values.get("SHOES_DATA_DIR", "data")).expanduser()

    @property
    def servers(self) -> list[str]:
        """Addresses of a team's servers that the service speaks with."""
        values = dict(self.environment) | _env_file(self.folder)
        return [values[name] for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI") if values.get(name)]


def define(settings: Settings) -> Definition:
    """What would run with the settings and variables that are in force here."""
    kept = _env_file(settings.root)
    values = {name: value for name, value in _in_force(settings).items() if name not in kept and not _is_secret(name)}
    readable = {name: value for name, value in values.items() if not _SECRET_VALUE.search(value)}
    always = {"PATH": os.pathsep.join((str(_programs()), *_FOLDERS)), "PYTHONUNBUFFERED": "1"}
    if "SHOES_LOCK_DIR" not in kept:  # by default it follows TMPDIR, which a service may have another one of
        always["SHOES_LOCK_DIR"] = str(settings.lock_dir.expanduser().absolute())
    return Definition(program=_program(), folder=settings.root.absolute(), environment=always | readable)


def left_out(settings: Settings) -> list[str]:
    """Names of secrets that are in force here and that the service will not have: they are not in its `.env`."""
    kept = _env_file(settings.root)
    others = {name: value for name, value in os.environ.items() if name.startswith(("PREFECT_", "MLFLOW_"))}
    values = others | _in_force(settings)
    return sorted(
        name for name, value in values.items() if name not in kept and (_is_secret(name) or _SECRET_VALUE.search(value))
    )


def _in_force(settings: Settings) -> dict[str, str]:
    """Settings by the names of their variables; paths do not depend on where the command was given."""
    here = environment_values() | {name: os.environ[name] for name in _OPEN_NAMES if name in os.environ}
    here |= {name: value for name, value in _env_file(Path()).items() if name in _OPEN_NAMES}
    for name in here:
        value = getattr(settings, name.removeprefix("SHOES_").lower(), None)
        if isinstance(value, Path):
            here[name] = str(value.expanduser().absolute())
    return here


def _is_secret(name: str) -> bool:
    field = Settings.model_fields.get(name.removeprefix("SHOES_").lower())
    is_kept_back = field is not None and "SecretStr" in str(field.annotation)
    return is_kept_back or _SECRET_NAMES.search(name) is not None


def _env_file(folder: Path) -> dict[str, str]:
    return {name: value for name, value in dotenv_values(folder / ".env").items() if value is not None}


def _programs() -> Path:
    """Where this Python's programs are; its links are not followed, they make it the one of its environment."""
    return Path(sys.executable).absolute().parent


def _program() -> tuple[str, ...]:
    command = _programs() / "shoes"
    return (str(command), "up") if command.is_file() else (sys.executable, "-m", "flows", "up")


def differences(written: Definition, wanted: Definition) -> list[str]:
    """In which ways a service differs from what would be installed now, one line each."""
    lines = []
    if written.program != wanted.program:
        lines.append(f"it runs {' '.join(written.program)}, and not {' '.join(wanted.program)}")
    if written.folder != wanted.folder:
        lines.append(f"it starts in {written.folder}, and not in {wanted.folder}")
    for name in sorted(written.environment.keys() | wanted.environment.keys()):
        old, new = written.environment.get(name), wanted.environment.get(name)
        if old != new:
            lines.append(f"{name} is {_shown(old)} there, and {_shown(new)} here")
    return lines


def _shown(value: str | None) -> str:
    return "not set" if value is None else value

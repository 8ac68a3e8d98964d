"""This machine: where things are kept and where the tracking store is.

Read from `SHOES_*` environment variables, then from `.env` in the working folder, the later winning.
"""

import difflib
import os
import sys
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shoes.errors import ConfigurationError, Problem

PROJECT_ROOT = Path(__file__).resolve().parent.parent
SECTIONS = ("model", "data", "train", "eval", "gate", "inference", "publish", "window")
"""Sections of a recipe; `SHOES_TRAIN__SEED=7` sets a field that the recipe leaves open."""

_OTHERS = ("mlflow_tracking_uri", "prefect_api_url")
"""Settings that have the names by which MLflow and Prefect know them."""

_INSTEAD = {
    "MLFLOW_TRACKING_URI": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "PREFECT_API_URL": "set PREFECT_API_AUTH_STRING to user:password",
}
"""Where the user and the password of an address belong."""


class Settings(BaseSettings):
    """Paths and addresses of this machine."""

    model_config = SettingsConfigDict(
        env_prefix="SHOES_", env_file=".env", extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    root: Path = PROJECT_ROOT
    """The project's checkout: what it ships is found there, and Prefect's workers start there."""
    data_dir: Path = PROJECT_ROOT / "data"
    """Everything that is written goes below it: data sets, caches, runs and both databases."""
    mlflow_tracking_uri: Annotated[str | None, Field(validation_alias="MLFLOW_TRACKING_URI")] = None
    """A team's MLflow server; nothing means a database file below the data folder."""
    prefect_api_url: Annotated[str | None, Field(validation_alias="PREFECT_API_URL")] = None
    """A team's Prefect server; nothing means the one that `shoes up` starts, or none."""
    host: str = "127.0.0.1"
    """Address on which servers listen; one that others can reach, 0.0.0.0 say, is for you to decide."""
    prefect_port: Annotated[int, Field(ge=1, le=65535)] = 4200
    """Port of Prefect's dashboard and API."""
    mlflow_port: Annotated[int, Field(ge=1, le=65535)] = 5001
    """Port of MLflow's pages; macOS keeps 5000 for itself."""
    notify: str = ""
    """Prefect notification blocks, TYPE/NAME with commas between them, that are told how a night ended."""
    notify_webhook: SecretStr | None = None
    """Address that gets the same as JSON with a field `text`, which Slack, Mattermost and many others take."""
    lock_dir: Path = Path(tempfile.gettempdir()) / f"shoes-{os.getuid()}"
    """Locks of this machine's devices: the same folder for everything that computes here."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The first wins: `.env` over the environment, as documented."""
        del settings_cls, file_secret_settings
        return init_settings, dotenv_settings, env_settings

    @cached_property
    def data(self) -> Path:
        """The data folder, absolute."""
        return self.data_dir.expanduser().absolute()

    @property
    def _is_moved(self) -> bool:
        return self.data != PROJECT_ROOT / "data"

    @property
    def mlruns(self) -> Path:
        """Folder of MLflow's database and artifacts."""
        return self.data / "mlruns" if self._is_moved else PROJECT_ROOT / "mlruns"

    @property
    def tracking_uri(self) -> str:
        """Where MLflow keeps runs."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.mlruns / 'mlflow.db'}"

    @property
    def runs(self) -> Path:
        """One folder per training."""
        return self.data / "runs"

    @property
    def cache(self) -> Path:
        """Latents, text embeddings and drawn images: can be deleted, is made again."""
        return self.data / "cache"

    @property
    def models(self) -> Path:
        """Downloaded models."""
        return self.data / "models"

    @property
    def prefect_home(self) -> Path:
        """Prefect's database and results."""
        return self.data / "prefect"

    @property
    def locks(self) -> Path:
        """Locks of this machine's devices, absolute."""
        return self.lock_dir.expanduser().absolute()

    @property
    def logs(self) -> Path:
        """What the servers of `shoes up` write."""
        return self.data / "logs"

    @property
    def mlflow_url(self) -> str:
        """Where people see MLflow's pages: the team's server, or the one of `shoes up`."""
        if self.tracking_uri.startswith("http"):
            return self.tracking_uri.rstrip("/")
        return f"http://{self.visible_host}:{self.mlflow_port}"

    @property
    def visible_host(self) -> str:
        """The host as a browser on this machine calls it."""
        return "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host

    def locate(self, path: str) -> Path:
        """Absolute place of a path in a recipe.

        `data/x` is x in the data folder, wherever that was moved to; what the project ships below its own
        `data/` is found there as well. Other relative paths start at the working folder.
        """
        given = Path(path).expanduser()
        if given.is_absolute() or given.parts[:1] != ("data",):
            return given.absolute()
        here, shipped = self.data.joinpath(*given.parts[1:]), self.root / given
        return shipped if shipped.exists() and not here.exists() else here


def load_settings() -> Settings:
    """Settings of this machine.

    Raises:
        ConfigurationError: a value is wrong, or a `SHOES_*` name is not known.
    """
    problems = _unknown_names()
    try:
        settings = Settings()
    except ValidationError as error:
        problems += [
            Problem(f"SHOES_{str(e['loc'][0]).upper()}", e["msg"], "correct it in the environment or in .env")
            for e in error.errors()
        ]
        raise ConfigurationError(problems) from error
    problems += _without_drive(settings.data)
    problems += _with_secrets(
        {"MLFLOW_TRACKING_URI": settings.tracking_uri, "PREFECT_API_URL": settings.prefect_api_url or ""}
    )
    if settings.data.exists() and not settings.data.is_dir():
        problems.append(Problem("SHOES_DATA_DIR", f"{settings.data} is not a folder", "name a folder"))
    if problems:
        raise ConfigurationError(problems)
    return settings


def hand_on(prefix: str) -> None:
    """Let this process and those that it starts see what `.env` holds for another library, `MLFLOW_` say.

    MLflow reads the environment alone, and Prefect lets it win; here `.env` wins, as for our own settings.
    """
    os.environ |= {name: value for name, value in dotenv_values(".env").items() if name.startswith(prefix) and value}


def _with_secrets(addresses: dict[str, str]) -> list[Problem]:
    """Addresses with a user or a password: they are kept with every run, in logs and in links."""
    what = "holds a user or a password, and addresses are kept with every run"
    return [
        Problem(name, what, f"write it without them, and {_INSTEAD[name]}, in .env say")
        for name, address in addresses.items()
        if _holds_secret(address)
    ]


def _holds_secret(address: str) -> bool:
    """A user alone is no secret in a database's address, and may be a token in a server's."""
    try:
        parts = urlsplit(address)
        query = parse_qs(parts.query)
    except ValueError:
        return "@" in address
    is_server = parts.scheme in ("http", "https")
    return bool(parts.password or (is_server and parts.username) or {"password", "token"} & query.keys())


def environment_values() -> dict[str, str]:
    """All `SHOES_*` values of the environment and `.env`, the latter winning."""
    values = {**os.environ, **{k: v for k, v in dotenv_values(".env").items() if v is not None}}
    return {name: value for name, value in values.items() if name.startswith("SHOES_")}


def section_variables() -> dict[str, str]:
    """Recipe fields set by variables: dotted name to text, for example train.seed."""
    pairs = ((name.removeprefix("SHOES_").lower().split("__", 1), v) for name, v in environment_values().items())
    return {".".join(parts): value for parts, value in pairs if len(parts) == 2 and parts[0] in SECTIONS}


def _without_drive(data: Path) -> list[Problem]:
    """A folder of that name on the Mac's own disk would be filled where the drive comes later or under another name."""
    if sys.platform != "darwin" or data.parts[:2] != ("/", "Volumes") or len(data.parts) < 3:
        return []
    drive = Path(*data.parts[:3])
    if drive.exists():
        return []
    fix = "connect the drive, or name another folder; `ls /Volumes` shows the drives that are there"
    return [Problem("SHOES_DATA_DIR", f"{data} is on a drive that is not there: {drive}", fix)]


def _unknown_names() -> list[Problem]:
    known = [f"SHOES_{name.upper()}" for name in Settings.model_fields if name not in _OTHERS]
    sections = tuple(f"SHOES_{section.upper()}__" for section in SECTIONS)
    unknown = [n for n in environment_values() if n not in known and not n.startswith(sections)]
    return [Problem(name, "is not a setting", _suggest(name, known)) for name in unknown]


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known settings: {', '.join(known)}, SHOES_TRAIN__…"

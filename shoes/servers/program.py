"""Which programs `shoes up` starts on this machine: a pure function of its settings."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shoes.settings import Settings

POOL = "shoes"
"""Prefect's work pool of this project."""
SECONDS_BETWEEN_LOOKS = 2
"""How often the worker asks for work: what a person waits for after a click on Run."""


@dataclass(frozen=True)
class Program:
    """One program, and how to know that it works."""

    name: str
    """Lower case with dashes; names its log."""
    title: str
    command: tuple[str, ...]
    log: Path
    health: str | None = None
    """Address that answers with a status below 400 when the program is ready; None: it runs, that is all."""
    address: tuple[str, int] | None = None
    """Host and port that it listens on."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beside what all of them share."""
    stop_seconds: float = 15.0
    """How long it may take to stop before it is killed."""


def prefect_server(settings: Settings) -> Program | None:
    """Prefect's API and dashboard; None where a team has one."""
    if settings.prefect_api_url:
        return None
    return Program(
        name="prefect-server",
        title="Prefect",
        command=_python(
            *("shoes.servers.durable", "prefect", "server", "start"),
            *("--host", settings.host),
            *("--port", settings.prefect_port),
        ),
        log=settings.logs / "prefect-server.log",
        health=f"{local_api(settings)}/health",
        address=(settings.host, settings.prefect_port),
    )


def mlflow_server(settings: Settings) -> Program | None:
    """MLflow's pages over this machine's store; None where a team has a server."""
    if settings.tracking_uri.startswith(("http://", "https://")):
        return None
    command = _python(
        "mlflow",
        "server",
        *("--host", settings.host),
        *("--port", settings.mlflow_port),
        *("--workers", 1),
        *("--backend-store-uri", settings.tracking_uri),
        *("--artifacts-destination", settings.mlruns / "artifacts"),
    )
    return Program(
        name="mlflow-server",
        title="MLflow",
        command=command,
        log=settings.logs / "mlflow-server.log",
        health=f"http://{settings.visible_host}:{settings.mlflow_port}/health",
        address=(settings.host, settings.mlflow_port),
        # eight processes of 230 MB each that only its language model pages need
        environment={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
    )


def worker(settings: Settings, name: str) -> Program:
    """Prefect's worker, which starts the flow runs of this machine. It is told to stop after they have stopped."""
    return Program(
        name="worker",
        title="Worker",
        command=_python("prefect", "worker", "start", "--pool", POOL, "--name", name, "--install-policy", "never"),
        log=settings.logs / "worker.log",
        environment={"PREFECT_WORKER_QUERY_SECONDS": str(SECONDS_BETWEEN_LOOKS)},
        stop_seconds=20.0,
    )


def local_api(settings: Settings) -> str:
    """Address of the API of the Prefect server that `shoes up` starts."""
    return f"http://{settings.visible_host}:{settings.prefect_port}/api"


def prefect_api(settings: Settings) -> str:
    """Address of Prefect's API: the team's, or that of `shoes up`."""
    return settings.prefect_api_url or local_api(settings)


def dashboard(settings: Settings) -> str:
    """Address of Prefect's dashboard."""
    return prefect_api(settings).rstrip("/").removesuffix("/api")


def pages(settings: Settings) -> str:
    """Where links into Prefect's dashboard begin.

    An own server has two dashboards, an old one at its address and a new one below it. It opens the new one by itself,
    but only for who asks for the first page; links lead to the same.
    """
    return dashboard(settings) if settings.prefect_api_url else f"{dashboard(settings)}/v2"


def _python(*words: object) -> tuple[str, ...]:
    """A module of this very Python, whatever PATH says."""
    return (sys.executable, "-m", *map(str, words))

"""What Prefect's programs need to know, here and in processes of their own."""

import os
from pathlib import Path

from flows.operations.database import make_database
from flows.operations.place import known_api
from shoes.servers.program import local_api, pages
from shoes.settings import Settings, environment_values, hand_on, load_settings

HEARTBEAT_SECONDS = 30
"""How often a flow run says that it lives; the server's automation ends those that have been silent for long."""


def prepare_prefect() -> None:
    """Prefect's own files go below the data folder, and our messages into its log. Before Prefect is loaded.

    A run is one of the server's that `shoes up` has started, where it runs.
    """
    settings = load_settings()
    hand_on("PREFECT_")
    settings.prefect_home.mkdir(parents=True, exist_ok=True)  # Prefect makes one level only
    for name, value in variables(settings).items():
        os.environ.setdefault(name, value)
    if (api := known_api(settings)) is not None:
        os.environ.setdefault("PREFECT_API_URL", api)
        os.environ.setdefault("PREFECT_UI_URL", pages(settings))


def prepare_server() -> None:
    """`prepare_prefect` for what may start a Prefect server for itself: its database is made first, as a whole."""
    prepare_prefect()
    if not os.environ.get("PREFECT_API_URL"):
        make_database(Path(os.environ["PREFECT_HOME"]))


def variables(settings: Settings) -> dict[str, str]:
    """Prefect's settings that all of the project's processes share."""
    home = settings.prefect_home
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_LOCAL_STORAGE_PATH": str(home / "results"),
        "PREFECT_LOGGING_EXTRA_LOGGERS": "shoes",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # what the forecast says outside of a flow
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "DO_NOT_TRACK": "1",
        "MLFLOW_LOGGING_LEVEL": "WARNING",  # not a line for each migration of a new database
        # the first start makes the database, which a slow disk or a busy machine may stretch
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment of the programs that `shoes up` starts: as here, and the same data folder and servers."""
    own = {"SHOES_ROOT": str(settings.root), "SHOES_DATA_DIR": str(settings.data)}
    servers = {"PREFECT_API_URL": settings.prefect_api_url or local_api(settings)}
    ui = {"PREFECT_UI_URL": pages(settings)}
    if settings.mlflow_tracking_uri:
        servers["MLFLOW_TRACKING_URI"] = settings.mlflow_tracking_uri
    beat = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)}
    # a person's own choice of one of Prefect's settings wins, but not over where the servers of this folder are
    chosen = {**variables(settings), **beat, **ui, **os.environ, **environment_values()}
    return {**chosen, "PREFECT_HOME": str(settings.prefect_home), **own, **servers}

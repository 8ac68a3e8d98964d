"""Prefect and MLflow: do they load, can they write, does a configured server answer?"""

import os
import platform
import sqlite3
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from shoes.environment.addresses import answers, status, without_secrets
from shoes.environment.check import Finding, Situation
from shoes.environment.compatibility import conflicts
from shoes.environment.disk import existing_folder, is_writable
from shoes.environment.packages import install_command, is_installed, is_loaded, version
from shoes.language import gettext as _
from shoes.local_network import host_of, is_local
from shoes.settings import hand_on

SQLITE = "sqlite:///"
IMPORT_SECONDS = 100.0
LOCK_SECONDS = 10.0


def prefect(situation: Situation) -> Finding:
    """Versions, its home, and its server when PREFECT_API_URL names one."""
    require_import("prefect")
    found = {name: version(name) for name in ("prefect", "fastapi", "sqlalchemy")}
    detail = ", ".join(f"{name} {number}" for name, number in found.items())
    if wrong := conflicts(found):
        effects = "; ".join(
            f"{c.other} {found[c.other]} × {c.package} {found[c.package]}: {_(c.effect)}" for c in wrong
        )
        return Finding("ERROR", effects, install_command(conflict.good for conflict in wrong))
    home = Path(os.environ.get("PREFECT_HOME") or situation.settings.prefect_home).expanduser()
    if not is_writable(home):
        return Finding("ERROR", f"{detail}; " + _not_writable(home), _own_folder())
    hand_on("PREFECT_")
    server = os.environ.get("PREFECT_API_URL")
    if server and not answers(f"{server.rstrip('/')}/health"):
        fix = _("start the server, or unset PREFECT_API_URL: without it a run brings its own") + _if_local(server)
        return Finding("ERROR", _no_answer(server), fix)
    if server and status(f"{server.rstrip('/')}/admin/version", os.environ.get("PREFECT_API_AUTH_STRING", "")) == 401:
        fix = _("set PREFECT_API_AUTH_STRING to user:password, in .env say")
        return Finding("ERROR", _refused(server), fix)
    where = without_secrets(server) if server else _("a server of its own for each run")
    return Finding("OK", f"{detail}\n{where}")


def mlflow(situation: Situation) -> Finding:
    """Version, and the store: a database that takes a write, or a server that answers."""
    require_import("mlflow")
    address, detail = situation.settings.tracking_uri, f"mlflow {version('mlflow')}"
    if address.startswith(SQLITE):
        return _database(Path(address.removeprefix(SQLITE)).absolute(), detail)
    shown = without_secrets(address)
    if address.startswith(("http://", "https://")) and not answers(f"{address.rstrip('/')}/health"):
        fix = _("start the server, or unset MLFLOW_TRACKING_URI; runs go on without it and are sent later")
        fix += _if_local(address)
        return Finding("WARN", _no_answer(address), fix)
    if address.startswith(("http://", "https://")) and _is_refused(address):
        fix = _("set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, in .env say; runs are sent later")
        return Finding("WARN", _refused(address), fix)
    return Finding("OK", f"{detail}; " + _("runs are kept in {place}").format(place=shown))


def _is_refused(server: str) -> bool:
    """MLflow's health page is open to all; its data may not be. A token of another kind is not tried."""
    hand_on("MLFLOW_")
    if os.environ.get("MLFLOW_TRACKING_TOKEN") or os.environ.get("MLFLOW_TRACKING_AUTH"):
        return False
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    page = f"{server.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1"
    return status(page, f"{user}:{password}" if user else "") == 401


def _database(file: Path, detail: str) -> Finding:
    """A write is begun and taken back."""
    kept = f"{detail}; " + _("runs are kept in {place}").format(place=file)
    if not file.exists():
        return Finding("OK", kept) if is_writable(file.parent) else Finding("ERROR", _not_writable(file), _own_folder())
    try:
        # autocommit: the transaction below is ours to begin
        connection = sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=LOCK_SECONDS, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("PRAGMA user_version").fetchone()
            connection.execute("ROLLBACK")
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return Finding("WARN", f"{kept}; " + _("another program holds its lock"), _("wait for it, or stop it"))
        return Finding("ERROR", _not_writable(file), _own_folder())
    except sqlite3.DatabaseError:
        fix = _("move it away; a new one is made, and journals of runs that go on are sent to it")
        return Finding("ERROR", _("{place} is damaged or no SQLite database").format(place=file), fix)
    return Finding("OK", kept)


def require_import(package: str) -> None:
    """Import a package in a process of its own: beside the other checks, and leaving nothing behind.

    What this process has loaded, as a flow run has Prefect, is not tried again.

    Raises:
        ModuleNotFoundError: it is not installed.
        RuntimeError: it can't be imported, with the last line that it printed.
    """
    if not is_installed(package):
        raise ModuleNotFoundError(name=package)
    if is_loaded(package):
        return
    with TemporaryDirectory(prefix="shoes-check-") as home:
        quiet = {"PREFECT_HOME": home, "DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        command = [sys.executable, "-c", f"import {package}"]
        environment = os.environ | quiet
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=home, env=environment, timeout=IMPORT_SECONDS
        )
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])


def _no_answer(address: str) -> str:
    return _("{server} does not answer").format(server=without_secrets(address))


def _if_local(address: str) -> str:
    """What else may be the reason on a Mac."""
    if platform.system() != "Darwin" or not is_local(host_of(address)):
        return ""
    said = _("or let macOS allow it: System Settings → Privacy & Security → Local Network, for the terminal or Python")
    return f"; {said}"


def _refused(address: str) -> str:
    return _("{server} refuses the user or the password").format(server=without_secrets(address))


def _not_writable(place: Path) -> str:
    return _("{place} can't be written to").format(place=existing_folder(place) if not place.exists() else place)


def _own_folder() -> str:
    return _("set SHOES_DATA_DIR to a folder of yours")

"""A team's servers for tests: PostgreSQL, Prefect and MLflow with users, each a real one on the loopback."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from shoes.servers.child import is_healthy
from shoes.settings import PROJECT_ROOT
from tests import asking
from tests.world import free_port

DATABASES = ("prefect", "mlflow", "mlflow_users")


def find_postgres() -> Path | None:
    """The folder of PostgreSQL's programs, where there is one."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).parent
    places = [
        *Path("/usr/lib/postgresql").glob("*/bin"),
        *Path("/opt/homebrew/opt").glob("postgresql@*/bin"),
        *Path("/usr/local/opt").glob("postgresql@*/bin"),
    ]
    return next((place for place in sorted(places, reverse=True) if (place / "initdb").is_file()), None)


def _other_person() -> str | None:
    """Who runs PostgreSQL, which refuses root; nobody else where a person runs the tests."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def postgres(programs: Path) -> Iterator[str]:
    """A cluster with empty databases; the address of them all, without the database's name."""
    person, password, port = _other_person(), secrets.token_hex(8), free_port()
    folder = Path(tempfile.mkdtemp(prefix="shoes-pg-"))  # pytest's own folders are closed to others

    def run(program: str, *words: str) -> None:
        groups: list[str] | None = [] if person else None
        command = [programs / program, "-D", str(folder / "data"), *words]
        subprocess.run(command, cwd="/", check=True, stdout=subprocess.DEVNULL, user=person, extra_groups=groups)

    try:
        (folder / "password").write_text(password)
        if person is not None:
            for path in (folder, folder / "password"):
                shutil.chown(path, person)
        run("initdb", "-U", "team", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync")
        listen = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off -c max_connections=60"
        run("pg_ctl", "-w", "-l", f"{folder}/log", "-o", listen, "start")
        try:
            address = f"team:{password}@127.0.0.1:{port}"
            _make_databases(address)
            yield address
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_databases(address: str) -> None:
    import psycopg2

    connection = psycopg2.connect(f"postgresql://{address}/postgres")
    try:
        connection.autocommit = True
        for name in DATABASES:
            connection.cursor().execute(f"CREATE DATABASE {name}")
    finally:
        connection.close()


@dataclass(frozen=True)
class Team:
    """Addresses and passwords of a team's servers."""

    prefect: str
    mlflow: str
    prefect_login: str
    """User and password, with a colon between them."""
    admin: tuple[str, str]
    users: dict[str, str] = field(default_factory=dict)
    """Passwords of people who may write, by name."""

    def add_user(self, name: str) -> None:
        self.users[name] = secrets.token_hex(8)
        page = f"{self.mlflow}/api/2.0/mlflow/users/create"
        words = {"username": name, "password": self.users[name]}
        asking.post(page, words, auth=self.admin)


@contextmanager
def team(folder: Path, programs: Path) -> Iterator[Team]:
    """All of a team's servers."""
    prefect, mlflow = free_port(), free_port()
    found = Team(
        prefect=f"http://127.0.0.1:{prefect}/api",
        mlflow=f"http://127.0.0.1:{mlflow}",
        prefect_login=f"team:{secrets.token_hex(8)}",
        admin=("admin", secrets.token_hex(8)),
    )
    with ExitStack() as stack:
        database = stack.enter_context(postgres(programs))
        servers = [
            stack.enter_context(_running(folder / "prefect.log", _prefect(folder, found, database, prefect))),
            stack.enter_context(_running(folder / "mlflow.log", _mlflow(folder, found, database, mlflow))),
        ]
        for server, page in zip(servers, (f"{found.prefect}/health", f"{found.mlflow}/health"), strict=True):
            _wait(server, page)
        yield found


@dataclass(frozen=True)
class _Server:
    command: Sequence[str]
    environment: Mapping[str, str]


def _prefect(folder: Path, team: Team, database: str, port: int) -> _Server:
    return _Server(
        ("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)),
        {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{database}/prefect",
            "PREFECT_SERVER_API_AUTH_STRING": team.prefect_login,
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        },
    )


def _mlflow(folder: Path, team: Team, database: str, port: int) -> _Server:
    users = (PROJECT_ROOT / "docs/team/mlflow_users.ini").read_text()
    (folder / "users.ini").write_text(users + f"\ndatabase_uri = postgresql://{database}/mlflow_users\n")
    return _Server(
        (
            *("mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"postgresql://{database}/mlflow"),
            *("--artifacts-destination", str(folder / "artifacts"), "--app-name", "basic-auth"),
        ),
        {
            "MLFLOW_AUTH_CONFIG_PATH": str(folder / "users.ini"),
            "MLFLOW_AUTH_ADMIN_USERNAME": team.admin[0],
            "MLFLOW_AUTH_ADMIN_PASSWORD": team.admin[1],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
    )


def clean_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("SHOES_", "PREFECT_", "MLFLOW_"))}


@contextmanager
def _running(log: Path, server: _Server) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *server.command],
            env={**clean_environment(), **server.environment},
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):  # its own children are in the same group
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)


def _wait(server: subprocess.Popen[bytes], page: str) -> None:
    for _ in range(600):
        if is_healthy(page):
            return
        assert server.poll() is None, f"the server of {page} has ended"
        time.sleep(0.2)
    raise AssertionError(f"{page} does not answer")

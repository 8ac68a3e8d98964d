"""Servers that are away, hang or refuse: training goes on, and later everything is there, once."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

from benchmarks.faults.world import answers, mlflow_server, until
from shoes import stages
from shoes.reports import TrainReport
from shoes.settings import load_settings
from shoes.spec import Recipe
from shoes.tracking import mirror
from shoes.tracking.database import make_database
from shoes.tracking.journal import read_events
from shoes.training import loop
from tests import asking
from tests.world import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning"),
]
NUM_STEPS = 12
CHANGES = {"train.max_train_steps": str(NUM_STEPS), "train.save_steps": "6", "train.validation_steps": "6"}
AT = 4
"""Step at which something happens."""


@pytest.fixture
def server_address(with_small_data: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where MLflow's server will be."""
    address = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setattr(mirror, "SECONDS_TO_FINISH", 20.0)
    return address


@contextmanager
def server(address: str) -> Iterator[int]:
    """MLflow's server; its process group."""
    with mlflow_server(load_settings().data, int(address.rpartition(":")[2])) as process:
        yield process.pid


def train(recipe: Recipe, on_step: Callable[[int], None] = lambda step: None) -> TrainReport:
    """The training stage; `on_step` is called on the training thread, before the next step."""
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    report = stages.train(recipe, models, data, on_progress=lambda done, total, note="": on_step(done))
    assert isinstance(report, TrainReport)
    return report


def catch_up(recipe: Recipe) -> None:
    """What the next stage, or the next start, does anyway."""
    stages.pages(recipe, stages.fetch_model(recipe), stages.prepare_data(recipe))


def require_everything_once(report: TrainReport) -> None:
    """MLflow has each point of the journal, with its value, and no other; one run, and it is finished."""
    wanted = Counter(
        (name, event["step"], value)
        for event in read_events(report.run_dir / "journal.jsonl")
        if event["kind"] == "metrics"
        for name, value in event["values"].items()
    )
    with closing(sqlite3.connect(load_settings().data / "mlruns/mlflow.db")) as base:
        found = Counter(base.execute("SELECT key, step, value FROM metrics").fetchall())
        states = base.execute("SELECT status FROM runs").fetchall()
    assert found == wanted
    assert states == [("FINISHED",)]
    assert {step for name, step, _ in found if name == "train/loss"} == set(range(1, NUM_STEPS + 1))


def test_mlflow_is_away_at_the_start(micro: Callable[..., Recipe], server_address: str) -> None:
    recipe = micro(CHANGES)
    report = train(recipe)
    with server(server_address):
        catch_up(recipe)
    require_everything_once(report)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_mlflow_goes_away_in_the_middle_and_comes_back(
    micro: Callable[..., Recipe], server_address: str, number: signal.Signals
) -> None:
    recipe = micro(CHANGES)
    with server(server_address) as group:

        def on_step(step: int) -> None:
            if step == AT:
                os.killpg(group, number)
            if step == NUM_STEPS and number == signal.SIGSTOP:  # all steps were taken while it hung
                os.killpg(group, signal.SIGCONT)

        report = train(recipe, on_step)
        if number == signal.SIGSTOP:
            catch_up(recipe)
    if number == signal.SIGKILL:
        with server(server_address):
            catch_up(recipe)
    require_everything_once(report)


def test_mlflow_goes_away_at_the_end(
    micro: Callable[..., Recipe], server_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, real = micro(CHANGES), loop.conclude
    with server(server_address) as group:

        def last_moment(*given: Any) -> TrainReport:
            os.killpg(group, signal.SIGKILL)
            return real(*given)

        monkeypatch.setattr(loop, "conclude", last_moment)
        report = train(recipe)
    with server(server_address):
        catch_up(recipe)
    require_everything_once(report)


def test_a_database_that_another_program_has_locked(micro: Callable[..., Recipe], with_small_data: Path) -> None:
    recipe, base = micro(CHANGES), []

    def on_step(step: int) -> None:
        file = load_settings().mlruns / "mlflow.db"
        if step == AT:
            mirror.connect(load_settings().tracking_uri)  # the file is there
            base.append(sqlite3.connect(file, timeout=60, isolation_level=None))
            base[0].execute("BEGIN EXCLUSIVE")
        if step == NUM_STEPS:
            base[0].execute("COMMIT")
            base[0].close()

    report = train(recipe, on_step)
    catch_up(recipe)
    require_everything_once(report)


@contextmanager
def read_only() -> Iterator[None]:
    """SQLite refuses to write, in its own words: file permissions mean nothing to root."""
    modes = {True: "ON", False: "OFF"}
    state = {"is_on": True}

    def set_mode(connection: Any, *_: Any) -> None:
        connection.execute(f"PRAGMA query_only = {modes[state['is_on']]}")

    event.listen(Pool, "checkout", set_mode)
    try:
        yield
    finally:
        state["is_on"] = False  # connections are kept, and looked at again when they are next used


def test_a_database_that_nobody_may_write(
    micro: Callable[..., Recipe], with_small_data: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    recipe = micro(CHANGES)
    make_database(load_settings().tracking_uri)
    with monkeypatch.context() as patch, read_only():
        patch.setattr(mirror, "SECONDS_TO_FINISH", 5.0)
        report = train(recipe)
    assert [m for m in caplog.messages if "does not answer" in m and "readonly database" in m]
    catch_up(recipe)
    require_everything_once(report)


class Watched:
    """Which threads speak to the network or to a database while steps are taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_on = False
        self.threads: Counter[str] = Counter()
        for name in ("connect", "connect_ex", "sendall", "send"):
            monkeypatch.setattr(socket.socket, name, self._noting(getattr(socket.socket, name)), raising=False)
        monkeypatch.setattr(sqlite3, "connect", self._noting(sqlite3.connect))
        real = loop._steps

        def steps(*given: Any) -> Any:
            self.is_on = True
            try:
                return real(*given)
            finally:
                self.is_on = False

        monkeypatch.setattr(loop, "_steps", steps)

    def _noting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*given: Any, **named: Any) -> Any:
            if self.is_on:
                self.threads[threading.current_thread().name] += 1
            return real(*given, **named)

        return noting


@pytest.mark.parametrize("behind", ["its server", "a file"])
def test_no_call_to_mlflow_is_made_by_the_thread_that_trains(
    micro: Callable[..., Recipe],
    with_small_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    behind: str,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr(mirror, "SECONDS_BETWEEN_SENDS", 0.01)
    watched = Watched(monkeypatch)
    with server(request.getfixturevalue("server_address")) if behind == "its server" else nullcontext():
        train(micro(CHANGES), lambda step: threading.Event().wait(0.1))
    if behind == "its server":
        assert watched.threads["mlflow-mirror"] > 0, "the watch sees what it is for"
    assert threading.main_thread().name not in watched.threads


def call_after_steps(monkeypatch: pytest.MonkeyPatch, on_step: Callable[[int], None]) -> None:
    """Of a training that its flow starts."""
    real = loop._one_step

    def one_step(session: Any, *given: Any) -> bool:
        has_changed = real(session, *given)
        on_step(session.step)
        return has_changed

    monkeypatch.setattr(loop, "_one_step", one_step)


def flow_runs(api: str) -> list[dict[str, Any]]:
    return asking.post(f"{api}/flow_runs/filter", {})


def test_prefect_is_away_in_the_middle_and_the_flow_does_not_notice(
    micro: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.overnight import train_lora

    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    with ExitStack() as servers:
        first = servers.enter_context(prefect_server(tmp_path, port))

        def on_step(step: int) -> None:
            if step == AT:
                os.killpg(first, signal.SIGKILL)
            if step == NUM_STEPS:
                servers.enter_context(prefect_server(tmp_path, port))

        call_after_steps(monkeypatch, on_step)
        with temporary_settings({PREFECT_API_URL: api}):
            report = train_lora(micro(CHANGES))
        (run,) = flow_runs(api)
    assert report.step == NUM_STEPS
    assert run["state"]["type"] == "COMPLETED"


def test_prefect_is_away_for_good_at_the_end_and_the_next_start_ends_the_run(
    micro: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import tags
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    from flows.operations import lost, runs
    from flows.overnight import train_lora

    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    with prefect_server(tmp_path, port) as first:
        call_after_steps(monkeypatch, lambda step: os.killpg(first, signal.SIGKILL) if step == NUM_STEPS else None)
        with (
            temporary_settings({PREFECT_API_URL: api, PREFECT_CLIENT_MAX_RETRIES: 0}),
            tags(runs.TAG),
            pytest.raises(httpx_errors()),
        ):
            train_lora(micro(CHANGES))
    (report,) = load_settings().runs.glob("*/report.json")
    assert TrainReport.model_validate_json(report.read_text()).step == NUM_STEPS, "the training is done all the same"
    with prefect_server(tmp_path, port), temporary_settings({PREFECT_API_URL: api}):
        (run,) = flow_runs(api)
        assert run["state"]["type"] == "RUNNING"
        with get_client(sync_client=True) as client:
            assert [str(ended.id) for ended in lost.end_lost(client, load_settings())] == [run["id"]]
        (run,) = flow_runs(api)
        assert run["state"]["type"] == "CRASHED"


def httpx_errors() -> type[Exception]:
    import httpx as prefects

    return prefects.HTTPError


@contextmanager
def prefect_server(folder: Path, port: int) -> Iterator[int]:
    """Prefect's server on its database in a folder; its process group."""

    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(folder / "prefect-home"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "prefect.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/api/health"), process)
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

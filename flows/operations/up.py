"""`shoes up`: servers, worker and deployments, started, kept running and stopped as one."""

import json
import logging
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import WorkerStatus
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, PREFECT_UI_URL, temporary_settings

from flows.operations import alive, automations, lost, nights, register, stopping
from flows.operations.database import is_missing, make_database
from flows.operations.environment import child_environment
from flows.operations.outages import UNREACHABLE
from shoes import clock
from shoes import nights as kept_nights
from shoes.device.awake import kept_awake
from shoes.device.identity import machine_name
from shoes.errors import ConfigurationError, ShoesError
from shoes.local_network import LOCAL_NETWORK, host_of, is_local
from shoes.servers import program, record
from shoes.servers.child import SECONDS_TO_START, is_healthy
from shoes.servers.leftovers import stop_leftovers
from shoes.servers.limits import allow_many_files
from shoes.servers.ports import require_free
from shoes.servers.supervisor import Supervisor
from shoes.settings import Settings
from shoes.storage import write_text
from shoes.tracking.orphans import close_orphans

log = logging.getLogger("shoes.operations")
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_ROUNDS = 15.0
"""How often runs that crashed are looked for."""


class Stop:
    """Whether Ctrl-C or SIGTERM has come: once, or once more because it takes too long."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.is_urgent = False
        self.signal: int | None = None
        self.is_starting = True

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Signal handler. While things start, what is done is left at once."""
        del frame
        self.is_urgent = self.signal is not None
        self.signal = self.signal or number
        self.asked.set()
        if self.is_starting:
            self.is_starting = False
            raise KeyboardInterrupt


@dataclass
class Up:
    """One `shoes up`."""

    settings: Settings
    stop: Stop
    supervisor: Supervisor
    since: datetime
    deploying: register.Deploying | None = None
    """The registering of deployments; at a first start it loads while Prefect's server does."""

    def keep_record(self, *, is_ready: bool) -> record.Running:
        """Write down what runs, for other commands and for a start after a crash."""
        found = record.Running(
            up=record.seat(os.getpid()),
            since=self.since,
            is_ready=is_ready,
            prefect_api=program.prefect_api(self.settings),
            dashboard=program.dashboard(self.settings),
            mlflow=self.settings.mlflow_url,
            programs=self.supervisor.seats,
        )
        record.write(self.settings, found)
        return found


def run(settings: Settings, tell: Callable[[record.Running], None]) -> None:
    """Start everything, tell that it is ready, keep it running until a signal comes, and stop it.

    Raises:
        Busy: it runs already.
        ConfigurationError: a port is taken, or the schedule or a notification is wrong.
        ShoesError: something did not start.
    """
    lock = record.only_one(settings)
    allow_many_files()
    stop = Stop()
    up = Up(settings, stop, Supervisor(child_environment(settings), settings.root), clock.now())
    with _api(settings), _signals(stop):
        try:
            _start(up)
            stop.is_starting = False
            tell(up.keep_record(is_ready=True))
            _watch(up)
        finally:
            stop.is_starting = False
            _stop(up)
            record.remove(settings)
            lock.release()


def _start(up: Up) -> None:
    settings, supervisor = up.settings, up.supervisor
    stop_leftovers(settings)
    prefect, mlflow = program.prefect_server(settings), program.mlflow_server(settings)
    require_free([found for found in (prefect, mlflow) if found])
    _require_team_servers(settings)
    close_orphans(settings)
    log.info("starting %s", ", ".join([p.title for p in (prefect, mlflow) if p] + ["Worker"]))
    if prefect and is_missing(settings.prefect_home):
        up.deploying = _deploying(settings)
    with ThreadPoolExecutor(1) as beside:
        # on a machine of two cores a third program would make the first two, which all else waits for, slower
        pages = None if up.deploying else beside.submit(_start_mlflow, up, mlflow)
        if prefect:
            make_database(settings.prefect_home)
            supervisor.start(prefect).wait_until_ready()
        pages = pages or beside.submit(_start_mlflow, up, mlflow)
        up.keep_record(is_ready=False)
        _register(up)
        pages.result()


def _start_mlflow(up: Up, mlflow: program.Program | None) -> None:
    """MLflow's pages, beside everything else; its database is made as a whole or not at all."""
    if mlflow is None:  # a team has them
        return
    from shoes.tracking.database import make_database as make_mlflow_database

    make_mlflow_database(up.settings.tracking_uri)
    up.supervisor.start(mlflow).wait_until_ready()


def _require_team_servers(settings: Settings) -> None:
    """Raises: ShoesError: a server that the settings name does not answer: each of them, with its setting."""
    wanted = {"PREFECT_API_URL": settings.prefect_api_url, "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri}
    away = [
        f"{name} is {address}, and nothing answers there. Start that server, or unset {name} to have one started."
        + (f" If it runs: {LOCAL_NETWORK}." if platform.system() == "Darwin" and is_local(host_of(address)) else "")
        for name, address in wanted.items()
        if address and address.startswith("http") and not is_healthy(f"{address.rstrip('/')}/health")
    ]
    if away:
        raise ShoesError("\n".join(away))


def _register(up: Up) -> None:
    """Pool, lost runs, worker and deployments, as much of it as can be done at once."""
    settings = up.settings
    with get_client(sync_client=True) as client:
        register.make_pool(client)
        lost.end_lost(client, settings)
        _deploy(up, client)
        automations.set_up(client, settings)
        nights.cancel_missed(client, clock.now())
        lost.resume(client, settings, _stopped(settings))
        _start_worker(up, client)


def _deploy(up: Up, client: SyncPrefectClient) -> None:
    """Register what is not registered as the code is now; the kept schedule holds in any case."""
    settings = up.settings
    if register.is_up_to_date(client, settings.root):
        nights.apply_kept(client, settings)
        return
    log.info("registering the deployments of prefect.yaml")
    with nights.around_deploying(client, settings):
        up.deploying = up.deploying or _deploying(settings)
        up.deploying.finish()


def _deploying(settings: Settings) -> register.Deploying:
    zone = kept_nights.load(settings.data).timezone
    return register.Deploying({**child_environment(settings), "TZ": zone}, settings.root)


def _start_worker(up: Up, client: SyncPrefectClient) -> None:
    """Last, for on SQLite a server waits for its own locks, up to a minute, where a worker asks while it deploys.

    Raises:
        ShoesError: the worker ended, or the server has not heard of it after a while.
    """
    since, name = clock.now(), machine_name()
    worker = up.supervisor.start(program.worker(up.settings, name))
    up.keep_record(is_ready=False)
    until = time.monotonic() + SECONDS_TO_START
    while worker.answers() and time.monotonic() < until:
        for found in client.read_workers_for_work_pool(program.POOL):
            is_new = found.last_heartbeat_time is not None and found.last_heartbeat_time >= since
            if found.name == name and found.status is WorkerStatus.ONLINE and is_new:
                return
        time.sleep(0.2)
    raise ShoesError("Prefect's worker did not start; its log says why: worker.log")


def _watch(up: Up) -> None:
    """Look after the programs, and take up crashed nights, until somebody asks to stop."""
    next_round = time.monotonic() + SECONDS_BETWEEN_ROUNDS
    while not up.stop.asked.wait(SECONDS_BETWEEN_LOOKS):
        if up.supervisor.look():
            up.keep_record(is_ready=True)
        if time.monotonic() >= next_round:
            next_round = time.monotonic() + SECONDS_BETWEEN_ROUNDS
            _stay_awake(up.settings)
            _round(up)


def _stay_awake(settings: Settings) -> None:
    """A Mac that was woken up for its night would sleep again before a run keeps it awake."""
    with suppress(ConfigurationError):  # a schedule that can't be read was told at the start
        if kept_nights.is_about_to_begin(kept_nights.load(settings.data), clock.now()):
            with kept_awake():
                pass  # and for some minutes afterwards


def _round(up: Up) -> None:
    """What is done now and then; a server that is away is asked again the next time."""
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(sync_client=True) as client:
            nights.drop_stale(client, clock.now())
            nights.cancel_missed(client, clock.now())
            alive.set_right(client)
            lost.resume(client, up.settings)
    except UNREACHABLE as error:
        log.debug("Prefect's API does not answer: %s", error)


def _stop(up: Up) -> None:
    """Runs first, so that they save their state; then the worker, then the servers."""
    if up.deploying:
        up.deploying.give_up()
    if up.stop.signal is not None and up.supervisor.seats:
        log.info("stopping; once more Ctrl-C stops at once, and runs go on from their last checkpoints")
    if "worker" in up.supervisor.seats and not up.stop.is_urgent:
        _stop_runs(up)
    if up.stop.is_urgent:
        up.supervisor.kill()
    up.supervisor.stop()


def _stop_runs(up: Up) -> None:
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(sync_client=True) as client:
            stopped = stopping.stop_runs(client, up.settings, is_urgent=lambda: up.stop.is_urgent)
    except UNREACHABLE as error:
        log.warning("Prefect's API does not answer (%s): runs are ended, and go on from their last checkpoints", error)
        return
    if up.stop.signal == signal.SIGTERM:  # the machine stops, not the person: inside the window they go on
        write_text(_stopped_file(up.settings), json.dumps([str(run) for run in stopped]))


def _stopped_file(settings: Settings) -> Path:
    return settings.data / "servers" / "stopped.json"


def _stopped(settings: Settings) -> list[UUID]:
    """Runs that the machine's going down has stopped; told once."""
    file = _stopped_file(settings)
    if not file.exists():
        return []
    ids = [UUID(name) for name in json.loads(file.read_text(encoding="utf-8"))]
    file.unlink()
    return ids


@contextmanager
def _api(settings: Settings) -> Iterator[None]:
    """Inside, Prefect's client speaks with this machine's or the team's server."""
    ui = os.environ.get("PREFECT_UI_URL", program.pages(settings))
    with temporary_settings({PREFECT_API_URL: program.prefect_api(settings), PREFECT_UI_URL: ui}):
        yield


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    # what nohup has made deaf to the end of its terminal stays so
    numbers = [signal.SIGINT, signal.SIGTERM]
    numbers += [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []
    former = {number: signal.signal(number, stop.receive) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)

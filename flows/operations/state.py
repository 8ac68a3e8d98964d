"""What runs now, as far as processes and servers say."""

from datetime import datetime

from prefect.artifacts import Artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.operations import runs
from flows.operations.outages import UNREACHABLE
from flows.operations.place import api_url
from shoes.reports import Report
from shoes.servers import program, record
from shoes.servers.child import is_healthy
from shoes.settings import Settings


class ServerState(Report):
    """One server or program."""

    name: str
    is_good: bool
    detail: str


class RunState(Report):
    """One flow run, in words."""

    name: str
    state: str
    at: datetime | None
    """When it started, or is to start."""
    detail: str = ""
    page: str = ""


class Operation(Report):
    """What runs on this machine."""

    is_up: bool
    """`shoes up` runs for this data folder."""
    servers: tuple[ServerState, ...]
    running: tuple[RunState, ...] = ()
    next_runs: tuple[RunState, ...] = ()
    last: RunState | None = None

    @property
    def is_good(self) -> bool:
        """Something runs, and all that should run does."""
        return bool(self.servers) and all(server.is_good for server in self.servers)


def look(settings: Settings) -> Operation:
    """Ask processes and servers."""
    found = record.running(settings)
    servers = tuple(_servers(settings, found))
    api = api_url(settings)
    if api is None:
        return Operation(is_up=found is not None, servers=servers)
    retries = {PREFECT_API_URL: api, PREFECT_CLIENT_MAX_RETRIES: 0}
    try:
        with temporary_settings(retries), get_client(sync_client=True) as client:
            dashboard = program.pages(settings)
            return Operation(
                is_up=found is not None,
                servers=servers,
                running=tuple(_running(client, dashboard)),
                next_runs=tuple(_next(client, dashboard)),
                last=_last(client, dashboard),
            )
    except UNREACHABLE:  # it has gone away in between
        return Operation(is_up=found is not None, servers=servers)


def _servers(settings: Settings, found: record.Running | None) -> list[ServerState]:
    programs = found.programs if found is not None else {}
    own = [_own(name, seat, settings) for name, seat in programs.items()]
    teams = {"Prefect (team)": settings.prefect_api_url, "MLflow (team)": settings.mlflow_tracking_uri}
    return own + [
        ServerState(name=name, is_good=is_healthy(f"{address.rstrip('/')}/health"), detail=address)
        for name, address in teams.items()
        if address and address.startswith("http")
    ]


def _own(name: str, seat: record.Seat, settings: Settings) -> ServerState:
    pages = {
        "prefect-server": (program.dashboard(settings), f"{program.local_api(settings)}/health"),
        "mlflow-server": (settings.mlflow_url, f"{settings.mlflow_url}/health"),
    }
    page, health = pages.get(name, ("", None))
    if not seat.is_alive:
        return ServerState(name=name, is_good=False, detail="has died; `shoes up` starts it again in a moment")
    answers = health is None or is_healthy(health)
    where = f"{page}  " if page else ""
    return ServerState(
        name=name, is_good=answers, detail=f"{where}process {seat.pid}" + ("" if answers else ", does not answer")
    )


def _running(client: SyncPrefectClient, dashboard: str) -> list[RunState]:
    found = runs.read(client, runs.ACTIVE, sort=FlowRunSort.START_TIME_ASC)
    return [_told(run, run.start_time, dashboard, _progress(run)) for run in found]


def _progress(run: FlowRun) -> str:
    """How far its training is, by the artifact that it posts."""
    found = Artifact.get("training")
    return str(found.description or "") if found is not None and found.flow_run_id == run.id else ""


def _next(client: SyncPrefectClient, dashboard: str) -> list[RunState]:
    found = runs.read(client, [StateType.SCHEDULED], sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC, limit=3)
    return [_told(run, run.next_scheduled_start_time or run.expected_start_time, dashboard) for run in found]


def _last(client: SyncPrefectClient, dashboard: str) -> RunState | None:
    ended = [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED]
    found = runs.read(client, ended, sort=FlowRunSort.END_TIME_DESC, limit=20)
    last = next((run for run in found if run.start_time), None)
    if last is None:
        return None
    return _told(last, last.end_time, dashboard, (last.state.message if last.state else None) or "")


def _told(run: FlowRun, at: datetime | None, dashboard: str, detail: str = "") -> RunState:
    return RunState(
        name=run.name,
        state=run.state_name or "",
        at=at,
        detail=detail,
        page=f"{dashboard}/runs/flow-run/{run.id}",
    )

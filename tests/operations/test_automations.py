"""What the server does by itself, on a real one: runs that died are ended, and people are told."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.events.actions import DoNothing
from prefect.events.schemas.automations import AutomationCore, EventTrigger
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Crashed

from flows.operations import alive, automations
from flows.operations.automations import A_NIGHT_ENDED, A_RUN_FAILED, NO_SIGN_OF_LIFE, set_up
from flows.operations.database import make_database
from shoes.errors import ConfigurationError
from shoes.settings import PROJECT_ROOT, Settings, load_settings
from tests import asking
from tests.world import free_port

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A Prefect server: its API, and its log."""
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    make_database(home)
    environment = os.environ | {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    environment |= {"PREFECT_SERVER_LOGGING_LEVEL": "DEBUG", "PREFECT_LOGGING_LEVEL": "DEBUG"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    log = home / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, cwd=home, stdout=file, stderr=file)
        api = f"http://127.0.0.1:{port}/api"
        try:
            until(lambda: process.poll() is None and asking.answers(f"{api}/health"))
            yield api, log
        finally:
            process.terminate()
            process.wait(30)


def until(what: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.3)
    return found


@pytest.fixture
def client(server: tuple[str, Path]) -> Iterator[SyncPrefectClient]:
    """A client of the server, which has none of our automations."""
    with temporary_settings({PREFECT_API_URL: server[0]}), get_client(sync_client=True) as client:
        yield client
        for found in client.read_automations():
            client.delete_automation(found.id)


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name in ("SHOES_NOTIFY", "SHOES_NOTIFY_WEBHOOK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(f"SHOES_{name.upper()}", value)
    return load_settings()


def start(server: tuple[str, Path], program: str) -> "subprocess.Popen[str]":
    """A program that runs a flow."""
    environment = os.environ | {"PREFECT_API_URL": server[0], "PREFECT_HOME": str(server[1].parent)}
    environment |= {"PREFECT_LOGGING_LEVEL": "WARNING", "PYTHONPATH": str(PROJECT_ROOT)}
    return subprocess.Popen([sys.executable, "-c", program], env=environment, stdin=subprocess.PIPE, text=True)


ALIVE = """
import sys, prefect.flow_engine as engine
from prefect import flow, tags
from prefect.states import Completed
engine.MINIMUM_HEARTBEAT_INTERVAL = 2  # Prefect takes 30 s or more
engine.FlowRunEngine.heartbeat_seconds = property(lambda self: 2)

@flow(name="{name}", flow_run_name="{name}")
def night():
    {body}
    return Completed(name="Paused at 3 of 4 steps")

with tags("shoes"):
    night(return_state=True)
"""


def runs(client: SyncPrefectClient, name: str) -> list[FlowRun]:
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])))


def state(client: SyncPrefectClient, name: str) -> tuple[str, str, str | None] | None:
    found = [run.state for run in runs(client, name) if run.state]
    return (found[0].type.value, found[0].name, found[0].message) if found else None


def beats(client: SyncPrefectClient, name: str) -> int:
    """Signs of life that the server has of a run."""
    ids = [f"prefect.flow-run.{run.id}" for run in runs(client, name)]
    if not ids:  # the server takes an empty list for no filter
        return 0
    of = {"resource": {"id": ids}}
    wanted = {"event": {"name": ["prefect.flow-run.heartbeat"]}, **of, "occurred": {"since": "2020-01-01T00:00:00Z"}}
    return int(client.request("POST", "/events/filter", json={"filter": wanted}).json()["total"])


def test_a_run_whose_process_was_killed_is_ended_and_no_other(
    server: tuple[str, Path], client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(client, settings(monkeypatch), silence=timedelta(seconds=10))
    waits = "sys.stdin.read()"
    doomed, living, ended = (
        start(server, ALIVE.format(name=name, body=body))
        for name, body in (("doomed", waits), ("living", waits), ("ended", "pass"))
    )
    until(lambda: beats(client, "doomed") and beats(client, "living"))
    doomed.kill()
    doomed.communicate()
    until(lambda: (state(client, "doomed") or [""])[0] == "CRASHED", 60)
    assert state(client, "doomed")[2].startswith("No sign of life for 10 s: its process or its machine has died.")
    assert ended.wait() == 0
    ended.communicate()
    time.sleep(6)  # one more of the server's rounds
    assert state(client, "ended")[:2] == ("COMPLETED", "Paused at 3 of 4 steps"), "ended under a name of its own"
    assert state(client, "living")[:2] == ("RUNNING", "Running")
    assert beats(client, "living") > 5
    living.communicate("", timeout=30)
    assert state(client, "living")[:2] == ("COMPLETED", "Paused at 3 of 4 steps")


def test_a_run_that_lives_is_running_again(client: SyncPrefectClient) -> None:
    @flow
    def night() -> None:
        pass

    silence = automations.no_sign_of_life().actions[0].message
    ended = {
        name: client.create_flow_run(night, name=name, state=Crashed(message=message))
        for name, message in (("wronged", silence), ("dead", silence), ("killed", "Process exited with status 137"))
    }
    names = ("wronged", "killed")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", "input()"],
            stdin=subprocess.PIPE,
            env=os.environ | {"PREFECT__FLOW_RUN_ID": str(ended[name].id)},
        )
        for name in names
    ]
    try:
        assert [run.name for run in alive.set_right(client)] == ["wronged"]
        assert state(client, "wronged") == ("RUNNING", "Running", "alive after all: Prefect's server had been away")
        assert state(client, "dead")[0] == state(client, "killed")[0] == "CRASHED"
        assert alive.set_right(client) == []
    finally:
        for process in processes:
            process.communicate(b"\n")


class Sink(ThreadingHTTPServer):
    """Takes messages, by path, or refuses them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.messages: list[tuple[str, dict[str, str]]] = []
        self.status = 200

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def of(self, path: str) -> list[dict[str, str]]:
        """Messages to a path, each once: where its database was busy, Prefect's server tells the same again."""
        found = [message for where, message in self.messages if where == path]
        return [message for number, message in enumerate(found) if message not in found[:number]]


class Handler(BaseHTTPRequestHandler):
    server: Sink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.messages.append((self.path, json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


NIGHTS = """
from pathlib import Path
from prefect import flow, tags
from shoes import recipes
from shoes.errors import DataError, Problem
from tasks.telling import tell_night
from tests.publishing import sample_night as sample

recipe = recipes.load("overnight")
night = sample.night(Path({folder!r}))
refused = night.promotion.model_copy(update={{"promoted": False, "reason": "the CLIP score fell"}})

@flow(flow_run_name="tell")
def tell():
    tell_night(recipe, night)
    other = {{"promoted": False, "promotion": refused, "verdict": 'It is "no" <better>.'}}
    tell_night(recipe, night.model_copy(update=other))

@flow(name="prepare-data", flow_run_name=recipe.title)
def broken():
    raise DataError([Problem("data/x", "is not there", "import it")])

with tags("shoes"):
    tell()
    broken(return_state=True)
broken(return_state=True)  # of somebody else
"""


def test_people_are_told_of_promotion_refusal_and_failure(
    server: tuple[str, Path], client: SyncPrefectClient, sink: Sink, own_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CustomWebhookNotificationBlock(
        name="team",
        url=f"{sink.address}/team/{{{{key}}}}",
        json_data={"title": "{{subject}}", "text": "{{body}}"},
        secrets={"key": "hunter2"},
    ).save("team", overwrite=True)
    found = settings(monkeypatch, notify="custom-webhook/team", notify_webhook=f"{sink.address}/hook/hunter2")
    set_up(client, found)
    numbers = {found.name: len(found.actions) for found in client.read_automations()}
    assert numbers == {NO_SIGN_OF_LIFE: 1, A_RUN_FAILED: 2, A_NIGHT_ENDED: 2}, "each target is told once"
    process = start(server, NIGHTS.format(folder=str(own_world / "night")))
    assert process.wait(120) == 0
    process.communicate()
    until(lambda: len(sink.of("/hook/hunter2")) >= 3 and len(sink.of("/team/hunter2")) >= 3)
    time.sleep(2)
    expected = ["Failed: overnight sd15 r8 3000 (prepare-data)", "Not promoted: overnight", "Promoted: overnight"]
    for path in ("/hook/hunter2", "/team/hunter2"):
        assert sorted(message["title"] for message in sink.of(path)) == expected
        messages = {message["title"]: message["text"] for message in sink.of(path)}
        assert "The adapter draws the captions better than the base" in messages["Promoted: overnight"]
        assert "Report in MLflow: http://127.0.0.1:5001/" in messages["Promoted: overnight"]
        assert f"Flow run: {server[0].removesuffix('/api')}/runs/flow-run/" in messages["Promoted: overnight"]
        assert 'It is "no" <better>.' in messages["Not promoted: overnight"]
        failure = messages[expected[0]]
        assert "data/x: is not there" in failure
        run = next(run for run in runs(client, "overnight sd15 r8 3000") if "shoes" in run.tags)
        assert f"{server[0].removesuffix('/api')}/runs/flow-run/{run.id}" in failure
    assert_no_secret(server, client)


@pytest.mark.parametrize("is_there", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["refuses", "away"])
def test_a_target_that_does_not_take_it_gives_no_secret_away(
    server: tuple[str, Path],
    client: SyncPrefectClient,
    sink: Sink,
    own_world: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_there: bool,
) -> None:
    sink.status = 500
    address = sink.address if is_there else f"http://127.0.0.1:{free_port()}"
    set_up(client, settings(monkeypatch, notify_webhook=f"{address}/hook/hunter2"))
    process = start(server, NIGHTS.format(folder=str(own_world / "night")))
    assert process.wait(120) == 0
    process.communicate()
    until(lambda: actions(client) >= 3)
    assert_no_secret(server, client)


def actions(client: SyncPrefectClient) -> int:
    """Messages that the server has tried to send for the automations that there are."""
    ids = [f"prefect.automation.{found.id}" for found in client.read_automations()]
    names = ["prefect.automation.action.executed", "prefect.automation.action.failed"]
    wanted = {"event": {"name": names}, "resource": {"id": ids}, "occurred": {"since": "2020-01-01T00:00:00Z"}}
    return int(client.request("POST", "/events/filter", json={"filter": wanted}).json()["total"])


def assert_no_secret(server: tuple[str, Path], client: SyncPrefectClient) -> None:
    assert "hunter2" not in server[1].read_text()
    assert "hunter2" not in json.dumps([found.model_dump(mode="json") for found in client.read_automations()])
    events = client.request("POST", "/events/filter", json={"limit": 50}).text
    assert "hunter2" not in events
    assert "hunter2" not in client.request("POST", "/block_documents/filter", json={"include_secrets": False}).text


def names_and_ids(client: SyncPrefectClient) -> dict[str, UUID]:
    found = client.read_automations()
    assert len({automation.name for automation in found}) == len(found), "no name twice"
    return {automation.name: automation.id for automation in found}


def updates(client: SyncPrefectClient, ids: Sequence[UUID]) -> list[str]:
    found = [client.request("GET", "/automations/{id}", path_params={"id": id_}).json() for id_ in ids]
    return [automation["updated"] for automation in found]


def test_setting_up_again_changes_nothing_and_leaves_others_alone(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = AutomationCore(name="shoes: my own", trigger=EventTrigger(expect={"x"}), actions=[DoNothing()])
    mine = client.create_automation(other)
    hook = "http://127.0.0.1:9/hunter2"
    set_up(client, settings(monkeypatch, notify_webhook=hook))
    before = names_and_ids(client)
    assert set(before) == {NO_SIGN_OF_LIFE, A_RUN_FAILED, A_NIGHT_ENDED, "shoes: my own"}
    seen = updates(client, list(before.values()))
    set_up(client, settings(monkeypatch, notify_webhook=hook))
    assert (names_and_ids(client), updates(client, list(before.values()))) == (before, seen)
    set_up(client, settings(monkeypatch, notify_webhook=hook), silence=timedelta(seconds=60))
    assert names_and_ids(client) == before, "changed in its place"
    assert client.read_automation(before[NO_SIGN_OF_LIFE]).trigger.within == timedelta(seconds=60)
    client.pause_automation(before[A_RUN_FAILED])
    set_up(client, settings(monkeypatch, notify_webhook=hook))
    assert not client.read_automation(before[A_RUN_FAILED]).enabled, "what a person disabled stays so"
    client.create_automation(automations.no_sign_of_life())
    set_up(client, settings(monkeypatch))
    assert names_and_ids(client) == {NO_SIGN_OF_LIFE: before[NO_SIGN_OF_LIFE], "shoes: my own": mine}


def test_a_machine_without_targets_leaves_those_of_a_teams_server(
    server: tuple[str, Path], client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(client, settings(monkeypatch, notify_webhook="http://127.0.0.1:9/hunter2"))
    monkeypatch.setenv("PREFECT_API_URL", server[0])
    set_up(client, settings(monkeypatch))
    assert set(names_and_ids(client)) == {NO_SIGN_OF_LIFE, A_RUN_FAILED, A_NIGHT_ENDED}


def test_unknown_blocks_are_told_together(client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as caught:
        set_up(client, settings(monkeypatch, notify="slack-webhook/nobody, team,secret/word"))
    for word in ("slack-webhook/nobody", "team:", "secret/word", "SHOES_NOTIFY", "dashboard"):
        assert word in str(caught.value)
    assert client.read_automations() == [], "nothing is half made"

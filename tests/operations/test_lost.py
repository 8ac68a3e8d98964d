"""Which runs go on by themselves: pure rules, by table."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from flows.operations.lost import (
    MAX_TRIES,
    is_of_this_machine,
    living_flow_runs,
    may_go_on,
    newest_of_each,
    remember,
)
from shoes.servers import record
from shoes.settings import load_settings
from tests import world

NIGHT = datetime(2026, 11, 25, 23, 30, tzinfo=UTC)
NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
WINDOW = {"starts": "22:00", "ends": "07:00", "timezone": "UTC"}


def flow_run(**changes: Any) -> FlowRun:
    given = {
        "flow_id": uuid4(),
        "deployment_id": uuid4(),
        "name": "overnight sd15 r8 3000",
        "tags": ["shoes", "night"],
        "run_count": 1,
        "parameters": {"recipe": {"name": "overnight", "window": WINDOW}},
    }
    return FlowRun(**{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "now", "goes_on"),
    [
        ({}, NIGHT, True),
        ({}, NOON, False),
        ({"run_count": MAX_TRIES - 1}, NIGHT, True),
        ({"run_count": MAX_TRIES}, NIGHT, False),
        ({"tags": ["shoes", "stage"]}, NIGHT, False),
        ({"deployment_id": None}, NIGHT, False),
        ({"parameters": {}}, NIGHT, False),
        ({"parameters": {"recipe": {"window": {"starts": "22:00", "ends": None}}}}, NIGHT, False),
        ({"parameters": {"recipe": {"window": {"starts": "late"}}}}, NIGHT, False),
        ({"parameters": {"recipe": {"window": {**WINDOW, "timezone": "America/Sao_Paulo"}}}}, NIGHT, False),
    ],
)
def test_a_night_goes_on_while_its_window_is_open(changes: dict[str, Any], now: datetime, goes_on: bool) -> None:
    assert may_go_on(flow_run(**changes), now) is goes_on


def test_of_two_nights_that_crashed_the_later_one_goes_on() -> None:
    deployment = uuid4()
    early, late = (
        flow_run(deployment_id=deployment, start_time=NIGHT - timedelta(hours=hours), name=str(hours))
        for hours in (5, 1)
    )
    other = flow_run(start_time=NIGHT)
    assert {run.id for run in newest_of_each([late, early, other])} == {late.id, other.id}


@pytest.fixture
def living() -> Iterator[UUID]:
    run = uuid4()
    code = "print('here', flush=True); import time; time.sleep(600)"
    environment = {**os.environ, "PREFECT__FLOW_RUN_ID": str(run)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield run
    process.kill()
    process.communicate()


def test_a_flow_run_lives_while_its_process_does(living: UUID) -> None:
    assert living in living_flow_runs()
    assert uuid4() not in living_flow_runs()


def test_a_run_belongs_to_the_machine_that_has_seen_its_process_whatever_the_network_calls_it(
    own_world: Path, living: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, run = load_settings(), flow_run(id=living, infrastructure_pid="123")
    assert not is_of_this_machine(run, settings)
    assert living in remember(settings)
    monkeypatch.setattr(socket, "gethostname", lambda: "mac-2.fritz.box")
    assert is_of_this_machine(run, settings)
    assert not is_of_this_machine(flow_run(id=uuid4(), infrastructure_pid="123"), settings)
    monkeypatch.setattr("flows.operations.lost.machine_id", lambda: "another machine, with a copy of the folder")
    assert not is_of_this_machine(run, settings)


def test_only_so_many_runs_are_known(own_world: Path) -> None:
    settings = load_settings()
    record.note_flow_runs(settings, "here", map(str, range(record.NUM_FLOW_RUNS + 5)))
    record.note_flow_runs(settings, "here", ["7", "x"])
    assert record.flow_runs(settings, "here")[:1] + record.flow_runs(settings, "here")[-1:] == ["6", "x"]


def test_the_kernel_may_give_few_files(tmp_path: Path) -> None:
    """macOS gives 256 to a terminal and to what launchd starts."""
    code = (
        "import resource; from shoes.servers.limits import allow_many_files\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard)); allow_many_files(1000)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE) == (1000, hard))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 300)); allow_many_files(1000)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=world.ROOT)
    assert done.stdout.splitlines() == ["True", "(300, 300)"]

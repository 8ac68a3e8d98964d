"""Which runs go on by themselves: pure rules, by table."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun

from flows.operations.lost import MAX_TRIES, is_of_this_machine, living_flow_runs, may_go_on, newest_of_each

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


def test_a_run_belongs_to_the_machine_whose_worker_started_it() -> None:
    import socket

    assert is_of_this_machine(flow_run(infrastructure_pid=f"{socket.gethostname()}:123"))
    assert not is_of_this_machine(flow_run(infrastructure_pid="another-mac:123"))
    assert not is_of_this_machine(flow_run())


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

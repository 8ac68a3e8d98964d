"""Programs that die or hang: the training, the worker, Prefect's server, MLflow's, all of them."""

import os
import signal
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.faults.verdict import Verdict, events_in, judge
from benchmarks.faults.world import FLAGS, STEPS, World, answers, finish, free_port, mlflow_server, reach, step_of
from tests.operations.live import LiveUp

DIES_AT = 25
"""Step at which things happen; the last checkpoint was at 20."""
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def mlflow_killed(world: World, verdict: Verdict) -> Verdict:
    """kill -9 of MLflow's server in the middle, and a new one when all steps are done."""
    folder, port = world.folder(verdict.row), free_port()
    with mlflow_server(folder, port) as server:
        process = world.train(folder, {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"})
        reach(folder, DIES_AT, process)
        os.killpg(server.pid, signal.SIGKILL)
        killed_at = step_of(folder)
    reach(folder, STEPS)
    verdict.notes.append(f"steps {killed_at + 1} to {STEPS} were taken without the server")
    with mlflow_server(folder, port):
        finish(process)
    return judge(verdict, folder, world.expected)


def mlflow_stopped(world: World, verdict: Verdict) -> Verdict:
    """SIGSTOP of MLflow's server for 60 s: it takes connections and never answers."""
    folder, port = world.folder(verdict.row), free_port()
    with mlflow_server(folder, port) as server:
        process = world.train(folder, {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"})
        reach(folder, DIES_AT, process)
        os.killpg(server.pid, signal.SIGSTOP)
        stopped_at, until = step_of(folder), time.monotonic() + 60
        reach(folder, STEPS)
        verdict.notes.append(f"steps {stopped_at + 1} to {STEPS} were taken while it was stopped")
        time.sleep(max(0.0, until - time.monotonic()))
        os.killpg(server.pid, signal.SIGCONT)
        finish(process)
        # what it still lacked after a minute of waiting is sent by the next start
        finish(world.train(folder, {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}))
    return judge(verdict, folder, world.expected)


def training_killed(world: World, verdict: Verdict) -> Verdict:
    """kill -9 of the flow run's process; it is started again."""
    folder = world.folder(verdict.row)
    with LiveUp(folder.parent) as up:
        run = start(up)
        reach(folder, DIES_AT)
        for process in processes_of(run):
            process.kill()
        expect(verdict, ended(up, run), "CRASHED", "the killed run")
        verdict.prefect = ended(up, start(up))
    return judge(verdict, folder, world.expected)


def worker_killed(world: World, verdict: Verdict) -> Verdict:
    """kill -9 of Prefect's worker; `shoes up` starts another one."""
    folder = world.folder(verdict.row)
    with LiveUp(folder.parent) as up:
        run = start(up)
        reach(folder, DIES_AT)
        kill_program(up, "worker")
        verdict.prefect = take_up(up, run, verdict)
    return judge(verdict, folder, world.expected)


def prefect_killed(world: World, verdict: Verdict) -> Verdict:
    """kill -9 of Prefect's server; `shoes up` starts another one."""
    folder = world.folder(verdict.row)
    with LiveUp(folder.parent) as up:
        run = start(up)
        reach(folder, DIES_AT)
        kill_program(up, "prefect-server")
        up.until(lambda: answers(f"{up.ready['prefect_api']}/health"))
        verdict.prefect = take_up(up, run, verdict)
    return judge(verdict, folder, world.expected)


def everything_killed(world: World, verdict: Verdict) -> Verdict:
    """kill -9 of everything, as a power cut does; then `shoes up` again."""
    folder = world.folder(verdict.row)
    up = LiveUp(folder.parent)
    with up:
        run = start(up)
        reach(folder, DIES_AT)
        up.power_cut()
    expect(verdict, mlflow_states(folder), ["RUNNING"], "MLflow's run after the power cut")
    with up:
        expect(verdict, ended(up, run), "CRASHED", "the flow run after the next `shoes up`")
        expect(verdict, mlflow_states(folder), ["KILLED"], "MLflow's run after the next `shoes up`")
        verdict.prefect = ended(up, start(up))
    return judge(verdict, folder, world.expected)


def start(up: LiveUp) -> str:
    """A flow run of the deployment train-lora; its id."""
    from shoes import recipes

    (deployment,) = [d for d in up.post("deployments/filter", {}) if d["name"] == "train-lora"]
    parameters = {"recipe": recipes.load("demo", FLAGS).model_dump(mode="json")}
    given = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    return str(up.post(f"deployments/{deployment['id']}/create_flow_run", given)["id"])


def ended(up: LiveUp, run: str) -> str:
    """The state in which a run ends."""
    return str(up.until(lambda: (state := state_of(up, run)) in ENDED and state, seconds=240))


def state_of(up: LiveUp, run: str) -> str:
    import httpx2 as httpx

    try:
        return str(up.get(f"flow_runs/{run}")["state"]["type"])
    except httpx.HTTPError:
        return "unknown"


def take_up(up: LiveUp, run: str, verdict: Verdict) -> str:
    """The state of a run; of its successor where it did not complete."""
    found = ended(up, run)
    if found == "COMPLETED":
        return found
    verdict.notes.append(f"the run ended as {found}, and another one was started")
    return ended(up, start(up))


def processes_of(run: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get("PREFECT__FLOW_RUN_ID") == run:
                found.append(process)
    assert found, "the run has no process"
    return found


def kill_program(up: LiveUp, name: str) -> None:
    os.kill(up.record()["programs"][name]["pid"], signal.SIGKILL)


def mlflow_states(folder: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{folder / 'mlruns/mlflow.db'}?mode=ro", uri=True)) as base:
        return [state for (state,) in base.execute("SELECT status FROM runs")]


def expect(verdict: Verdict, found: Any, wanted: Any, what: str) -> None:
    if found != wanted:
        verdict.faults.append(f"{what} is {found}, not {wanted}")


def spans(folder: Path) -> list[tuple[int, int]]:
    """When steps were taken, by starts of the training: Unix milliseconds of the first and the last one."""
    tries: list[list[int]] = []
    for event in events_in(folder):
        if event["id"].startswith("session/"):
            tries.append([])
        elif "train/loss" in event.get("values", {}):
            tries[-1].append(event["time"])
    return [(times[0], times[-1]) for times in tries if times]

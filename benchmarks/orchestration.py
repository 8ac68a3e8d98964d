"""What Prefect and our own records cost: the demo's pipeline without its work, and a training step without its step.

    python benchmarks/orchestration.py [--quick]

A Prefect server is started, and the night of the demo runs as a flow of it: once with all of its work, then again and
again with all of it done. What is left of the wall time when the stages' own work is taken away is the orchestration.
The same is done without a server, where each run starts one of its own. Then the demo is trained as a night trains it,
and what journal, MLflow's mirror and the dashboard's progress take of each step is measured on the training thread.
Prints tables and one JSON line last.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MICRO = (
    ("train.max_train_steps", "20"), ("train.lr_warmup_steps", "2"), ("train.save_steps", "10"),
    ("train.validation_steps", "10"), ("train.checkpointing_steps", "10"), ("train.validation_images", "8"),
    ("eval.num_images", "24"), ("eval.choice_images", "8"), ("eval.num_inference_steps", "4"),
)  # fmt: skip
LIMIT_SECONDS, LIMIT_STEP_SECONDS, LIMIT_STEP_SHARE = 3.0, 100e-6, 0.01

NIGHT = """
import json, sys, time
started = float(sys.argv[1])
from flows.operations.environment import prepare_prefect
prepare_prefect()
import flows.overnight
from shoes import night, recipes, stages
imported = time.time()
own, depth = {}, []

def timed(module, name, called):
    real = getattr(module, name)
    def call(*words, **named):
        if depth:
            return real(*words, **named)
        depth.append(name)
        before = time.perf_counter()
        try:
            return real(*words, **named)
        finally:
            depth.clear()
            own[called] = own.get(called, 0.0) + time.perf_counter() - before
    setattr(module, name, call)

for name in ("verify_environment", "fetch_model", "prepare_data", "announce", "train", "choose", "evaluate", "promote"):
    timed(stages, name, name)
timed(night, "report", "report")
recipe = recipes.load("demo", json.loads(sys.argv[2]))
runs = []
for _ in range(int(sys.argv[3])):
    own.clear()
    before = time.perf_counter()
    flows.overnight.overnight(recipe)
    wall = time.perf_counter() - before
    runs.append({"wall": wall, "own": dict(own), "overhead": wall - sum(own.values())})
print(json.dumps({"started": started, "imports": imported - started, "ready": time.time(), "runs": runs}))
"""

STEPS = """
import json, sys, time
from flows.operations.environment import prepare_prefect
prepare_prefect()
from prefect import flow, task
from shoes import recipes, stages
from shoes.tracking.journal import Journal
from shoes.training import loop
from tasks.links import flow_run_links
from tasks.live import live

recipe = recipes.load("demo", json.loads(sys.argv[1]))
written, told, steps = [], [], []
metrics, both, one_step = Journal.metrics, loop.both, loop._one_step

def timed(times, call):
    def run(*words, **named):
        before = time.perf_counter()
        try:
            return call(*words, **named)
        finally:
            times.append(time.perf_counter() - before)
    return run

def of_steps(self, event, step, values):
    is_step = event.startswith("train/") and event != "train/end"
    return (timed(written, metrics) if is_step else metrics)(self, event, step, values)

Journal.metrics = of_steps
loop.both = lambda first, second: timed(told, both(first, second))
loop._one_step = timed(steps, one_step)

@task
def train(models, data):
    with live("training", stages.place(recipe, models, data)) as report:
        stages.train(recipe, models, data, flow_run_links(), report)

@flow
def night():
    train(stages.fetch_model(recipe), stages.prepare_data(recipe))

night()
print(json.dumps({"written": written, "told": told, "steps": steps}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and steps")
    quick = parser.parse_args().quick
    repetitions, steps = (2, 20) if quick else (7, 120)
    with tempfile.TemporaryDirectory() as folder, prefect_server(Path(folder)) as (address, start_seconds):
        served = nights(Path(folder) / "served", address, repetitions)
        alone = nights(Path(folder) / "alone", None, repetitions)
        logging = logging_cost(Path(folder) / "steps", address, steps)
    figures = {
        "benchmark": "orchestration",
        "server_start_seconds": round(start_seconds, 2),
        "with_server": served,
        "without_server": alone,
        "logging": logging,
        "is_within_limits": {
            "overhead": max(served["done_seconds"], served["working_seconds"]) <= LIMIT_SECONDS,
            "logging": logging["mean_seconds"] <= LIMIT_STEP_SECONDS and logging["share"] < LIMIT_STEP_SHARE,
        },
    }
    show(figures)
    print(json.dumps(figures))


def nights(data: Path, address: str | None, repetitions: int) -> dict[str, Any]:
    """Overheads of the flow: of the night that works, of nights that find all done, and of a whole command."""
    first = child(NIGHT, data, address, str(time.time()), json.dumps(dict(MICRO)), "1")
    again = child(NIGHT, data, address, str(time.time()), json.dumps(dict(MICRO)), str(repetitions))
    single = [child(NIGHT, data, address, str(time.time()), json.dumps(dict(MICRO)), "1") for _ in range(2)]
    done = [run["overhead"] for run in again["runs"]]
    return {
        "working_seconds": round(first["runs"][0]["overhead"], 2),
        "own_work_seconds": round(sum(first["runs"][0]["own"].values()), 2),
        "done_seconds": round(statistics.median(done), 2),
        "all_done_seconds": [round(seconds, 2) for seconds in done],
        "per_task_seconds": round(statistics.median(done[1:] or done) / 9, 3),
        "import_seconds": round(statistics.median(run["imports"] for run in single), 2),
        "command_seconds": round(
            statistics.median(run["ended"] - run["started"] - sum(run["runs"][0]["own"].values()) for run in single), 2
        ),
    }


def logging_cost(data: Path, address: str, steps: int) -> dict[str, float]:
    """Seconds that records take of a step on the training thread."""
    changes = dict(MICRO) | {
        "train.max_train_steps": str(steps), "train.validation_steps": str(steps), "train.save_steps": str(steps),
        "train.checkpointing_steps": str(steps),
    }  # fmt: skip
    found = child(STEPS, data, address, json.dumps(changes))
    costs = [sum(pair) for pair in zip(found["written"], found["told"], strict=True)]
    step = statistics.median(found["steps"])
    return {
        "steps": len(costs),
        "mean_seconds": statistics.fmean(costs),
        "median_seconds": statistics.median(costs),
        "p95_seconds": sorted(costs)[int(0.95 * len(costs))],
        "journal_mean_seconds": statistics.fmean(found["written"]),
        "progress_mean_seconds": statistics.fmean(found["told"]),
        "step_seconds": step,
        "share": statistics.fmean(costs) / step,
    }


def child(program: str, data: Path, address: str | None, *words: str) -> dict[str, Any]:
    """What a program in a process of its own found, on a data folder, with a Prefect server or without."""
    data.mkdir(parents=True, exist_ok=True)
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SHOES_", "MLFLOW_"))}
    environment = keep | {"SHOES_DATA_DIR": str(data), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    environment |= {"PREFECT_API_URL": address} if address else {}
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, env=environment, cwd=data, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1]) | {"ended": time.time()}


@contextmanager
def prefect_server(folder: Path) -> Iterator[tuple[str, float]]:
    """A server of its own, on a free port: its API's address and the seconds until it answered."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1",
    }  # fmt: skip
    environment.pop("PREFECT_API_URL", None)
    words = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}/api"
    try:
        while not answers(f"{address}/health"):
            if process.poll() is not None or time.monotonic() - started > 120:
                raise SystemExit("the Prefect server did not start")
            time.sleep(0.1)
        yield address, time.monotonic() - started
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def show(figures: dict[str, Any]) -> None:
    rows = {
        "the flow, all of its work done for real": "working_seconds",
        "the flow, all done before": "done_seconds",
        "one of its nine tasks": "per_task_seconds",
        "importing Prefect and the flow": "import_seconds",
        "the whole command, all done before": "command_seconds",
    }
    print(f"{'seconds beside the stages own work':<42}{'with a server':>15}{'without':>10}")
    for text, name in rows.items():
        print(f"{text:<42}{figures['with_server'][name]:>15.2f}{figures['without_server'][name]:>10.2f}")
    cost = figures["logging"]
    micro = {name: f"{1e6 * cost[f'{name}_seconds']:.0f}" for name in ("mean", "median", "p95")}
    print(
        f"\na training step of {cost['step_seconds']:.3f} s: {micro['mean']} µs for journal and progress "
        f"(median {micro['median']}, 95th {micro['p95']}), {cost['share']:.3%} of it\n"
    )


if __name__ == "__main__":
    main()

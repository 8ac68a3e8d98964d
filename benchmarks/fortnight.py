"""A training over two weeks of nights: does it end with the bytes of one that nobody interrupted?

    python benchmarks/fortnight.py [--steps 3000] [--nights 14] [--work DIR] [--quick]

Each night is a process of its own that runs the flow `overnight` on a real Prefect server, from 22:00 to 07:00 in
Berlin; its clock is wound: each look at it, which a training takes once before each step, is some minutes after the
one before. One of the nights is that of 24 October 2026, in which the clock is put back and which has ten hours. At
07:00 the training stops, and the run in Prefect is completed under a name such as *Paused at 1,800 of 3,000 steps*.

The last night finishes the training and all that follows. Then the adapter, file by file, and every metric of journal
and MLflow must be those of a training in one piece, every step there once, in one MLflow run. Prints what each night
did, then one JSON line; exit code 1 where something is not as it must be.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.kills import Outcome, differences, make_data_set, new_data_folder, outcome_of

ZONE = "Europe/Berlin"
LAST_SUMMER_NIGHT = datetime(2026, 10, 24, 22, tzinfo=ZoneInfo(ZONE))
"""The clock is put back in it."""
LOOKS_BESIDE_STEPS = 4
"""More than a night looks at the clock for other reasons than a step."""
PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Plan:
    """How many steps over how many nights."""

    steps: int
    nights: int

    @property
    def starts(self) -> list[datetime]:
        """Starts of the nights; one of them is the longer one."""
        first = LAST_SUMMER_NIGHT - timedelta(days=self.nights // 2)
        return [first + timedelta(days=day) for day in range(self.nights)]

    @property
    def pace(self) -> float:
        """Seconds from one look at the clock to the next, so that the last night finishes."""
        seconds = (9 * self.nights + 1) * 3600
        return seconds / (self.steps + LOOKS_BESIDE_STEPS * self.nights)

    @property
    def recipe(self) -> dict[str, str]:
        """The demo's model, one photo a step, seldom saved and validated."""
        every = str(max(1, self.steps // 3))
        return {
            "data.dataset_dir": "data/small",
            "train.train_batch_size": "1",
            "train.gradient_accumulation_steps": "1",
            "train.eval_batch_size": "4",
            "train.max_train_steps": str(self.steps),
            "train.lr_warmup_steps": str(self.steps // 10),
            "train.save_steps": every,
            "train.validation_steps": every,
            "train.checkpointing_steps": every,
            "train.validation_images": "2",
            "train.validation_prompts": "a shoe",
            "train.early_stopping_patience": "none",
            "eval.num_images": "none",
            "eval.num_inference_steps": "2",
            "eval.num_resamples": "200",
            "window.starts": "22:00",
            "window.ends": "07:00",
            "window.timezone": ZONE,
        }


class WoundClock:
    """A clock that stands still until somebody looks at it."""

    def __init__(self, start: datetime, pace: float) -> None:
        self.shown, self.pace = start, pace

    def now(self, timezone: str | None = None) -> datetime:
        from shoes import clock

        self.shown = clock.later(self.shown, self.pace)
        return self.shown.astimezone(ZoneInfo(timezone)) if timezone else self.shown


def no_forecast(*_: object) -> None:
    """In the place of one: it would be measured by another clock."""


def sleepless(start: datetime, plan: Plan) -> None:
    """One night, in this process: the flow, with a clock that is wound."""
    from flows.operations.environment import prepare_prefect
    from shoes import clock, recipes, stages

    clock.now = WoundClock(start, plan.pace).now
    stages.announce = no_forecast
    prepare_prefect()
    from flows.overnight import overnight

    overnight(recipes.load("demo", plan.recipe))


@dataclass(frozen=True)
class NightRun:
    """What Prefect shows of one night."""

    state: str
    kind: str
    message: str


def one_night(start: datetime, plan: Plan, environment: Mapping[str, str]) -> NightRun:
    """A night in a process of its own."""
    words = ["--night", start.isoformat(), "--steps", str(plan.steps), "--nights", str(plan.nights)]
    call([sys.executable, __file__, *words], environment)
    return last_run(environment["PREFECT_API_URL"])


def call(command: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, env=dict(environment), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with code {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def last_run(api: str) -> NightRun:
    import httpx

    wanted = {"flows": {"name": {"any_": ["overnight"]}}, "sort": "START_TIME_DESC", "limit": 1}
    run = httpx.post(f"{api}/flow_runs/filter", json=wanted, timeout=30).json()[0]
    return NightRun(run["state"]["name"], run["state"]["type"], run["state"]["message"] or "")


@contextmanager
def prefect_server(home: Path) -> Iterator[str]:
    """A Prefect server on this machine while the block runs; the address of its API."""
    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home.mkdir(parents=True)
    environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            api, deadline = f"http://127.0.0.1:{port}/api", time.monotonic() + 120
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    if httpx.get(f"{api}/health").is_success:
                        break
                except httpx.HTTPError:
                    time.sleep(0.3)
            yield api
        finally:
            process.terminate()
            process.wait(30)


def straight(plan: Plan, environment: Mapping[str, str]) -> Outcome:
    """The training in one piece."""
    flags = [w for name, value in plan.recipe.items() if not name.startswith("window") for w in (f"--{name}", value)]
    call([sys.executable, "-m", "flows", "train", *flags], environment)
    return outcome_of(Path(environment["SHOES_DATA_DIR"]))


def steps_of(folder: Path) -> list[int]:
    """Where each night stopped, by the journal's count of the tries."""
    from benchmarks.kills import read_journal

    return [event["step"] for event in read_journal(folder) if event["id"].startswith("session/")][1:]


def faults(plan: Plan, runs: list[NightRun], stops: list[int], found: Outcome, expected: Outcome) -> list[str]:
    """What is not as it must be."""
    wrong = differences(comparable(found), comparable(expected))
    if found.states != ("FINISHED",):
        wrong.append(f"MLflow has the runs {found.states}, and should have one that is finished")
    for place, points in (("journal", found.journal), ("MLflow", found.mlflow)):
        if sorted(step for name, step, _ in points if name == "train/loss") != list(range(1, plan.steps + 1)):
            wrong.append(f"not every step stands once in {place}")
    names = [f"Paused at {stop:,} of {plan.steps:,} steps" for stop in stops] + ["Completed"]
    if [run.state for run in runs] != names or {run.kind for run in runs} != {"COMPLETED"}:
        wrong.append(f"Prefect shows {[run.state for run in runs]} instead of {names}")
    return wrong


def comparable(outcome: Outcome) -> Outcome:
    """Without what only a whole night does, and what says of a training how often it was taken up."""
    from dataclasses import replace

    return replace(outcome, states=())


def run(work: Path, plan: Plan) -> dict[str, Any]:
    """The whole bench in a folder; its figures."""
    started = time.monotonic()
    data_set = make_data_set(work / "small")
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    shared["SHOES_LOCK_DIR"] = str(work / "locks")  # whoever waits for the device looks at the clock
    pieces, whole = (new_data_folder(work / name, data_set) for name in ("pieces", "whole"))
    expected = straight(plan, {**shared, "SHOES_DATA_DIR": str(whole)})
    straight_minutes = (time.monotonic() - started) / 60
    runs = []
    with prefect_server(work / "prefect") as api:
        for start in plan.starts:
            runs.append(one_night(start, plan, {**shared, "SHOES_DATA_DIR": str(pieces), "PREFECT_API_URL": api}))
            print(f"{start:%a %d %b}  {runs[-1].state}", flush=True)
    found, stops = outcome_of(pieces), steps_of(pieces)
    wrong = faults(plan, runs, stops, found, expected)
    each = [b - a for a, b in zip([0, *stops], [*stops, plan.steps], strict=True)]
    return {
        "benchmark": "fortnight",
        "steps": plan.steps,
        "nights": plan.nights,
        "steps_of_each_night": each,
        "steps_of_the_night_that_is_an_hour_longer": each[plan.starts.index(LAST_SUMMER_NIGHT)],
        "states": [run.state for run in runs],
        "mlflow_runs": len(found.states),
        "same_adapter": found.adapter == expected.adapter,
        "adapter_sha256": found.adapter.get("pytorch_lora_weights.safetensors"),
        "faults": wrong,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "minutes_in_one_piece": round(straight_minutes, 1),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--nights", type=int, default=14)
    parser.add_argument("--work", type=Path, help="an empty or new folder; without it a temporary one")
    parser.add_argument("--quick", action="store_true", help="30 steps in 3 nights")
    parser.add_argument("--night", type=datetime.fromisoformat, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.steps, options.nights = 30, 3
    return options


def main() -> None:
    options = arguments()
    plan = Plan(options.steps, options.nights)
    if options.night:
        sleepless(options.night.astimezone(ZoneInfo(ZONE)), plan)
        return
    work = options.work or Path(tempfile.mkdtemp(prefix="shoes-fortnight-"))
    work.mkdir(parents=True, exist_ok=True)
    figures = run(work.absolute(), plan)
    print(json.dumps(figures))
    if figures["faults"]:
        sys.exit(1)
    if options.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()

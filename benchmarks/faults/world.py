"""A data folder of its own, and programs that work in it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults.verdict import EVERY, events_in
from benchmarks.kills import RECIPE, Outcome, make_data_set, new_data_folder, outcome_of

STEPS = 60
FLAGS = RECIPE | {
    "train.max_train_steps": str(STEPS),
    "train.checkpointing_steps": str(EVERY),
    "train.save_steps": "20",
    "train.validation_steps": "20",
    "train.gradient_accumulation_steps": "1",
}
PATIENCE_SECONDS = 300.0
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class World:
    """Where the rows run."""

    work: Path
    programs: "list[subprocess.Popen[str]]" = field(default_factory=list)

    @property
    def data_set(self) -> Path:
        target = self.work / "small"
        return target if target.is_dir() else make_data_set(target)

    def folder(self, name: str) -> Path:
        """A new data folder that has the data set."""
        return new_data_folder(self.work / name / "data", self.data_set)

    @property
    def expected(self) -> Outcome:
        """The training that meets nothing; run once for all rows."""
        folder = self.work / "straight" / "data"
        if not folder.is_dir():
            finish(self.train(new_data_folder(folder, self.data_set)))
        return outcome_of(folder)

    def train(
        self,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        before: str = "",
        prefix: Sequence[str] = (),
        **flags: str,
    ) -> "subprocess.Popen[str]":
        """`shoes train` as a person starts it.

        Args:
            before: Python that runs in the process first.
            prefix: words of a program that starts it.
            flags: fields of the recipe, with __ in the place of the dot.
        """
        given = FLAGS | {name.replace("__", "."): value for name, value in flags.items()}
        words = [word for name, value in given.items() for word in (f"--{name}", value)]
        log = (folder.parent / "train.log").open("ab")
        process = subprocess.Popen(
            [*prefix, sys.executable, "-c", f"{before}\nfrom flows.cli import main; main()", "train", "--json", *words],
            cwd=ROOT,
            env=environment_of(folder, environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        log.close()
        self.programs.append(process)
        return process

    def close(self) -> None:
        for process in self.programs:
            if process.poll() is None:
                process.kill()
            process.wait()


def environment_of(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Nothing of the person who runs the bench, and one thread."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("SHOES_", "PREFECT_", "MLFLOW_"))}
    return kept | {
        "SHOES_DATA_DIR": str(folder),
        "SHOES_LOCK_DIR": str(folder.parent / "locks"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
        **(more or {}),
    }


def finish(process: "subprocess.Popen[str]", code: int = 0) -> str:
    """Wait for the end; what it printed."""
    out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == code, f"it ended with {process.returncode} in the place of {code}: {out[-2000:]}"
    return out


def step_of(folder: Path) -> int:
    """The newest step in the journal."""
    return max((event["step"] for event in events_in(folder) if "train/loss" in event.get("values", {})), default=0)


def until(what: Callable[[], Any], process: "subprocess.Popen[str] | None" = None) -> Any:
    """Wait for something that a process does; what it gave."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen"
        assert process is None or process.poll() is None, f"the program ended with {process.poll()} before it happened"
        time.sleep(0.005)
    return found


def reach(folder: Path, step: int, process: "subprocess.Popen[str] | None" = None) -> None:
    until(lambda: step_of(folder) >= step, process)


def said(folder: Path) -> str:
    """What the trainings in a folder told people."""
    with suppress(FileNotFoundError):
        return (folder.parent / "train.log").read_text()
    return ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path, port: int) -> "Iterator[subprocess.Popen[str]]":
    """MLflow behind its server, over the same file that a training without one would write to."""
    (folder / "mlruns").mkdir(exist_ok=True)
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlruns/mlflow.db'}"),
        *("--artifacts-destination", str(folder / "mlruns/artifacts")),
    ]
    own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder.parent / "mlflow.log").open("ab") as log:
        process = subprocess.Popen(
            command, env=environment_of(folder, own), stdout=log, stderr=log, text=True, start_new_session=True
        )
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/health"), process)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def answers(address: str) -> bool:
    import httpx2 as httpx

    try:
        return httpx.get(address, timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False

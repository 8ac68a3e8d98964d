"""A real `shoes up` for tests: started in a folder of its own, on free ports, and surely gone afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil

from tests import asking, world
from tests.world import free_port


class LiveUp:
    """`with LiveUp(folder) as up:` all runs inside; `up.ready` is what it said."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.data = folder / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self.ready: dict[str, Any] = {}
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("SHOES_", "PREFECT_", "MLFLOW_"))
            },
            "SHOES_DATA_DIR": str(self.data),
            "SHOES_LOCK_DIR": str(folder / "locks"),
            "SHOES_PREFECT_PORT": str(free_port()),
            "SHOES_MLFLOW_PORT": str(free_port()),
            "PYTHONPATH": str(world.ROOT),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            **(environment or {}),
        }
        self.log = folder / "up.log"

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("up", "--json"),
                cwd=world.ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.ready = json.loads(self._first_object())
        return self

    def _first_object(self) -> str:
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if line == "}\n":
                return "".join(lines)
        raise AssertionError(f"`shoes up` ended with {self.process.wait()}:\n{self.log.read_text()}")

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(100)
        self.power_cut()

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "flows", *words]

    def shoes(self, *words: str, seconds: float = 200) -> "subprocess.CompletedProcess[str]":
        """Another `shoes` command of the same person."""
        return subprocess.run(
            self.command(*words),
            cwd=world.ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def leftovers(self) -> list[psutil.Process]:
        """All processes that know of this data folder, but not this one."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                given = process.environ().get("SHOES_DATA_DIR")
                is_dead = process.status() == psutil.STATUS_ZOMBIE
                if given == str(self.data) and process.pid != os.getpid() and not is_dead:
                    found.append(process)
        return found

    def power_cut(self) -> None:
        """Kill all of it at once."""
        while found := self.leftovers():
            for process in found:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(found, timeout=10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process.wait()

    def record(self) -> dict[str, Any]:
        return json.loads((self.data / "servers" / "running.json").read_text())

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return asking.post(f"{self.ready['prefect_api']}/{path}", dict(body))

    def get(self, path: str) -> Any:
        return asking.get(f"{self.ready['prefect_api']}/{path}")

    def until(self, what: Callable[[], object], seconds: float = 120) -> Any:
        """Wait for it; what it gave."""
        end = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < end, f"it did not happen; `shoes up` said:\n{self.log.read_text()[-3000:]}"
            time.sleep(0.5)
        return found

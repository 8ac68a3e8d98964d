"""How long `shoes up` takes until everything runs, and what it leaves behind.

    python benchmarks/start_up.py [--quick]

It is started with `--json` on an empty data folder, which is a first start, and on one that it has been started on
before, which is every other one; each time Ctrl-C stops it, and what still runs or listens then is looked for. Prints
a table and one JSON line last.
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
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks.faults.world import ROOT, free_port

LIMIT_SECONDS = 20.0
SECONDS_TO_STOP = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one start of each kind")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background job, here and below
    rounds = 1 if parser.parse_args().quick else 3
    first, later = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            first.append(one_start(Path(folder) / str(number)))
            later.append(one_start(Path(folder) / str(number)))
    figures = {"benchmark": "start_up", "first": summary(first), "later": summary(later)}
    show(figures)
    print(json.dumps(figures | {"is_within_limits": is_within_limits(figures)}))


def one_start(data: Path) -> dict[str, Any]:
    """Seconds until `shoes up` is ready and until it has stopped, and what it left."""
    ports = [free_port(), free_port()]
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SHOES_", "MLFLOW_"))}
    chosen = {"SHOES_PREFECT_PORT": str(ports[0]), "SHOES_MLFLOW_PORT": str(ports[1])}
    own = {"SHOES_DATA_DIR": str(data), "SHOES_LOCK_DIR": str(data / "locks")}
    began = time.monotonic()
    up = subprocess.Popen(
        [sys.executable, "-m", "flows", "up", "--json"],
        env=keep | chosen | own,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert up.stdout is not None
    if not up.stdout.readline():
        raise SystemExit(f"`shoes up` ended before it was ready (exit code {up.wait()}); its logs: {data / 'logs'}")
    ready = time.monotonic() - began
    children = psutil.Process(up.pid).children(recursive=True)
    asked = time.monotonic()
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=SECONDS_TO_STOP)
    stopped = time.monotonic() - asked
    left = [process.pid for process in children if process.is_running()]
    return {"ready": ready, "stopped": stopped, "left": len(left) + sum(is_listened_on(port) for port in ports)}


def summary(starts: list[dict[str, Any]]) -> dict[str, Any]:
    ready = [start["ready"] for start in starts]
    return {
        "ready_seconds": round(statistics.median(ready), 1),
        "all_ready_seconds": [round(seconds, 1) for seconds in ready],
        "stop_seconds": round(statistics.median(start["stopped"] for start in starts), 1),
        "left_behind": sum(start["left"] for start in starts),
    }


def is_within_limits(figures: dict[str, Any]) -> bool:
    found = [figures["first"], figures["later"]]
    return all(part["ready_seconds"] <= LIMIT_SECONDS and part["left_behind"] == 0 for part in found)


def show(figures: dict[str, Any]) -> None:
    print(f"{'':28}{'ready':>8}{'stopped':>10}   left behind")
    for name, words in (("first", "on an empty data folder"), ("later", "on one that it knows")):
        part = figures[name]
        print(f"{words:28}{part['ready_seconds']:>6} s{part['stop_seconds']:>8} s   {part['left_behind']}")


def is_listened_on(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()

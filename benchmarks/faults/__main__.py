"""The fault matrix's command: rows by their names, each ended by one line of JSON."""

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.faults import clocks, contention, disks, processes, stores
from benchmarks.faults.verdict import Verdict
from benchmarks.faults.world import World

Row = Callable[[World, Verdict], Verdict]
ROWS: Mapping[str, Row] = {
    "training-killed": processes.training_killed,
    "worker-killed": processes.worker_killed,
    "prefect-killed": processes.prefect_killed,
    "mlflow-killed": processes.mlflow_killed,
    "everything-killed": processes.everything_killed,
    "mlflow-stopped": processes.mlflow_stopped,
    "sqlite-locked": stores.sqlite_locked,
    "sqlite-read-only": stores.sqlite_read_only,
    "disk-full-data": disks.data_full,
    "disk-full-checkpoints": disks.checkpoints_full,
    "disk-full-artifacts": disks.artifacts_full,
    "clock-jumps": clocks.clock_jumps,
    "daylight-saving": clocks.daylight_saving,
    "port-taken": contention.port_taken,
    "two-schedulers": contention.two_schedulers,
}


def run(name: str, world: World) -> Verdict:
    """One row; what goes wrong with it is its fault, too."""
    started, verdict = time.monotonic(), Verdict(name)
    try:
        ROWS[name](world, verdict)
    except Exception as error:  # noqa: BLE001 - whatever a row meets is its fault, and the others are to run
        traceback.print_exc()
        verdict.faults.append(f"{type(error).__name__}: {error}"[:2000])
    verdict.seconds = round(time.monotonic() - started, 1)
    print(verdict.line(), flush=True)
    return verdict


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="names of rows, or all")
    parser.add_argument("--work", type=Path, help="an empty or new folder; without it a temporary one")
    parser.add_argument("--list", action="store_true", help="print the rows and what they do")
    options = parser.parse_args()
    unknown = [name for name in options.rows if name not in (*ROWS, "all")]
    if unknown or not (options.rows or options.list):
        parser.error(f"name rows out of {', '.join(ROWS)}, or all" + (f"; not {', '.join(unknown)}" if unknown else ""))
    return options


def main() -> None:
    options = arguments()
    if options.list:
        for name, row in ROWS.items():
            print(f"{name:<22} {(row.__doc__ or '').partition(chr(10))[0]}")
        return
    names = list(ROWS) if "all" in options.rows else options.rows
    work = (options.work or Path(tempfile.mkdtemp(prefix="shoes-faults-"))).absolute()
    work.mkdir(parents=True, exist_ok=True)
    world = World(work)
    try:
        verdicts = [run(name, world) for name in names]
    finally:
        world.close()
    wrong = [verdict.row for verdict in verdicts if not verdict.ok]
    if len(names) > 1:
        print(json.dumps({"benchmark": "faults", "ok": not wrong, "rows": len(names), "wrong": wrong}))
    if wrong:
        sys.exit(1)
    if options.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()

"""Is the forecast right? Forecast the demo, run it, compare; five times, each in a data folder of its own.

    python benchmarks/forecast_accuracy.py [--runs 5] [--recipe demo] [--quick]

Two forecasts are compared with each run: the one asked for by `shoes forecast` before it, in another process, and
the one that the run makes for itself. Errors are predicted over actual, minus 1. Prints all runs, then one JSON line.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

QUICK = ["--train.max_train_steps", "40", "--train.save_steps", "20", "--train.validation_steps", "20"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--quick", action="store_true", help="one run of 40 steps")
    options = parser.parse_args()
    flags = ["--recipe", options.recipe, *(QUICK if options.quick else [])]
    rows = []
    for number in range(1 if options.quick else options.runs):
        rows.append(one_run(flags))
        print(line(number + 1, rows[-1]), flush=True)
    print(json.dumps(figures(options.recipe, rows)))


def one_run(flags: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="shoes-bench-") as folder:
        before = shoes(Path(folder), "forecast", *flags)
        night = shoes(Path(folder), "run", *flags)
    train, own = night["train"], night["forecast"]
    return {
        "seconds": train["seconds"],
        "peak_bytes": train["peak_memory_bytes"],
        "time_error": before["training_seconds"] / train["seconds"] - 1,
        "memory_error": before["peak_memory_bytes"] / train["peak_memory_bytes"] - 1,
        "own_time_error": own["predicted_seconds"] / own["actual_seconds"] - 1,
        "own_memory_error": own["predicted_peak_bytes"] / own["actual_peak_bytes"] - 1,
    }


def shoes(folder: Path, *words: str) -> dict[str, Any]:
    """One command in a process of its own; what it prints as JSON."""
    command = [str(Path(sys.executable).with_name("shoes")), *words, "--json"]
    done = subprocess.run(
        command, env={**os.environ, "SHOES_DATA_DIR": str(folder)}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with code {done.returncode}:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def line(number: int, row: dict[str, float]) -> str:
    return (
        f"run {number}: training {row['seconds']:.1f} s, peak {row['peak_bytes'] / 1024**2:.0f} MB; "
        f"`shoes forecast` off by {row['time_error']:+.1%} in time and {row['memory_error']:+.1%} in memory, "
        f"the run's own by {row['own_time_error']:+.1%} and {row['own_memory_error']:+.1%}"
    )


def figures(recipe: str, rows: list[dict[str, float]]) -> dict[str, object]:
    errors = [name for name in rows[0] if name.endswith("_error")]
    medians = {f"median_abs_{name}": round(statistics.median(abs(row[name]) for row in rows), 4) for name in errors}
    every = {name: [round(row[name], 4) for row in rows] for name in errors}
    return {"benchmark": "forecast_accuracy", "recipe": recipe, "runs": len(rows), **medians, **every}


if __name__ == "__main__":
    main()

"""`shoes check` in fresh processes: the time of each check, and of the whole command.

    python benchmarks/check_speed.py [--quick] [--recipe NAME]

The command's time holds what Python and the imports take before the first check. Checks run in two lanes at once,
so their times add up to more than the whole. Prints a table and one JSON line last.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_SECONDS = 15.0
PROGRAM = """
import sys, json
from shoes import environment, recipes
from shoes.settings import load_settings
report = environment.verify(recipes.load(sys.argv[1]), load_settings())
print(json.dumps({"ready": report.ready, "checks": {check.name: check.seconds for check in report.checks}}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one run instead of three")
    parser.add_argument("--recipe", default="demo")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"SHOES_DATA_DIR": str(Path(folder) / "data")}
        runs = 1 if options.quick else 3
        totals = [command_seconds(options.recipe, environment) for _ in range(runs)]
        reports = [one_report(options.recipe, environment) for _ in range(runs)]
    checks = {name: statistics.median(report["checks"][name] for report in reports) for name in reports[0]["checks"]}
    total = statistics.median(totals)
    for name, seconds in sorted(checks.items(), key=lambda item: -item[1]):
        print(f"{name:<30} {seconds:7.3f} s")
    print(f"{'the whole command':<30} {total:7.3f} s, of {LIMIT_SECONDS:.0f}")
    figures = {
        "benchmark": "check_speed",
        "recipe": options.recipe,
        "ready": all(report["ready"] for report in reports),
        "runs": runs,
        "seconds": round(total, 2),
        "all_seconds": [round(seconds, 2) for seconds in totals],
        "is_within_limit": total <= LIMIT_SECONDS,
        "checks": {name: round(seconds, 3) for name, seconds in checks.items()},
    }
    print(json.dumps(figures))


def command_seconds(recipe: str, environment: dict[str, str]) -> float:
    """The command as a person starts it."""
    started = time.monotonic()
    command = [sys.executable, "-c", "from flows.cli import main; main()", "check", "--recipe", recipe, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    json.loads(done.stdout)
    return time.monotonic() - started


def one_report(recipe: str, environment: dict[str, str]) -> dict[str, dict[str, float]]:
    command = [sys.executable, "-c", PROGRAM, recipe]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()

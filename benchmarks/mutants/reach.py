"""Which tests run which line of the code, in processes of their own too, and how long each test takes.

The test that starts a process is named in the variable PYTEST_CURRENT_TEST, which that process inherits: coverage.py
notes its lines under it. Two kinds of tests are missed: those that start a process with an environment made anew, and
those that use what a fixture made for an earlier one. So all tests are asked where no test that runs a line finds it.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .catalogue import ROOT, Mutation
from .contexts import SECONDS

FOLDER = ROOT / "build/mutants"
SUITE = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder", "-m", "not slow")
"""How the Makefile runs the tests."""
_SETTINGS = """[run]
parallel = true
data_file = {folder}/coverage
source_pkgs = shoes,tasks,flows
context = ${{PYTEST_CURRENT_TEST-}}
concurrency = thread
disable_warnings = module-not-imported,no-data-collected,module-not-measured
"""
_PHASE = re.compile(r" \((setup|call|teardown)\)$")


def environment(**others: str) -> dict[str, str]:
    """Of a run of tests: one thread each, and no settings of the person."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "benchmarks"), **others}


@dataclass(frozen=True)
class Reach:
    """What a run of the tests has shown."""

    folder: Path

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Of each test that passed."""
        found: dict[str, float] = json.loads((self.folder / "seconds.json").read_text(encoding="utf-8"))
        return found

    def tests(self, mutation: Mutation) -> list[str]:
        """Tests that run one of the lines which a mutation replaces, the quickest first.

        A line outside of functions is run by whoever imports the module first, and matters to all that run any of it.
        """
        from coverage import CoverageData

        data = CoverageData(basename=str(self.folder / "coverage"))
        data.read()
        by_line = data.contexts_by_lineno(str(ROOT / mutation.file))
        lines = mutation.lines if in_functions(mutation) else by_line
        found = {_PHASE.sub("", context) for line in lines for context in by_line.get(line, ())}
        return sorted((test for test in found if test in self.seconds), key=lambda test: (self.seconds[test], test))

    def line_shares(self) -> dict[str, float]:
        """Share of the lines that run, by package; and of all."""
        import coverage

        found = coverage.Coverage(config_file=str(self.folder / "coveragerc"))
        found.load()
        counts: dict[str, list[int]] = {}
        for package in ("shoes", "tasks", "flows"):
            for file in sorted((ROOT / package).rglob("[!.]*.py")):
                _, lines, _, missing, _ = found.analysis2(str(file))
                for name in (package, "all"):
                    total = counts.setdefault(name, [0, 0])
                    total[0] += len(lines) - len(missing)
                    total[1] += len(lines)
        return {name: run / of for name, (run, of) in counts.items()}


def in_functions(mutation: Mutation) -> bool:
    """All lines that a mutation replaces run when a function is called, and not when its module is imported."""
    module = ast.parse((ROOT / mutation.file).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {line for node in functions for line in range(node.body[0].lineno, (node.end_lineno or 0) + 1)}
    return inside.issuperset(mutation.lines)


def measure(tests: Sequence[str] = (), folder: Path = FOLDER) -> Reach:
    """Run the suite, or some of its tests, and note what each runs. A test that fails will not be asked.

    Raises:
        SystemExit: pytest did not get to its end.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = folder / "coveragerc"
    settings.write_text(_SETTINGS.format(folder=folder), encoding="utf-8")
    started = environment(COVERAGE_PROCESS_START=str(settings), **{SECONDS: str(folder / "seconds.json")})
    command = [sys.executable, "-m", "pytest", "-p", "mutants.contexts", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *(tests or SUITE)], cwd=ROOT, env=started, check=False)
    if done.returncode not in (0, 1):  # 1: tests have failed
        raise SystemExit(f"the tests were not run to their end: exit code {done.returncode}")
    combine = [sys.executable, "-m", "coverage", "combine", "--quiet", f"--rcfile={settings}"]
    subprocess.run(combine, cwd=folder, check=True)
    return Reach(folder)


def kept(folder: Path = FOLDER) -> Reach | None:
    """What an earlier run has shown, if there was one."""
    return Reach(folder) if (folder / "coverage").is_file() else None

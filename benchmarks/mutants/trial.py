"""A mutation in the code, and the tests that may find it: first those that run its lines, in the end all."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from .catalogue import ROOT, Mutation
from .reach import SUITE, Reach, environment

FIRST = 40
"""Tests that are asked first, the quickest."""
SECONDS_A_TEST, SECONDS_A_RUN = 300, 3600
Round = Literal["found it before", "quickest", "all that run it", "whole suite", "none"]
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$", re.MULTILINE)
"""A test's name, which may hold spaces."""
_PYTEST = ("-x", "-q", "-rfE", "--tb=no", "--no-header", "-p", "no:cacheprovider", f"--timeout={SECONDS_A_TEST}")


@dataclass(frozen=True)
class Finding:
    """What became of one mutation."""

    mutation: str
    kind: str
    caught_by: str
    """The test that failed first; empty: none did."""
    round: Round
    """Which tests were asked when it was found."""
    num_reached: int
    """Tests that run its lines."""
    seconds: float


def find(mutation: Mutation, reach: Reach | None, *, first: str = "", whole_suite: bool) -> Finding:
    """Put the mutation in, ask tests until one fails, and take it out again.

    A test that fails without the mutation as well has found nothing, and the next ones are asked.

    Args:
        reach: None where it was not measured: no test is known to run the mutation's lines.
        first: the test that is asked before all others.
        whole_suite: asked in the end, where no other test has found it.
    """
    started, reached = time.monotonic(), reach.tests(mutation) if reach else []
    for name, words in _rounds(reached, first=first, whole_suite=whole_suite):
        with planted(mutation):
            failed = _first_failure(words)
        if failed and not _first_failure([failed]):
            return Finding(mutation.name, mutation.kind, failed, name, len(reached), time.monotonic() - started)
    return Finding(mutation.name, mutation.kind, "", "none", len(reached), time.monotonic() - started)


def _rounds(reached: Sequence[str], *, first: str, whole_suite: bool) -> Iterator[tuple[Round, Sequence[str]]]:
    if first:
        yield "found it before", [first]
    if reached:
        yield "quickest", reached[:FIRST]
    if len(reached) > FIRST:
        yield "all that run it", ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", *reached[FIRST:])
    if whole_suite:
        yield "whole suite", SUITE


@contextmanager
def planted(mutation: Mutation) -> Iterator[None]:
    """The project's own file has the fault inside the block: a copy's tests would start the original's programs.

    Raises:
        SystemExit: the file has changes that are not committed, which an accident could cost.
    """
    file = ROOT / mutation.file
    if has_changes(mutation.file):
        raise SystemExit(f"{mutation.file} has changes: commit them, or undo them with `git checkout {mutation.file}`")
    former, times = file.read_bytes(), file.stat()
    try:
        file.write_text(mutation.applied(former.decode()), encoding="utf-8")
        yield
    finally:
        file.write_bytes(former)
        # a time of its own: Python takes compiled code by the second in which its source was written
        os.utime(file, (times.st_atime, times.st_mtime))


def has_changes(file: str) -> bool:
    """A file of the project is not as it was committed."""
    return subprocess.run(["git", "diff", "--quiet", "HEAD", "--", file], cwd=ROOT, check=False).returncode != 0


def _first_failure(words: Sequence[str]) -> str:
    """The first test that fails; empty where all pass."""
    command = [sys.executable, "-m", "pytest", *_PYTEST, *words]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=SECONDS_A_RUN
        )
    except subprocess.TimeoutExpired:
        return "a run of tests that does not end"
    if done.returncode in (0, 5):
        return ""
    return failed_in(done.stdout) or f"pytest itself, exit code {done.returncode}"


def failed_in(said: str) -> str:
    """The first test that pytest's summary names; empty where it names none."""
    found = _FAILED.search(said)
    return found[1] if found else ""

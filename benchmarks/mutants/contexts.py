"""pytest's side of `reach`: `-p mutants.contexts` says which test runs now, and how long each took."""

import json
import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import coverage
import pytest

SECONDS = "MUTANTS_SECONDS"
"""Variable that names the file for the seconds of each test."""
_seconds: Counter[str] = Counter()
_failed: set[str] = set()
"""Tests that find a fault where none was put: they say nothing."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """What runs from now on, fixtures included, is run by this test."""
    if (measured := coverage.Coverage.current()) is not None:
        measured.switch_context(item.nodeid)
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Set-up, call and teardown."""
    _seconds[report.nodeid] += report.duration  # type: ignore[assignment]
    if report.failed:
        _failed.add(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Only the process that hears of all tests writes them down."""
    if not hasattr(session.config, "workerinput"):
        passed = {test: seconds for test, seconds in _seconds.items() if test not in _failed}
        Path(os.environ[SECONDS]).write_text(json.dumps(passed), encoding="utf-8")

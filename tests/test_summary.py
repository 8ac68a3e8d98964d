"""A skip that nobody expects fails the run; what is expected is told."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import world
from tests.summary import read_expected

TESTS = """
import pytest


@pytest.mark.skip(reason="the machine has no {what}")
def test_skipped(): ...


def test_passed(): ...
"""


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(("what", "code", "told"), [("disk", 0, "(expected)"), ("browser", 1, "(NOT EXPECTED)")])
def test_a_skip_for_another_reason_fails_the_run(tmp_path: Path, workers: str, what: str, code: int, told: str) -> None:
    (tmp_path / "test_inside.py").write_text(TESTS.format(what=what))
    (tmp_path / "expected").write_text("no disk   # it can't be had\n\n# another\n")
    words = [sys.executable, "-m", "pytest", str(tmp_path / "test_inside.py"), "-p", "tests.summary", "-c", "/dev/null"]
    words += [f"--expected-skips={tmp_path / 'expected'}", "-n", workers, "-p", "no:cacheprovider"]
    done = subprocess.run(words, cwd=world.PROJECT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    assert f"the machine has no {what} {told}: " in done.stdout
    assert "where the time went" in done.stdout


def test_what_ci_expects_can_be_read() -> None:
    assert all(read_expected(world.PROJECT / ".ci/expected-skips"))

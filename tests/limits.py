"""Disks that are full, for tests: each runs a function of a test module in a process of its own.

The function gets a folder, and fails by an assert. A small disk is mounted in a mount namespace that ends with the
process, so that nothing can stay mounted.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests import world

Body = Callable[[Path], None]


def on_small_disk(body: Body, folder: Path, *, kilobytes: int) -> None:
    """Run `body` with an empty file system of that size mounted at `folder`; skips where nobody may mount one."""
    mounting = f"mount -t tmpfs -o size={kilobytes}k tmpfs {folder} && exec "
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c"]
    attempt = [*unshare, mounting + "true"]
    if not shutil.which("unshare") or subprocess.run(attempt, check=False, capture_output=True).returncode:
        pytest.skip("a small disk can't be mounted here")
    _run([*unshare, mounting + '"$0" "$@"', *_call(body, folder)])


def with_small_files(body: Body, folder: Path, *, num_bytes: int) -> None:
    """Run `body` in a process whose files may not grow beyond a size."""
    _run(_call(body, folder, f"resource.setrlimit(resource.RLIMIT_FSIZE, ({num_bytes}, {num_bytes})); "))


def fill(folder: Path, *, spare: int = 0) -> Path:
    """Fill a small disk up with one file, but for some bytes."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        while (free := shutil.disk_usage(folder).free - spare) > 0:
            file.write(bytes(min(free, 2**20)))
    return filler


def _call(body: Body, folder: Path, before: str = "") -> list[str]:
    lines = f"import resource, pathlib, {body.__module__} as module; {before}"
    return [sys.executable, "-c", f"{lines}module.{body.__name__}(pathlib.Path({str(folder)!r}))"]


def _run(command: Sequence[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(world.ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, check=False, cwd=world.ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr

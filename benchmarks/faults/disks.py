"""Full disks: small file systems in a mount namespace of their own, which ends with the process that holds it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults.verdict import Verdict, judge
from benchmarks.faults.world import STEPS, World, finish, reach, said, until
from tests.limits import fill

FULL_AT = 15
MEGABYTES = 200
GUARD = "waiting up to"
"""What the training says when it waits for room."""


def data_full(world: World, verdict: Verdict) -> Verdict:
    """The whole data folder's disk."""
    folder = world.folder(verdict.row)
    return _full(world, verdict, folder, folder)


def checkpoints_full(world: World, verdict: Verdict) -> Verdict:
    """The disk of the checkpoints alone: the training's own look at the disk does not see it."""
    folder, expected = world.folder(verdict.row), world.expected
    del expected  # run, so that the run's name is known
    name = next((world.work / "straight/data/runs").iterdir()).name
    return _full(world, verdict, folder, folder / "runs" / name / "checkpoints")


def artifacts_full(world: World, verdict: Verdict) -> Verdict:
    """The disk of MLflow's artifacts alone: MLflow is behind until there is room again."""
    folder = world.folder(verdict.row)
    return _full(world, verdict, folder, folder / "mlruns" / "artifacts", goes_on=True)


def _full(world: World, verdict: Verdict, folder: Path, place: Path, *, goes_on: bool = False) -> Verdict:
    expected = world.expected
    if not _can_mount():
        verdict.skipped = "a small disk can't be mounted here: it takes root, or user namespaces"
        return verdict
    place.mkdir(parents=True, exist_ok=True)
    with _mounted(place) as holder:
        inside = Path(f"/proc/{holder}/root")
        data, disk = inside / folder.relative_to("/"), inside / place.relative_to("/")
        if not (data / "small").exists():
            (data / "small").symlink_to(world.data_set)
        process = world.train(folder, prefix=_enter(holder))
        reach(data, FULL_AT, process)
        filler = fill(disk)
        if goes_on:
            reach(data, STEPS)
        else:
            until(lambda: GUARD in said(folder) or process.poll() is not None)
        verdict.notes.append("the training waited for room" if process.poll() is None else "the training ended")
        filler.unlink()
        process.communicate()
        if process.returncode:
            verdict.notes.append(said(folder).strip().splitlines()[-1])
            finish(world.train(folder, prefix=_enter(holder)))
        outcome = folder.parent / "outcome"  # SQLite does not open a file through another process's root
        shutil.copytree(data, outcome, symlinks=True, ignore=shutil.ignore_patterns("cache", "checkpoints"))
        return judge(verdict, outcome, expected)


def _can_mount() -> bool:
    if not shutil.which("unshare") or not shutil.which("nsenter"):
        return False
    attempt = [
        "unshare",
        "--mount",
        *(["--map-root-user"] if os.geteuid() else []),
        "mount",
        "-t",
        "tmpfs",
        "x",
        "/mnt",
    ]
    return subprocess.run(attempt, capture_output=True, check=False).returncode == 0


@contextmanager
def _mounted(place: Path) -> Iterator[int]:
    """An empty disk at a place, for those who enter the namespace of this process."""
    mounting = f"mount -t tmpfs -o size={MEGABYTES}m tmpfs {place} && echo ready && exec sleep 3600"
    command = [*_unshare(), "sh", "-c", mounting]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            yield holder.pid
        finally:
            holder.kill()


def _enter(holder: int) -> tuple[str, ...]:
    user = ("--user", "--preserve-credentials") if os.geteuid() else ()
    return ("nsenter", f"--target={holder}", "--mount", *user)


def _unshare() -> list[str]:
    return ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]

"""MLflow's SQLite file, written to directly: locked by somebody, and read-only."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from benchmarks.faults.verdict import Verdict, judge
from benchmarks.faults.world import ROOT, STEPS, World, finish, reach, said, step_of


def sqlite_locked(world: World, verdict: Verdict) -> Verdict:
    """Another program holds MLflow's database from the tenth step until all are done."""
    folder = world.folder(verdict.row)
    process = world.train(folder)
    reach(folder, 10, process)
    with closing(sqlite3.connect(folder / "mlruns/mlflow.db", timeout=60, isolation_level=None)) as base:
        base.execute("BEGIN EXCLUSIVE")
        held_at = step_of(folder)
        reach(folder, STEPS)
        verdict.notes.append(f"steps {held_at + 1} to {STEPS} were taken while the database was locked")
        base.execute("COMMIT")
    finish(process)
    if held_at >= STEPS:
        verdict.faults.append("it was over before the database was locked")
    return judge(verdict, folder, world.expected)


def sqlite_read_only(world: World, verdict: Verdict) -> Verdict:
    """Nobody may write MLflow's database while it trains; the next start finds it as it should be."""
    folder = world.folder(verdict.row)
    (folder / "mlruns").mkdir()
    made = "from shoes.tracking.database import make_database; import sys; make_database(sys.argv[1])"
    subprocess.run([sys.executable, "-c", made, f"sqlite:///{folder}/mlruns/mlflow.db"], check=True, cwd=ROOT)
    if os.geteuid():
        _by_permissions(world, folder)
    else:
        _by_mount(world, folder)
    if "does not answer" not in said(folder):
        verdict.faults.append("it did not say that MLflow can't be written to")
    finish(world.train(folder))  # it is done, and only sends
    return judge(verdict, folder, world.expected)


def _by_permissions(world: World, folder: Path) -> None:
    places = [folder / "mlruns/mlflow.db", folder / "mlruns"]
    modes = [place.stat().st_mode for place in places]
    for place in places:
        place.chmod(place.stat().st_mode & 0o555)
    try:
        finish(world.train(folder))
    finally:
        for place, mode in zip(places, modes, strict=True):
            place.chmod(mode)


def _by_mount(world: World, folder: Path) -> None:
    """Nothing is forbidden to root; a read-only mount of its own is."""
    assert shutil.which("unshare"), "unshare is needed to make a folder read-only for root"
    mlruns = folder / "mlruns"
    mounts = f"mount --bind {mlruns} {mlruns} && mount -o remount,bind,ro {mlruns} && exec "
    process = world.train(folder, prefix=("unshare", "--mount", "sh", "-c", f'{mounts} "$0" "$@"'))
    finish(process)

"""A disk that fills up costs a training time at most."""

import logging
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from shoes import recipes, stages, storage
from shoes.errors import TrainingError
from shoes.reports import HeldOutLoss, PausedTraining, TrainReport
from shoes.spec import Recipe
from shoes.tracking import mirror
from shoes.tracking.journal import read_events
from shoes.training import disk
from shoes.training.disk import DiskGuard, Need, decide, estimate_need, measure_need, prune, removable
from shoes.training.run import Job
from shoes.training.signals import StopRequest
from tests.conftest import MICRO, Night, furnish
from tests.limits import fill, on_small_disk
from tests.training.opening import job_of, train

MB = 1024**2
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("free", "removable_bytes", "what"),
    [
        (150, 0, "fine"),
        (150, 900, "fine"),
        (149, 1, "prune"),
        (149, 900, "prune"),
        (149, 0, "stop"),
        (0, 150, "prune"),
        (0, 149, "stop"),
    ],
)
def test_nothing_is_removed_that_would_not_help(free: int, removable_bytes: int, what: str) -> None:
    need = Need(save_bytes=100, reserve_bytes=50)
    assert decide(free, need, removable_bytes) == what


def test_the_first_estimate_is_near_what_is_measured(in_night: Night, tmp_path: Path) -> None:
    job = job_of(in_night.recipe)
    assert job.folder == in_night.training.run_dir
    estimated, measured = estimate_need(job), measure_need(job)
    for name in ("save_bytes", "reserve_bytes"):
        first, then = (getattr(need, name) - disk.MARGIN_BYTES for need in (estimated, measured))
        assert 0.7 < first / then < 1.1
    elsewhere = replace(job, folder=tmp_path / "new")
    assert measure_need(elsewhere) == estimated


def write_step(folder: Path, step: int, num_bytes: int = MB - 4096) -> Path:
    target = folder / f"step-{step:06d}"
    with storage.new_folder(target) as partial:
        (partial / "content").write_bytes(bytes(num_bytes))
    return target


def write_run(job: Job) -> list[HeldOutLoss]:
    """Checkpoints 10, 20 and 30, the last one damaged; candidates 0 to 50, the best one being 20."""
    for step in (10, 20, 30):
        write_step(job.checkpoints, step)
    (job.checkpoints / "step-000030" / "content").write_bytes(b"")
    means = {0: 1.0, 10: 4.0, 20: 2.0, 30: 5.0, 40: 3.0, 50: 6.0}
    for step in [*means, 45]:
        write_step(job.candidates, step)
    return [HeldOutLoss(step=step, mean=mean, standard_error=0.1, train_mean=mean) for step, mean in means.items()]


def names(paths: list[Path]) -> list[str]:
    return ["/".join(path.parts[-2:]).replace("step-0000", "") for path in paths]


def dead_pid() -> int:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    return dead.pid


def test_what_goes_first_is_what_nobody_misses(with_small_data: Path, micro: Callable[..., Recipe]) -> None:
    job = job_of(micro())
    losses = write_run(job)
    assert names(removable(job, losses)) == [
        *("checkpoints/10", "checkpoints/30"),  # 20 is the newest whole one
        *("candidates/00", "candidates/45", "candidates/30", "candidates/10", "candidates/40"),
    ]
    leftover = job.candidates / f".partial-step-000050-{dead_pid()}"
    leftover.mkdir()
    assert removable(job, losses)[0] == leftover
    (job.checkpoints / "step-000020" / "content").write_bytes(b"")
    assert names(removable(job, losses))[1:3] == ["checkpoints/20", "checkpoints/30"], "10 is the newest whole one now"
    (job.checkpoints / "step-000010" / "content").write_bytes(b"")
    assert names(removable(job, losses))[1] == "candidates/00", "without a whole one none is removed"


def small_job(folder: Path) -> Job:
    """The micro training, with its run on the small disk."""
    furnish(folder.parent / "data", folder.parent / "small", made=())
    disk.MARGIN_BYTES = 1 * MB
    disk.SECONDS_TO_WAIT, disk.SECONDS_BETWEEN_LOOKS = 0.2, 0.01
    return replace(job_of(recipes.load("demo", MICRO)), folder=folder / "run")


def set_free(folder: Path, num_bytes: int) -> None:
    """Grow or shrink the filler until so much is free."""
    filler = folder / "filler"
    filler.unlink(missing_ok=True)
    fill(folder, spare=num_bytes)


def prune_on_small_disk(folder: Path) -> None:
    job = small_job(folder)
    losses = write_run(job)
    set_free(folder, 3 * MB)
    paths = removable(job, losses)
    assert prune(paths, folder, 3 * MB) == 0
    prune(paths, folder, int(4.9 * MB))  # 30 is damaged and takes nothing
    assert [path.exists() for path in paths] == [False, False, False, True, True, True, True]


def guard_on_small_disk(folder: Path) -> None:
    """A save takes 3 MB: checkpoint, candidate and margin; the reserve takes 2 MB."""
    job = small_job(folder)
    losses = write_run(job)
    guard, request = DiskGuard(job), StopRequest()
    assert guard.need() == measure_need(job)
    needed = guard.need().total_bytes
    paths = removable(job, losses)
    set_free(folder, needed + 4096)
    assert guard.short(request, losses) is None
    assert all(path.exists() for path in paths)
    set_free(folder, needed - MB // 2)
    assert guard.short(request, losses) is None
    assert [path.exists() for path in paths] == [False, *[True] * 6], "no more is removed than has to be"

    set_free(folder, 0)  # a little more is needed than could be removed
    paths = removable(job, losses)
    reason = guard.short(request, losses)
    assert reason == (
        f"the disk is nearly full: 2 MB free, 5 MB needed in {job.folder}; free some space or set SHOES_DATA_DIR, "
        "and start again"
    )
    assert [path.exists() for path in paths] == [False, False, False, True, True, True], "room for the state, no more"
    write_step(job.checkpoints, 60)
    assert guard.short(request, losses) is None
    set_free(folder, 0)
    assert guard.short(request, losses) is not None
    kept = [path for place in (job.checkpoints, job.candidates) for path in sorted(place.iterdir())]
    assert names(kept) == ["checkpoints/60", "candidates/20", "candidates/50"]


def wait_on_small_disk(folder: Path) -> None:
    """Another program frees some space; a person asks to stop."""
    job = small_job(folder)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", filename=folder.parent / "log")
    disk.SECONDS_TO_WAIT = 60
    looked: list[float] = []

    def sleep(seconds: float) -> None:
        looked.append(seconds)
        if len(looked) == 3:
            set_free(folder, 8 * MB)

    disk.time = SimpleNamespace(sleep=sleep, monotonic=time.monotonic)
    write_step(job.checkpoints, 10)
    write_step(job.candidates, 10)
    set_free(folder, 1 * MB)
    guard, request = DiskGuard(job), StopRequest()
    assert guard.short(request, []) is None
    assert len(looked) == 3
    assert (folder.parent / "log").read_text().splitlines() == [
        f"WARNING the disk is nearly full: 1 MB free, 5 MB needed in {job.folder}; waiting up to 1 min 0 s for room",
        "INFO there is room on the disk again: the training goes on",
    ]
    set_free(folder, 1 * MB)
    request.receive(15, None)
    assert guard.short(request, []) is not None
    assert len(looked) == 3


@pytest.fixture
def small_disk(own_world: Path, small_data: Path) -> Path:
    """Where a small disk can be mounted, with the small data set beside it."""
    furnish(own_world, small_data)
    (own_world / "disk").mkdir()
    return own_world / "disk"


@pytest.mark.parametrize(
    "body",
    # the training below stops and goes on by the same guard, and on such a disk
    [pytest.param(body, marks=SLOW) for body in (guard_on_small_disk, prune_on_small_disk, wait_on_small_disk)],
)
def test_on_a_small_disk(body: Callable[[Path], None], small_disk: Path) -> None:
    on_small_disk(body, small_disk, kilobytes=32 * 1024)


def short_training(folder: Path) -> None:
    """Short of room at step 1, then full to the last byte at step 3; it ends with the bytes of one that had room."""
    recipe = on_disk(folder)
    paused = train_with(recipe, {1: lambda: set_free(folder, 10 * MB)})
    assert isinstance(paused, PausedTraining)
    assert paused.step == 1
    said = rf"the disk is nearly full: (9|10) MB free, \d+ MB needed in {paused.run_dir}"  # its log has grown since
    assert re.match(said, paused.reason)
    statuses = [event["status"] for event in read_events(paused.run_dir / "journal.jsonl") if event["kind"] == "status"]
    assert statuses == ["RUNNING", "SCHEDULED"]

    set_free(folder, 100 * MB)
    with pytest.raises(TrainingError, match=f"The disk of {paused.run_dir} is full.*start again: it goes on from"):
        train_with(recipe, {3: lambda: set_free(folder, 0)})
    assert not list(folder.rglob(".partial-*"))
    (folder / "filler").unlink()
    finish(folder, recipe, starts=[0, 1, 2])


def files_that_do_not_grow(folder: Path) -> None:
    """A limit on the size of files comes down at step 1 on the checkpoint of step 2."""
    recipe = on_disk(folder)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def come_down() -> None:
        mirror.connect(stages.load_settings().tracking_uri)  # its database is there
        resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, hard))

    with pytest.raises(TrainingError, match=r"is full: .*File too large"):
        train_with(recipe, {1: come_down})
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert not list(folder.rglob(".partial-*"))
    finish(folder, recipe, starts=[0, 0])


def on_disk(folder: Path) -> Recipe:
    os.environ["SHOES_DATA_DIR"] = str(folder)
    furnish(folder, folder.parent / "small", made=())
    disk.SECONDS_TO_WAIT = 0.0
    return recipes.load("demo", MICRO)


def train_with(recipe: Recipe, at_step: dict[int, Callable[[], None]]) -> TrainReport | PausedTraining:
    """Train, and do something when a step is done."""

    def on_progress(step: int, total: int, text: str) -> None:
        at_step.pop(step, lambda: None)()

    return stages.train(recipe, stages.fetch_model(recipe), stages.prepare_data(recipe), on_progress=on_progress)


def finish(folder: Path, recipe: Recipe, *, starts: list[int]) -> None:
    """Goes on, and ends with the adapter of a training that was never short of room."""
    report = train(recipe)
    assert isinstance(report, TrainReport)
    assert report.adapter_sha256 == (folder.parent / "expected").read_text()
    events = list(read_events(report.run_dir / "journal.jsonl"))
    assert [event["step"] for event in events if event["id"].startswith("session/")] == starts
    steps = [event["step"] for event in events if "train/loss" in event.get("values", {})]
    assert steps == [1, 2, 3, 4]


@pytest.mark.parametrize("body", [short_training, pytest.param(files_that_do_not_grow, marks=SLOW)])
def test_a_training_that_ran_out_of_room_ends_as_one_that_did_not(
    body: Callable[[Path], None], small_disk: Path, night: Night
) -> None:
    (small_disk.parent / "expected").write_text(night.training.adapter_sha256)
    on_small_disk(body, small_disk, kilobytes=256 * 1024)

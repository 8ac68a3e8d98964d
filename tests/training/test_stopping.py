"""Why a training stops before its last step, and that nothing is lost by it."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from shoes import stages
from shoes.reports import HeldOutLoss, PausedTraining, TrainReport
from shoes.spec import Recipe
from shoes.storage import write_text
from shoes.tracking.journal import read_events
from shoes.training import loop, stopping
from shoes.training.saving import prune_candidates
from shoes.training.signals import StopRequest
from shoes.training.stopping import Stops, is_over, no_gain
from tests.training.opening import train

NOON = datetime(2020, 1, 1, 12, tzinfo=UTC)


def losses(*means: float) -> list[HeldOutLoss]:
    return [
        HeldOutLoss(step=10 * number, mean=mean, standard_error=0.1, train_mean=mean)
        for number, mean in enumerate(means)
    ]


@pytest.mark.parametrize(
    ("means", "patience", "reason"),
    [
        ((5, 4, 3), 2, None),
        ((5, 4, 4.5), 2, None),
        ((5, 4, 4.5, 4.4), 2, "the held-out loss was 2 times in a row no better than at step 10"),
        ((5, 4, 4), 1, "the held-out loss was once no better than at step 10"),
        ((5, 6, 7), 2, "the held-out loss was 2 times in a row no better than at step 0"),
        ((5, 6, 7), None, None),
        ((), 1, None),
    ],
)
def test_patience_counts_validations_since_the_best(means, patience: int | None, reason: str | None) -> None:
    assert no_gain(losses(*means), patience) == reason


@pytest.mark.parametrize(("left", "step", "over"), [(10, 3, False), (3, 3, True), (2, 3, True), (-5, 0, True)])
def test_no_step_is_begun_that_would_end_after_the_deadline(left: float, step: float, over: bool) -> None:
    assert is_over(NOON, NOON - timedelta(seconds=left), step) is over


def test_a_signal_goes_before_everything_else(micro: Callable[..., Recipe]) -> None:
    request = StopRequest()
    stops = Stops(request, NOON, lambda asked: "the disk is nearly full")
    spec = micro().train
    found = stops.look(spec, [])
    assert found is not None
    assert (found.kind, found.reason) == ("paused", "the window ends at 12:00")
    request.receive(15, None)
    assert stops.look(spec, []).kind == "signal"
    without = Stops(StopRequest(), None, lambda asked: "the disk is nearly full")
    assert without.look(spec, []).reason == "the disk is nearly full"
    assert Stops(StopRequest(), None, lambda asked: None).look(spec, []) is None


@pytest.mark.parametrize("at", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_at_the_windows_end_it_pauses_and_another_night_ends_with_the_same_bytes(
    micro: Callable[..., Recipe], night, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    recipe = micro({"window.ends": "07:00"})
    looks: list[datetime] = []

    def is_over_after(deadline: datetime, now: datetime, step_seconds: float) -> bool:
        looks.append(now)
        return len(looks) > at

    with monkeypatch.context() as patch:
        patch.setattr(stopping, "is_over", is_over_after)
        paused = train(recipe)
    assert isinstance(paused, PausedTraining)
    assert (paused.step, paused.max_train_steps, paused.reason) == (at, 4, "the window ends at 07:00")
    events = list(read_events(paused.run_dir / "journal.jsonl"))
    assert [e["status"] for e in events if e["kind"] == "status"] == ["RUNNING", "SCHEDULED"]
    finished = train(micro())
    assert isinstance(finished, TrainReport)
    assert finished.resumed_from == (at,)
    assert finished.adapter_sha256 == night.training.adapter_sha256


def test_the_window_of_the_recipe_is_what_ends_it(micro: Callable[..., Recipe]) -> None:
    assert stages.deadline(micro()) is None
    end = stages.deadline(micro({"window.ends": "07:00"}))
    assert (end.hour, end.minute) == (7, 0)
    assert end > datetime.now().astimezone()


def test_early_stop_exports_the_best(micro: Callable[..., Recipe]) -> None:
    far_too_fast = {"train.learning_rate": "0.5", "train.early_stopping_patience": "1", "train.max_train_steps": "8"}
    report = train(micro(far_too_fast))
    assert report.step < report.max_train_steps == 8
    assert "no better than at step" in report.end_reason
    trained = [loss for loss in report.losses if loss.step]
    assert report.chosen_step == min(trained, key=lambda loss: loss.mean).step


def test_only_the_best_candidates_are_kept(micro: Callable[..., Recipe]) -> None:
    changes = {"train.max_train_steps": "6", "train.save_steps": "1", "train.candidates_total_limit": "2"}
    report = train(micro({**changes, "train.early_stopping_patience": "none"}))
    ranked = sorted((loss for loss in report.losses if loss.step), key=lambda loss: loss.mean)
    left = sorted(path.name for path in (report.run_dir / "candidates").iterdir())
    assert left == sorted(f"step-{loss.step:06d}" for loss in ranked[:2])


def test_among_losses_that_are_alike_the_earliest_candidates_stay(micro: Callable[..., Recipe], tmp_path: Path) -> None:
    """Within their error all six are as good: the lowest stays, and the earliest, which the choice would take."""
    models, data = stages.fetch_model(micro()), stages.prepare_data(micro())
    job = replace(stages._job(micro(), models, data), folder=tmp_path / "run")
    random, found = np.random.default_rng(0), []
    for step in range(1, 7):
        values = random.standard_normal((20, 8))
        values += 0.1 - values.mean() + (0 if step == 4 else 1e-6 * (7 - step))
        job.candidate(step).mkdir(parents=True)
        write_text(job.folder / "validation" / f"step-{step:06d}.json", json.dumps(values.tolist()))
        found.append(HeldOutLoss(step=step, mean=float(values.mean()), standard_error=0.1, train_mean=0.1))
    prune_candidates(job, found)
    assert sorted(path.name for path in job.candidates.iterdir()) == ["step-000001", "step-000002", "step-000004"]


BERLIN = ZoneInfo("Europe/Berlin")
JUMPS = {
    "forward past the end": (["23:00", "23:10", "08:00+1"], 2),
    "forward within the night": (["23:00", "04:00+1", "04:10+1", "04:20+1"], None),
    "back within the night": (["06:58+1", "03:00+1", "03:10+1", "03:20+1"], None),
    "back before the start": (["22:10", "20:00", "20:10", "20:20"], None),
    "back, and then the end": (["06:50+1", "05:00+1", "07:00+1"], 2),
    "by a day": (["23:00", "23:10", "23:20+1"], 2),
}
QUICK = ("forward past the end", "back before the start")


@pytest.mark.parametrize(
    "jump", [jump if jump in QUICK else pytest.param(jump, marks=pytest.mark.slow) for jump in JUMPS]
)
def test_a_clock_that_jumps_in_the_night_loses_nothing_and_ends_it_by_what_it_shows(
    micro: Callable[..., Recipe], night, monkeypatch: pytest.MonkeyPatch, jump: str
) -> None:
    shown, stops_at = JUMPS[jump]
    watch = Watch([on_the_clock(text) for text in shown])
    with monkeypatch.context() as patch:
        patch.setattr("shoes.clock.now", watch.now)
        patch.setattr(loop, "_one_step", watch.after(loop._one_step))
        recipe = micro({"window.starts": "22:00", "window.ends": "07:00", "window.timezone": "Europe/Berlin"})
        report = train(recipe)
    if stops_at is not None:
        assert isinstance(report, PausedTraining)
        assert (report.step, report.reason) == (stops_at, "the window ends at 07:00")
        events = list(read_events(report.run_dir / "journal.jsonl"))
        assert next(e["values"] for e in events if e["id"].startswith("paused/") and e["kind"] == "tags") == {
            "paused": f"at {stops_at} of 4 steps: the window ends at 07:00"
        }
        report = train(micro())
    assert isinstance(report, TrainReport)
    assert report.resumed_from == (() if stops_at is None else (stops_at,))
    assert report.adapter_sha256 == night.training.adapter_sha256


class Watch:
    """A clock that shows the next of some times after each step, and the last one from then on."""

    def __init__(self, shown: list[datetime]) -> None:
        self.shown, self.step = shown, 0

    def now(self, timezone: str | None = None) -> datetime:
        return self.shown[min(self.step, len(self.shown) - 1)]

    def after(self, real: Callable[..., bool]) -> Callable[..., bool]:
        def one_step(*given: object) -> bool:
            done = real(*given)
            self.step += 1
            return done

        return one_step


def on_the_clock(text: str) -> datetime:
    """Of the night of 24 October 2026, in which the clock is put back; +1 is the morning after it."""
    clock, _, days = text.partition("+")
    hour, minute = map(int, clock.split(":"))
    return datetime(2026, 10, 24 + int(days or 0), hour, minute, tzinfo=BERLIN)


def test_a_clock_that_was_set_back_takes_nothing_from_the_time_of_other_tries(tmp_path: Path) -> None:
    from shoes.training.conclusion import seconds_spent

    now = time.time_ns() // 1_000_000
    path = tmp_path / "journal.jsonl"
    for number, minutes_ago in enumerate((1, 60)):
        begun = {"id": f"session/{number}", "kind": "status", "time": now - 60_000 * minutes_ago}
        with path.open("a") as file:
            file.write(json.dumps({**begun, "step": 0, "status": "RUNNING"}) + "\n")
    assert seconds_spent(path, until=now) == 3600

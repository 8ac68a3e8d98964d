"""Work that is longer than a step is left when somebody asks to stop, and done again without changing any number."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shoes import stages
from shoes.reports import TrainReport
from shoes.spec import Recipe
from shoes.tracking.journal import Journal, read_events
from shoes.training import checkpoint, session, step, validation
from shoes.training.recovery import Trouble, recover
from shoes.training.run import pin_decisions, plan_decisions
from shoes.training.signals import Interrupted
from tests.conftest import furnish
from tests.training.opening import job_of, train


@contextmanager
def asked_in(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, call: int) -> Iterator[None]:
    """SIGTERM comes when a function is called for the n-th time, just before it does its work."""
    real, calls = getattr(module, name), []

    def asked(*given: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            signal.raise_signal(signal.SIGTERM)
        return real(*given, **named)

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, end)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, asked)
            yield
    finally:
        signal.signal(signal.SIGTERM, former)


LOSSES, PICTURES, BATCHES = (validation, "held_out_losses"), (validation, "draw"), (step, "micro_batches")
# held_out_losses is called twice, and draw once, at each of the steps 0, 2 and 4; the base draws once
PLACES = {
    "the first losses of step 2": (*LOSSES, 3, 2),
    "the second losses of step 2": (*LOSSES, 4, 2),
    "the pictures of step 2": (*PICTURES, 2, 2),
    "the losses of the last step": (*LOSSES, 5, 4),
    "the pictures of the last step": (*PICTURES, 3, 4),
    "a step": (*BATCHES, 4, 3),
}
QUICK = ("the second losses of step 2", "the pictures of the last step", "a step")


@pytest.mark.parametrize(
    "place", [place if place in QUICK else pytest.param(place, marks=pytest.mark.slow) for place in PLACES]
)
def test_a_validation_that_is_left_is_done_again_with_the_same_result(
    micro: Callable[..., Recipe], night: Any, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    module, name, call, at = PLACES[place]
    with asked_in(monkeypatch, module, name, call), pytest.raises(KeyboardInterrupt):
        train(micro())
    recipe = micro()
    job = job_of(recipe)
    saved = checkpoint.latest(job.checkpoints)
    assert saved is not None
    assert saved.step == at, "the state of the last step is saved"
    assert at not in {loss.step for loss in saved.losses} or name == "micro_batches"
    states = [event["status"] for event in read_events(job.journal) if event["kind"] == "status"]
    assert states == ["RUNNING", "KILLED"]
    report = train(micro())
    assert isinstance(report, TrainReport)
    assert report.adapter_sha256 == night.training.adapter_sha256
    assert report.resumed_from == (at,)
    assert report.losses == night.training.losses
    assert numbers(report) == numbers(night.training), "every number once, and the same"


def test_with_an_average_the_weights_that_train_are_the_ones_that_go_on(
    micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A validation looks at the average; left in the middle, it must not be what is saved as the training's state."""
    changes = {"train.use_ema": "true"}
    with asked_in(monkeypatch, *LOSSES, 3), pytest.raises(KeyboardInterrupt):
        train(micro(changes))
    left = train(micro(changes))
    other = tmp_path_factory.mktemp("straight")
    furnish(other, stages.load_settings().data / "small")
    monkeypatch.setenv("SHOES_DATA_DIR", str(other))
    straight = train(micro(changes))
    assert left.adapter_sha256 == straight.adapter_sha256


def test_encoding_again_is_left_too(micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what a training does in the middle when cached photos are damaged."""
    recipe = micro()
    train(recipe)
    job = job_of(recipe)
    opened = session.open_session(job, pin_decisions(job), None)
    opened.request.receive(signal.SIGTERM, None)
    with Journal(job.journal) as journal, pytest.raises(Interrupted):
        recover(opened, journal, Trouble(1, "the loss is nan", is_memory=False, damaged=(0,)))
    assert [done.kind for done in plan_decisions(job).interventions] == ["cache"]
    again = session.open_session(job, plan_decisions(job), None)
    assert len(again.train) == len(opened.train), "the next start encodes the photos"


def numbers(report: TrainReport) -> list[tuple[str, int, str, float]]:
    """All numbers of a training's journal that hold no time."""
    return sorted(
        (event["id"], event["step"], name, value)
        for event in read_events(report.run_dir / "journal.jsonl")
        if event["kind"] == "metrics" and event["id"].startswith(("train/", "validation/"))
        for name, value in event["values"].items()
        if name.startswith(("train/", "val/")) and name != "train/images_per_second"
    )

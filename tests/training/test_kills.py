"""A short form of benchmarks/kills.py, and that the bench would notice what it is for."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import kills
from benchmarks.kills import STEPS, Outcome

LOSSES = [("train/loss", step, 1.0 / step) for step in range(1, STEPS + 1)]
RIGHT = Outcome(adapter={kills.ADAPTER: "0" * 64}, journal=LOSSES, mlflow=LOSSES, states=("FINISHED",))


def test_a_training_killed_three_times_is_the_one_that_nobody_interrupted(
    own_world: Path, shallow_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kills.RECIPE, "model.pretrained_model_name_or_path", str(shallow_model))
    phases = ("step", "candidate", "validation", "checkpoint")
    figures = kills.run(own_world / "kills", kills=3, lanes=1, seed=1, phases=phases)
    assert figures["kills"] == 3
    assert figures["trainings_finished"] >= 1
    assert figures["faults"] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"adapter": {kills.ADAPTER: "1" * 64}},
        {"journal": LOSSES[:-1]},
        {"journal": [*LOSSES, LOSSES[3]]},
        {"mlflow": LOSSES[1:]},
        {"mlflow": [*LOSSES, LOSSES[0]]},
        {"mlflow": [("train/loss", 1, 0.5), *LOSSES[1:]]},
        {"states": ("RUNNING",)},
        {"states": ("FINISHED", "FINISHED")},
    ],
)
def test_a_training_that_lost_or_doubled_something_is_a_mismatch(wrong: dict[str, object]) -> None:
    assert kills.differences(RIGHT, RIGHT) == []
    assert len(kills.differences(replace(RIGHT, **wrong), RIGHT)) == 1


def test_the_training_to_compare_with_holds_every_step_once() -> None:
    assert kills.is_complete(RIGHT)
    assert not kills.is_complete(replace(RIGHT, journal=LOSSES[:-1]))
    assert not kills.is_complete(replace(RIGHT, mlflow=[*LOSSES, LOSSES[0]]))
    assert not kills.is_complete(replace(RIGHT, states=("RUNNING",)))

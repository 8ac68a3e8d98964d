"""Wrong kernels on the emulated device: each is found before the training, by name, and what is right is taken."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shoes import device
from shoes.device.parity import PARTS, Way, find_right_way, in_words, measured_parts, try_way
from shoes.training.exercise import Exercise
from shoes.training.run import Job, pin_decisions
from tests.conftest import MICRO, make_small_data
from tests.emulated.tensor import Computer
from tests.emulated.wrong_kernels import CASES, TOGETHER
from tests.training.opening import job_of

WAY = Way("mps", "no", "off", micro_batch=2)


@pytest.fixture(scope="module")
def job(shallow_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """A micro training of that model; nothing of it is done yet."""
    from shoes import recipes

    folder = tmp_path_factory.mktemp("parity")
    (folder / "data").mkdir()
    make_small_data(folder / "data/small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOES_DATA_DIR", str(folder / "data"))
        patch.setenv("SHOES_LOCK_DIR", str(folder / "locks"))
        base = {"model.pretrained_model_name_or_path": str(shallow_model)}
        yield job_of(recipes.load("demo", {**MICRO, **base, "train.eval_batch_size": "3", "train.use_ema": "true"}))


@pytest.fixture(scope="module")
def exercise(job: Job) -> Exercise:
    """Has done all in fp32 on the CPU."""
    exercise = Exercise(job, WAY)
    exercise(Way("cpu", "no", micro_batch=WAY.micro_batch))
    return exercise


def again(exercise: Exercise) -> Exercise:
    """The same, with all still to be done on the device."""
    fresh = copy.copy(exercise)
    fresh._done = {}
    return fresh


def test_a_right_device_agrees_to_rounding(exercise: Exercise, mps: Computer) -> None:
    (trial,) = find_right_way(again(exercise), WAY, device.measure())
    assert (trial.passed, trial.wrong, trial.device_name) == (True, (), "Apple M2 Max")
    assert all(error < 1e-5 for error in measured_parts(trial).values())
    assert set(measured_parts(trial)) == set(PARTS)


@pytest.mark.parametrize("names", TOGETHER)
def test_wrong_kernels_are_found_by_name(exercise: Exercise, mps: Computer, names: tuple[str, ...]) -> None:
    found = [CASES[name].fault() for name in names]
    with mps.faults.plant(*found):
        trial = try_way(again(exercise), WAY, device.measure())
    assert all(fault.count for fault in found)
    assert {CASES[name].part for name in names} <= set(trial.wrong)
    told = trial.verdict.split("; ")
    assert all(any(words.startswith(CASES[name].words) for words in told) for name in names), told
    assert len(told) == len(names)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_kernel_alone_is_found_by_name_and_what_is_right_is_taken(
    exercise: Exercise, mps: Computer, name: str
) -> None:
    case = CASES[name]
    with mps.faults.plant(fault := case.fault()):
        trials = find_right_way(again(exercise), WAY, device.measure())
    assert fault.count
    assert case.part in trials[0].wrong
    assert trials[0].verdict.startswith(case.words)
    assert "; " not in trials[0].verdict or case.part == "prediction"
    assert in_words(trials).endswith(f"so {case.end} was taken")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["optimizer", "real micro-batch", "VAE encode"])
def test_a_training_is_pinned_to_what_is_right(job: Job, mps: Computer, tmp_path: Path, name: str) -> None:
    with mps.faults.plant(CASES[name].fault()):
        found = pin_decisions(replace(job, folder=tmp_path))
        assert pin_decisions(replace(job, folder=tmp_path)) == found
    assert (found.device, found.precision) == ("cpu" if name == "VAE encode" else "mps", "no")
    assert found.fused_optimizer is (name != "optimizer")
    assert found.micro_batch == (1 if name == "real micro-batch" else 2)
    assert in_words(found.parity) in found.reasons.values()

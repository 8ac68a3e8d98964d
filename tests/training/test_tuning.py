"""Micro-batch and checkpointing by measurement: the search on made-up machines, and on a live session."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from shoes import device
from shoes.reports import ParityTrial
from shoes.spec import Recipe, TrainSpec
from shoes.training import choice, tuning
from shoes.training.choice import KeptChoice
from shoes.training.measuring import does_it_fit, one_pass
from shoes.training.run import Decisions
from shoes.training.tuning import Trial, best, by_choice, is_tunable, predicted_bytes, search, tune, tuned_decisions
from tests.training.opening import session_of

MODES = ("off", "attention", "full")
SIZES = (1, 2, 4, 8, 16)
OWN = ("off", 2)
BYTES = {"off": 50, "attention": 30, "full": 15}
SECONDS = {"off": 1.0, "attention": 1.06, "full": 1.46}


class Machine:
    """A device whose passes cost what `seconds` says of a micro-batch, times the mode's own."""

    def __init__(self, seconds: Callable[[int], float], memory: int = 10**9) -> None:
        self.seconds, self.memory, self.tried = seconds, memory, list[tuple[str, int]]()

    def __call__(self, mode: str, size: int) -> Trial | None:
        self.tried.append((mode, size))
        peak = 10 + BYTES[mode] * size
        return Trial(mode, size, SECONDS[mode] * self.seconds(size), peak, 10) if peak <= self.memory else None


def halving(size: int) -> float:
    return 1 / size


def saturated(size: int) -> float:
    return 1.0 if size == 1 else 0.5 if size == 2 else 0.49


@pytest.mark.parametrize(
    ("seconds", "room", "chosen", "tried"),
    [
        # it all fits: the cheapest mode, and the others are not even tried
        (halving, 10**9, ("off", 16), [("off", size) for size in SIZES]),
        # larger is no faster: the recipe's own, and no mode that only saves memory
        (saturated, 10**9, OWN, [("off", 1), ("off", 2), ("off", 4)]),
        # what is predicted not to fit is not tried; the dearer mode pays for a larger micro-batch
        (
            halving,
            250,
            ("full", 16),
            [
                (mode, size)
                for mode, most in (("off", 4), ("attention", 8), ("full", 16))
                for size in SIZES
                if size <= most
            ],
        ),
        # memory for one image in one mode
        (halving, 26, ("full", 1), [(mode, 1) for mode in MODES]),
    ],
)
def test_the_search(
    seconds: Callable[[int], float], room: int, chosen: tuple[str, int], tried: list[tuple[str, int]]
) -> None:
    machine = Machine(seconds)
    trials = search(MODES, SIZES, OWN, room, machine)
    assert best(trials, OWN)[:2] == chosen
    assert machine.tried == tried
    assert all(trial.peak_bytes <= room for trial in trials)


def test_out_of_memory_ends_a_mode_and_not_the_search() -> None:
    machine = Machine(halving, memory=100)
    trials = search(MODES, SIZES, OWN, 10**9, machine)
    assert {(trial.checkpointing, trial.micro_batch) for trial in trials} == {
        *(("off", 1), ("attention", 1), ("attention", 2), ("full", 1), ("full", 2), ("full", 4))
    }
    assert best(trials, OWN) == ("full", 4, "the fastest that fits into memory")


def test_the_recipes_own_is_measured_though_smaller_ones_are_as_fast() -> None:
    machine = Machine(lambda size: 1.0)
    assert best(search(MODES, SIZES, ("off", 8), 10**9, machine), ("off", 8))[:2] == ("off", 8)
    assert machine.tried == [("off", 1), ("off", 2), ("off", 4), ("off", 8)]


@pytest.mark.parametrize(("seconds", "taken"), [(0.98, 2), (0.96, 4)])
def test_another_choice_is_taken_only_when_it_is_faster_by_more_than_chance(seconds: float, taken: int) -> None:
    trials = [Trial("off", 2, 1.0, 1, 0), Trial("off", 4, seconds, 1, 0)]
    assert best(trials, OWN)[:2] == ("off", taken)


def test_where_nothing_fits_the_training_goes_on_as_it_was() -> None:
    assert best(search(MODES, SIZES, OWN, 5, Machine(halving)), OWN)[:2] == OWN


def test_memory_is_predicted_in_a_line() -> None:
    one, two = Trial("off", 1, 1.0, 30, 10), Trial("off", 2, 1.0, 45, 10)
    assert predicted_bytes([], 1) == 0
    assert predicted_bytes([one], 2) == 50
    assert predicted_bytes([one, two], 4) == 75
    assert predicted_bytes([two, one], 4) == one.peak_bytes + 3 * 15


@pytest.mark.parametrize(
    ("wanted", "name", "tunable"),
    [
        ("auto", "mps", True),
        ("auto", "cuda", True),
        ("auto", "cpu", False),
        *((mode, name, False) for mode in MODES for name in ("mps", "cuda", "cpu")),
    ],
)
def test_only_what_is_left_open_on_an_accelerator_is_tuned(wanted, name: str, tunable: bool) -> None:
    assert is_tunable(TrainSpec(gradient_checkpointing=wanted), name) is tunable


def test_errors_that_are_not_about_memory_are_not_swallowed() -> None:
    with does_it_fit() as fits:
        raise RuntimeError("MPS backend out of memory (MPS allocated: 20 GB)")
    assert not fits
    with pytest.raises(RuntimeError, match="shapes"), does_it_fit():
        raise RuntimeError("shapes differ")


def test_a_live_session_is_measured_and_left_as_it_was(micro: Callable[..., Recipe]) -> None:
    session = session_of(micro({"train.gradient_checkpointing": "full", "train.lora_dropout": "0.1"}))
    before, state = session.snapshot(), torch.get_rng_state()
    found = tune(session, room_bytes=10**12)
    after = session.snapshot()
    assert (found.precision, found.checkpointing in {"off", "full"}) == ("no", True)
    assert found.micro_batch in {1, 2, 4}
    assert torch.equal(state, torch.get_rng_state())
    assert after.step == before.step
    assert all(torch.equal(value, after.adapter[name]) for name, value in before.adapter.items())
    assert all(torch.equal(value, after.optimizer[name]) for name, value in before.optimizer.items())
    assert all(parameter.grad is None for parameter in session.parameters.values())
    assert session.objective.unet.is_gradient_checkpointing
    assert session.dropout.positions == ()


def test_what_does_not_fit_on_the_device_is_left_out(
    micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_two(session, size: int) -> None:
        if size > 2:
            raise RuntimeError("MPS backend out of memory")
        one_pass(session, size)

    session = session_of(micro())
    monkeypatch.setattr(tuning, "one_pass", only_two)
    assert tuning._measure(session, "off", 4) is None
    found = tuning._measure(session, "full", 2)
    assert found is not None
    assert found.seconds_per_image > 0
    assert found.peak_bytes > 10**8


def test_a_training_is_tuned_once_on_a_machine(micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(micro({"train.gradient_checkpointing": "auto"}))
    job, decisions = session.job, session.decisions
    assert tuned_decisions(job, decisions, session) == decisions, "on the CPU the recipe's own is taken"
    monkeypatch.setattr(tuning, "is_tunable", lambda spec, device: True)
    chosen = KeptChoice(precision="no", micro_batch=4, checkpointing="full", reason="a test")
    measured: list[int] = []

    def measuring(session, *, room_bytes: int) -> KeptChoice:
        measured.append(room_bytes)
        return chosen

    monkeypatch.setattr(tuning, "tune", measuring)
    found = tuned_decisions(job, decisions, session)
    assert (found.micro_batch, found.checkpointing) == (4, "full")
    assert found.reasons["micro_batch"] == "measured here: a test"
    assert choice.kept(tuning.place(job)) == chosen
    assert tuned_decisions(job, decisions, session) == found
    assert len(measured) == 1
    assert 0 < measured[0] < device.measure().total_memory_bytes
    for later in (replace(session, step=1), session):
        again = found if later is session else decisions
        assert tuned_decisions(job, again, later) == again


def test_what_is_faster_and_wrong_is_not_taken_and_not_kept(
    micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(micro({"train.gradient_checkpointing": "auto"}))
    passed = ParityTrial(device="cpu", precision="no", passed=True, verdict="agrees", micro_batch=2)
    decisions = replace(session.decisions, parity=(passed,))
    chosen = KeptChoice(precision="no", micro_batch=4, checkpointing="full", reason="a test")
    monkeypatch.setattr(tuning, "is_tunable", lambda spec, device: True)
    monkeypatch.setattr(tuning, "tune", lambda session, room_bytes: chosen)
    session.objective.unet.register_forward_hook(
        lambda unet, inputs, output: (output[0] * (1 + 0.05 * len(inputs[0])),)
    )
    before = session.snapshot()
    found = tuned_decisions(session.job, decisions, session)
    assert (found.micro_batch, found.checkpointing) == (2, "off")
    wrong, last = found.parity
    assert (last, wrong.micro_batch, wrong.checkpointing) == (passed, 4, "full")
    assert wrong.verdict.startswith("the predicted noise of 4 images at once is 14.3% off")
    assert found.reasons["micro_batch"].endswith("so cpu in fp32 with micro-batches of 2 was taken")
    assert choice.kept(tuning.place(session.job)) is None
    assert tuned_decisions(session.job, found, session) == found
    after = session.snapshot()
    assert all(torch.equal(value, after.adapter[name]) for name, value in before.adapter.items())
    assert not session.objective.unet.is_gradient_checkpointing


def test_a_choice_for_another_precision_is_measured_anew() -> None:
    decisions = Decisions("mps", "no", 1, {"precision": "fp16 computes wrong"}, micro_batch=2)
    found = by_choice(decisions, KeptChoice(precision="bf16", micro_batch=4, checkpointing="off", reason="fast"))
    assert (found.precision, found.reasons["precision"]) == ("no", "fp16 computes wrong")

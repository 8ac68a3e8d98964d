"""A device that computes wrong is found before the training, and a safer precision is taken."""

from dataclasses import replace

import pytest
import torch

from shoes.device import DeviceFacts
from shoes.device.parity import TOLERANCES, Outcome, compare, find_right_precision, in_words, relative_error
from shoes.errors import TrainingError

MAC = DeviceFacts(device_name="Apple M4", mps=True, mps_built=True, macos_version="15.1", torch_version="2.13.0")
CPU = DeviceFacts(device_name="a processor")


def outcome(seed: int = 0) -> Outcome:
    draw = torch.Generator().manual_seed(seed)
    prediction, picture = torch.randn(1, 4, 8, 8, generator=draw), torch.randn(1, 3, 64, 64, generator=draw)
    return Outcome(0.1, prediction, torch.randn(1000, generator=draw), picture)


class Devices:
    """Computes right, except where it is told what goes wrong; remembers what it was asked."""

    def __init__(self, **wrong: object) -> None:
        self.wrong = wrong
        self.asked: list[tuple[str, str]] = []

    def __call__(self, device: str, precision: str) -> Outcome:
        self.asked.append((device, precision))
        change = self.wrong.get(f"{device}_{precision}")
        if isinstance(change, Exception):
            raise change
        return replace(outcome(), **change) if isinstance(change, dict) else outcome()


NAN = {"prediction": torch.full((1, 4, 8, 8), torch.nan), "loss": float("nan")}
FIVE_PERCENT = {"prediction": outcome().prediction * 1.05}


def test_fp32_on_the_cpu_needs_no_check() -> None:
    devices = Devices()
    assert find_right_precision(devices, "cpu", "no", CPU) == ()
    assert devices.asked == []
    assert in_words(()) == ""


@pytest.mark.parametrize("precision", ["fp16", "bf16", "no"])
def test_a_device_that_is_right_stays(precision: str) -> None:
    (trial,) = find_right_precision(Devices(), "mps", precision, MAC)
    assert trial.passed
    assert (trial.device, trial.precision, trial.prediction_error) == ("mps", precision, 0.0)


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"mps_fp16": NAN}, ["mps fp16", "mps bf16"]),
        ({"mps_fp16": NAN, "mps_bf16": FIVE_PERCENT}, ["mps fp16", "mps bf16", "mps no"]),
        ({"mps_fp16": NAN, "mps_bf16": NAN, "mps_no": FIVE_PERCENT}, ["mps fp16", "mps bf16", "mps no", "cpu no"]),
        ({"mps_fp16": NotImplementedError("aten::foo")}, ["mps fp16", "mps bf16"]),
    ],
)
def test_the_next_safer_precision_is_tried_until_one_is_right(wrong, path: list[str]) -> None:
    trials = find_right_precision(Devices(**wrong), "mps", "fp16", MAC)
    assert [f"{trial.device} {trial.precision}" for trial in trials] == path
    assert [trial.passed for trial in trials] == [False] * (len(path) - 1) + [True]


def test_the_reference_is_computed_once() -> None:
    devices = Devices(mps_fp16=NAN, mps_bf16=NAN, mps_no=NAN)
    find_right_precision(devices, "mps", "fp16", MAC)
    assert devices.asked.count(("cpu", "no")) == 1


def test_the_words_name_what_was_wrong_and_what_was_taken() -> None:
    trials = find_right_precision(Devices(mps_fp16=NAN, mps_bf16=FIVE_PERCENT), "mps", "fp16", MAC)
    assert in_words(trials) == (
        "mps in fp16 computes wrong (the loss is not finite; the predicted noise is not finite); "
        "mps in bf16 computes wrong (the predicted noise is 5.0% off, 3.0% are allowed); so mps in fp32 was taken"
    )


def test_each_fallback_is_told_as_it_happens(caplog: pytest.LogCaptureFixture) -> None:
    find_right_precision(Devices(mps_bf16=NAN, mps_no=NAN), "mps", "bf16", MAC)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert [line.split(":")[0] for line in warnings] == [
        "mps in bf16 computes wrong",
        "mps in fp32 computes wrong",
        "training on the CPU in fp32",
    ]


@pytest.mark.parametrize("part", ["loss", "prediction", "gradients", "picture"])
@pytest.mark.parametrize("precision", ["no", "fp16", "bf16"])
def test_each_part_has_a_limit_of_its_own(part: str, precision: str) -> None:
    right, limit = outcome(), getattr(TOLERANCES[precision], part)

    def off_by(error: float) -> Outcome:
        return replace(right, **{part: getattr(right, part) * (1 + error)})

    assert compare(off_by(0.9 * limit), right, "mps", precision).passed
    assert not compare(off_by(1.1 * limit), right, "mps", precision).passed
    assert not compare(off_by(float("inf")), right, "mps", precision).passed


def test_the_tolerance_grows_with_the_rounding() -> None:
    limits = [TOLERANCES[precision].prediction for precision in ("no", "fp16", "bf16")]
    assert limits == sorted(limits)
    assert limits[-1] < 0.05


def test_a_picture_of_noise_instead_of_the_photo_is_wrong() -> None:
    assert relative_error(outcome(1).picture, outcome(0).picture) > 1
    trial = compare(replace(outcome(), picture=outcome(1).picture), outcome(), "mps", "no")
    assert "the picture is" in trial.verdict


def test_too_little_memory_is_an_error_and_no_fallback() -> None:
    devices = Devices(mps_bf16=RuntimeError("MPS backend out of memory (MPS allocated: 20 GB)"))
    with pytest.raises(TrainingError, match="gradient_checkpointing full"):
        find_right_precision(devices, "mps", "bf16", MAC)

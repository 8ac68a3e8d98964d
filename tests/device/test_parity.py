"""A device that computes wrong is found before the training, and a safer precision is taken."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from shoes.device import DeviceFacts
from shoes.device.parity import (
    PARTS,
    Outcome,
    Way,
    compare,
    find_right_way,
    in_words,
    measured_parts,
    relative_error,
    safer_way,
    worst_error,
)
from shoes.errors import TrainingError

MAC = DeviceFacts(device_name="Apple M4", mps=True, mps_built=True, macos_version="15.1", torch_version="2.13.0")
CPU = DeviceFacts(device_name="a processor")
MPS = Way("mps", "fp16", "off", micro_batch=4)
Values = Mapping[str, tuple[torch.Tensor, ...]]


def values(seed: int = 0) -> dict[str, tuple[torch.Tensor, ...]]:
    draw = torch.Generator().manual_seed(seed)
    return {name: (torch.randn(100, generator=draw), torch.randn(50, generator=draw)) for name in PARTS}


def off_by(error: float, *names: str) -> Values:
    """Values whose second tensors are wrong in these parts, and in all where none is named."""
    right = values()
    return {name: (right[name][0], right[name][1] * (1 + error)) for name in names or PARTS}


class Devices:
    """Computes right, except where it is told what goes wrong; remembers what it was asked."""

    def __init__(self, **wrong: Any) -> None:
        self.wrong = wrong
        self.asked: list[Way] = []

    def __call__(self, way: Way) -> Outcome:
        self.asked.append(way)
        change = self.wrong.get(f"{way.device}_{way.precision}", {})
        if isinstance(change, Exception):
            raise change
        if isinstance(change, str):
            return Outcome({}, {"gradient": change})
        return Outcome({**values(), **change})


NAN = off_by(float("nan"), "loss", "prediction")
FIVE_PERCENT = off_by(0.05, "prediction")


def find(devices: Devices, device: str, precision: str, facts: DeviceFacts = MAC):
    return find_right_way(devices, Way(device, precision), facts)


def test_fp32_on_the_cpu_needs_no_check() -> None:
    devices = Devices()
    assert find(devices, "cpu", "no", CPU) == ()
    assert devices.asked == []
    assert in_words(()) == ""


@pytest.mark.parametrize("precision", ["fp16", "bf16", "no"])
def test_a_device_that_is_right_stays(precision: str) -> None:
    (trial,) = find(Devices(), "mps", precision)
    assert trial.passed
    assert (trial.device, trial.precision, trial.prediction_error) == ("mps", precision, 0.0)


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"mps_fp16": NAN}, ["mps fp16", "mps bf16"]),
        ({"mps_fp16": NAN, "mps_bf16": FIVE_PERCENT}, ["mps fp16", "mps bf16", "mps no"]),
        ({"mps_fp16": NAN, "mps_bf16": NAN, "mps_no": FIVE_PERCENT}, ["mps fp16", "mps bf16", "mps no", "cpu no"]),
        ({"mps_fp16": "fails (NotImplementedError: aten::foo)"}, ["mps fp16", "mps bf16"]),
    ],
)
def test_the_next_safer_precision_is_tried_until_one_is_right(wrong, path: list[str]) -> None:
    trials = find(Devices(**wrong), "mps", "fp16")
    assert [f"{trial.device} {trial.precision}" for trial in trials] == path
    assert [trial.passed for trial in trials] == [False] * (len(path) - 1) + [True]


def test_the_words_name_what_was_wrong_and_what_was_taken() -> None:
    trials = find(Devices(mps_fp16=NAN, mps_bf16=FIVE_PERCENT), "mps", "fp16")
    assert in_words(trials) == (
        "mps in fp16 computes wrong (the loss is not finite; the predicted noise is not finite); "
        "mps in bf16 computes wrong (the predicted noise is 5.0% off, 3.0% are allowed); so mps in fp32 was taken"
    )


def test_each_fallback_is_told_as_it_happens(caplog: pytest.LogCaptureFixture) -> None:
    find(Devices(mps_bf16=NAN, mps_no=NAN), "mps", "bf16")
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert [line.split(":")[0] for line in warnings] == [
        "mps in bf16 computes wrong",
        "mps in fp32 computes wrong",
        "training on the CPU in fp32",
    ]


def compared(part: str, error: float, precision: str, *, is_tf32: bool = False):
    return compare(Outcome(off_by(error, part), is_tf32=is_tf32), Outcome(values()), Way("cuda", precision))


@pytest.mark.parametrize("precision", ["no", "fp16", "bf16"])
@pytest.mark.parametrize("is_tf32", [False, True])
def test_each_part_has_a_limit_of_its_own(precision: str, is_tf32: bool) -> None:
    for part in PARTS:
        limit = PARTS[part].tolerance.limit(precision, is_tf32=is_tf32)
        assert compared(part, 0.9 * limit, precision, is_tf32=is_tf32).passed
        for error in (1.1 * limit, float("nan"), float("inf")):
            trial = compared(part, error, precision, is_tf32=is_tf32)
            assert (trial.passed, trial.wrong) == (False, (part,))
            assert trial.verdict.startswith(PARTS[part].words.format(size=1))


def test_the_limits_are_those_of_what_is_computed_in() -> None:
    for part, found in PARTS.items():
        fp32, tf32 = (found.tolerance.limit("no", is_tf32=is_tf32) for is_tf32 in (False, True))
        fp16, bf16 = (found.tolerance.limit(precision, is_tf32=True) for precision in ("fp16", "bf16"))
        assert fp32 <= tf32 <= fp16 <= bf16
        if part in ("text", "encode", "decode", "optimizer"):  # these are in fp32 whatever the precision
            assert fp16 == bf16 == tf32
            assert found.tolerance.limit("bf16", is_tf32=False) == fp32


def test_the_worst_tensor_counts() -> None:
    right = (torch.ones(3), torch.ones(2))
    assert worst_error((torch.ones(3), torch.full((2,), 1.5)), right) == 0.5
    assert torch.tensor(worst_error((torch.full((3,), torch.nan), torch.ones(2)), right)).isnan()
    assert relative_error(values(1)["decode"][0], values()["decode"][0]) > 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["prediction", "batch_prediction", "held_out", "sampling"], ["the predicted noise is 50"]),
        (["held_out", "sampling"], ["the predicted noise without gradients is 50"]),
        (["sampling"], ["what is sampled is 50"]),
        (["text", "sampling"], ["the text encoder's output is 50"]),
        (["encode", "decode"], ["the VAE's encoding is 50", "the VAE's decoding is 50"]),
        (["batch_gradient"], ["the gradient of 4 images at once is 50"]),
        (["batch_prediction", "batch_gradient"], ["the predicted noise of 4 images at once is 50"]),
        (["optimizer"], ["the optimizer's update is 50"]),
    ],
)
def test_what_was_wrong_first_is_told_and_what_follows_from_it_is_not(wrong: list[str], told: list[str]) -> None:
    trial = compare(Outcome(off_by(0.5, *wrong)), Outcome(values()), MPS)
    assert sorted(trial.wrong) == sorted(wrong)
    assert [text[: len(words)] for text, words in zip(trial.verdict.split("; "), told, strict=True)] == told
    assert set(measured_parts(trial)) == set(wrong)


def at(precision: str, micro_batch: int = 4, *, fused: bool = True, device: str = "mps") -> Way:
    return Way(device, precision, "off", micro_batch, fused)


@pytest.mark.parametrize(
    ("way", "wrong", "next_way"),
    [
        (at("fp16"), ["loss"], at("bf16", 2)),
        (at("bf16"), ["held_out", "sampling"], at("no", 2)),
        (at("no"), ["sampling"], at("no", 2, device="cpu")),
        # the optimizer alone: the same without its fused kernel, and else none of this device's
        (at("fp16"), ["optimizer"], at("fp16", fused=False)),
        (at("fp16", fused=False), ["optimizer"], at("no", 2, device="cpu")),
        (at("fp16"), ["optimizer", "prediction"], at("bf16", 2, fused=False)),
        # a micro-batch that is wrong as a whole: smaller ones, and then what would help against one image
        (at("no"), ["batch_gradient"], at("no", 2)),
        (at("no"), ["batch_prediction", "batch_gradient", "optimizer"], at("no", 2, fused=False)),
        (at("no", 2), ["batch_prediction"], at("no", 1)),
        (at("bf16"), ["batch_gradient", "gradient"], at("no", 2)),
        # what is in fp32 in every precision
        (at("fp16"), ["text"], at("no", 2, device="cpu")),
        (at("fp16"), ["encode", "optimizer"], at("no", 2, device="cpu")),
        (at("bf16"), ["decode", "prediction"], at("no", 2, device="cpu")),
        # a CPU in bf16
        (at("bf16", device="cpu"), ["gradient"], at("no", 2, device="cpu")),
    ],
)
def test_the_least_is_changed_that_can_help(way: Way, wrong: list[str], next_way: Way) -> None:
    def plan(device: str, precision: str) -> Way:
        return at(precision, 2, device=device)

    assert safer_way(way, wrong, MAC, plan) == next_way


class Faulty(Devices):
    """Some parts are wrong as long as a condition holds."""

    def __init__(self, part: str, when) -> None:
        super().__init__()
        self.part, self.when = part, when

    def __call__(self, way: Way) -> Outcome:
        super().__call__(way)
        is_wrong = not way.is_reference and self.when(way)
        return Outcome({**values(), **off_by(0.5, self.part)} if is_wrong else values())


@pytest.mark.parametrize(
    ("devices", "end"),
    [
        (Faulty("optimizer", lambda way: way.fused_optimizer), "mps in fp16 with AdamW without its fused kernel"),
        (Faulty("batch_gradient", lambda way: way.micro_batch > 1), "mps in fp16 with micro-batches of 1"),
        (Faulty("held_out", lambda way: way.precision == "fp16"), "mps in bf16"),
        (Faulty("encode", lambda way: way.device == "mps"), "cpu in fp32"),
    ],
)
def test_the_words_say_what_was_changed(devices: Devices, end: str) -> None:
    trials = find_right_way(devices, MPS, MAC)
    assert in_words(trials).endswith(f"; so {end} was taken")
    assert {trial.device_name for trial in trials} == {"Apple M4"}
    assert trials[-1].passed
    taken = trials[-1]
    if taken.device == "mps":  # what was taken is what was tried
        tried = devices.asked[-1]
        assert (tried.precision, tried.micro_batch, tried.fused_optimizer) == (
            taken.precision,
            taken.micro_batch,
            taken.fused_optimizer,
        )


def test_every_ladder_ends() -> None:
    for part in PARTS:
        for fused in (True, False):
            way = replace(MPS, micro_batch=16, fused_optimizer=fused)
            trials = find_right_way(Faulty(part, lambda way: True), way, MAC)
            assert (trials[-1].device, trials[-1].precision) == ("cpu", "no")


def test_too_little_memory_is_an_error_and_no_fallback() -> None:
    with pytest.raises(TrainingError, match="gradient_checkpointing full"):
        find(Devices(mps_bf16=TrainingError("train with --train.gradient_checkpointing full")), "mps", "bf16")

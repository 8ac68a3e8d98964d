"""Device decisions are functions of measured facts."""

import pytest

from shoes.device import DeviceFacts, choose_device, choose_precision
from shoes.errors import ConfigurationError


def facts(cuda: bool = False, bf16: bool = False, mps: bool = False) -> DeviceFacts:
    return DeviceFacts(cuda=cuda, cuda_bf16=bf16, mps=mps, device_name="a device", torch_version="2.13")


@pytest.mark.parametrize(
    ("wanted", "found", "device"),
    [
        ("auto", facts(), "cpu"),
        ("auto", facts(mps=True), "mps"),
        ("auto", facts(cuda=True, mps=True), "cuda"),
        ("cpu", facts(cuda=True), "cpu"),
        ("mps", facts(mps=True), "mps"),
    ],
)
def test_the_device(wanted, found: DeviceFacts, device: str) -> None:
    decision = choose_device(wanted, found)
    assert decision.value == device
    assert decision.reason


@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_with_the_fix(wanted) -> None:
    with pytest.raises(ConfigurationError, match="device auto"):
        choose_device(wanted, facts())


@pytest.mark.parametrize(
    ("wanted", "device", "found", "precision"),
    [
        ("auto", "cuda", facts(cuda=True, bf16=True), "bf16"),
        ("auto", "cuda", facts(cuda=True), "no"),
        ("auto", "mps", facts(mps=True), "no"),
        ("auto", "cpu", facts(), "no"),
        ("bf16", "cpu", facts(), "bf16"),
    ],
)
def test_the_precision(wanted, device: str, found: DeviceFacts, precision: str) -> None:
    decision = choose_precision(wanted, device, found)
    assert decision.value == precision
    assert decision.reason

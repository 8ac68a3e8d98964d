"""A stop request waits for the end of the step and is then handed on."""

import signal

import pytest

from shoes.training.signals import Interrupted, StopRequest, stop_between_steps


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_held_back_and_handed_on(number: signal.Signals) -> None:
    received: list[int] = []
    former = signal.signal(number, lambda n, _frame: received.append(n))
    try:
        with stop_between_steps(stop := StopRequest()):
            assert not stop
            signal.raise_signal(number)
            assert stop
            assert received == []
            with pytest.raises(Interrupted):
                stop.heed()
        assert received == [number]
    finally:
        signal.signal(number, former)


def test_without_a_signal_nothing_happens() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_between_steps(stop := StopRequest()):
        stop.heed()
    assert not stop
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_is_ignored_stays_so() -> None:
    """A script that starts a training in the background lets it ignore SIGINT; it must not end half-trained."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_between_steps(stop := StopRequest()):
            signal.raise_signal(signal.SIGINT)
            assert not stop
    finally:
        signal.signal(signal.SIGINT, former)

"""Timing never ends a training, and says nothing that it does not know."""

import pytest
import torch

from shoes.training.stopwatch import Stopwatch
from tests.emulated.mps import Event

WRONG_WAY_ROUND = RuntimeError("End event 7 was not recorded after start event 6")


def times_of(watch: Stopwatch) -> dict[str, float]:
    for name in ("data", "forward", "data"):
        with watch.part(name):
            pass
    return watch.seconds()


@pytest.mark.parametrize("method", ["__init__", "record", "elapsed_time"])
def test_an_event_that_raises_ends_nothing(mps, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    watch = Stopwatch("mps")

    def fail(*args: object, **kwargs: object) -> float:
        raise WRONG_WAY_ROUND

    with watch.part("optimizer"):
        pass
    with monkeypatch.context() as broken:
        broken.setattr(Event, method, fail)
        if method == "elapsed_time":
            assert times_of(watch) == {}
            return
        assert times_of(watch).keys() == {"optimizer"}


def test_an_error_of_the_step_is_not_hidden_by_one_of_the_stopwatch(mps, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Event) -> None:
        raise WRONG_WAY_ROUND

    monkeypatch.setattr(Event, "record", fail)
    with pytest.raises(torch.OutOfMemoryError, match="full"), Stopwatch("mps").part("forward"):
        raise torch.OutOfMemoryError("full")


@pytest.mark.parametrize(("milliseconds", "known"), [(-0.1, False), (float("nan"), False), (0.0, True), (250.0, True)])
def test_a_part_with_a_piece_of_no_length_is_left_out(mps, monkeypatch, milliseconds: float, known: bool) -> None:
    lengths = iter([10.0, 20.0, milliseconds])
    monkeypatch.setattr(Event, "elapsed_time", lambda self, end: next(lengths))
    expected = {"forward": 0.02} | ({"data": (10.0 + milliseconds) / 1000} if known else {})
    assert times_of(Stopwatch("mps")) == pytest.approx(expected)


def test_on_mps_nothing_waits_for_an_event_but_its_time(mps, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch 2.13 may never come back from elapsed_time behind synchronize (pytorch#196395)."""
    monkeypatch.setattr(Event, "synchronize", lambda self: pytest.fail("waited for"))
    assert times_of(Stopwatch("mps")).keys() == {"data", "forward"}


def test_the_cpu_s_own_clock_times_the_cpu() -> None:
    times = times_of(Stopwatch("cpu"))
    assert times.keys() == {"data", "forward"}
    assert all(seconds >= 0 for seconds in times.values())

"""Progress that a person can read, on a terminal and in a log."""

import logging

import pytest

from shoes.progress import duration, progress


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (4.25, "4.2 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_times_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_log_gets_few_lines_and_the_last_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "shoes"), progress("training") as report:
        for step in range(1, 101):
            report(step, 100, "loss 0.1")
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("training: 100 of 100 steps")
    assert caplog.messages[0].endswith("loss 0.1")

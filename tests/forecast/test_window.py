"""When the night starts and has to end."""

from datetime import datetime, timedelta, timezone

import pytest

from shoes.forecast.window import end_of, start_of
from shoes.spec import WindowSpec

ZONE = timezone(timedelta(hours=-3))
NIGHT = WindowSpec(starts="22:00", ends="07:00")
DAY = WindowSpec(starts="09:00", ends="17:00")


def at(day: int, clock: str) -> datetime:
    hour, minute = map(int, clock.split(":"))
    return datetime(2026, 3, day, hour, minute, tzinfo=ZONE)


@pytest.mark.parametrize(
    ("window", "now", "start", "end"),
    [
        (NIGHT, at(1, "21:40"), at(1, "22:00"), at(2, "07:00")),
        (NIGHT, at(1, "23:10"), at(1, "23:10"), at(2, "07:00")),
        (NIGHT, at(2, "03:00"), at(2, "03:00"), at(2, "07:00")),
        (NIGHT, at(2, "07:00"), at(2, "22:00"), at(3, "07:00")),
        (DAY, at(1, "08:00"), at(1, "09:00"), at(1, "17:00")),
        (DAY, at(1, "12:00"), at(1, "12:00"), at(1, "17:00")),
        (DAY, at(1, "18:00"), at(2, "09:00"), at(2, "17:00")),
        (WindowSpec(), at(1, "18:00"), at(1, "18:00"), None),
        (WindowSpec(ends="07:00"), at(1, "18:00"), at(1, "18:00"), at(2, "07:00")),
        (WindowSpec(ends="07:00"), at(1, "07:00"), at(1, "07:00"), at(2, "07:00")),
        (WindowSpec(ends="07:00"), at(1, "06:00"), at(1, "06:00"), at(1, "07:00")),
    ],
)
def test_the_night_starts_when_its_window_is_open_and_ends_with_it(
    window: WindowSpec, now: datetime, start: datetime, end: datetime | None
) -> None:
    assert start_of(window, now) == start
    assert end_of(window, start) == end


@pytest.mark.parametrize("clock", ["7:00", "24:00", "07:60", "soon"])
def test_a_clock_time_that_is_none_is_refused(clock: str) -> None:
    with pytest.raises(ValueError, match="hours and minutes"):
        WindowSpec(ends=clock)


def test_a_window_without_any_time_in_it_is_refused() -> None:
    with pytest.raises(ValueError, match="both 22:00"):
        WindowSpec(starts="22:00", ends="22:00")

"""When the night starts and has to end."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from shoes import clock
from shoes.forecast.window import end_of, held_back, is_inside, next_start, start_of
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


BERLIN = "Europe/Berlin"
"""The clock is put forward on 29 March 2026, from 02:00 to 03:00, and back on 25 October, from 03:00 to 02:00."""
CAIRO = "Africa/Cairo"
"""Midnight itself is skipped on 24 April 2026."""


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def on(text: str, zone: str = BERLIN) -> datetime:
    """A moment given in UTC, by a zone's clock."""
    return utc(text).astimezone(ZoneInfo(zone))


def hours(starts: str, ends: str, zone: str = BERLIN) -> WindowSpec:
    return WindowSpec(starts=starts, ends=ends, timezone=zone)


@pytest.mark.parametrize(
    ("window", "day_before", "start", "end"),
    [
        # the usual night over the change: an hour shorter in spring, an hour longer in autumn
        (hours("22:00", "07:00"), "2026-03-28T12:00", "2026-03-28T21:00", "2026-03-29T05:00"),
        (hours("22:00", "07:00"), "2026-10-24T12:00", "2026-10-24T20:00", "2026-10-25T06:00"),
        # a start in the hour that is skipped: when Prefect's cron fires, at what is still 01:30
        (hours("02:30", "07:00"), "2026-03-28T12:00", "2026-03-29T00:30", "2026-03-29T05:00"),
        # an end in it: as if the clock had not been put forward
        (hours("22:00", "02:30"), "2026-03-28T12:00", "2026-03-28T21:00", "2026-03-29T01:30"),
        # start and end in the hour that comes twice: the first time of each
        (hours("02:30", "07:00"), "2026-10-24T12:00", "2026-10-25T00:30", "2026-10-25T06:00"),
        (hours("22:00", "02:30"), "2026-10-24T12:00", "2026-10-24T20:00", "2026-10-25T00:30"),
        # a whole window in either
        (hours("02:10", "02:50"), "2026-10-24T12:00", "2026-10-25T00:10", "2026-10-25T00:50"),
        (hours("00:00", "07:00", CAIRO), "2026-04-23T12:00", "2026-04-23T21:00", "2026-04-24T04:00"),
    ],
)
def test_a_night_over_a_change_of_the_clock(window: WindowSpec, day_before: str, start: str, end: str) -> None:
    zone = window.timezone or ""
    opens = next_start(window, on(day_before, zone))
    assert opens.astimezone(UTC) == utc(start)
    assert end_of(window, opens).astimezone(UTC) == utc(end)
    last = timedelta(minutes=1)
    for moment, is_open in ((utc(start) - last, False), (utc(start), True), (utc(end) - last, True), (utc(end), False)):
        assert is_inside(window, moment.astimezone(ZoneInfo(zone))) is is_open, moment


def test_the_start_is_when_prefects_cron_fires() -> None:
    from prefect.server.schemas.schedules import CronSchedule

    for zone, cron, window in (
        (BERLIN, "30 2 * * *", hours("02:30", "07:00")),
        (BERLIN, "0 22 * * *", hours("22:00", "07:00")),
        (CAIRO, "0 0 * * *", hours("00:00", "07:00", CAIRO)),
        ("America/New_York", "30 1 * * *", hours("01:30", "06:00", "America/New_York")),
    ):
        for month, day in ((3, 6), (3, 27), (4, 22), (10, 23), (10, 30)):
            now = datetime(2026, month, day, 12, tzinfo=ZoneInfo(zone))
            fires = list(CronSchedule(cron=cron, timezone=zone)._get_dates_generator(n=4, start=now))
            ours = [now]
            while len(ours) < 5:
                ours.append(next_start(window, ours[-1]))
            assert [m.astimezone(UTC) for m in ours[1:]] == [m.astimezone(UTC) for m in fires], (zone, cron, now)


@pytest.mark.parametrize("window", [hours("22:00", "07:00"), hours("02:30", "02:20"), hours("02:10", "02:50")])
@pytest.mark.parametrize("first", ["2026-03-27T00:00", "2026-10-23T00:00"])
def test_minute_by_minute_a_window_opens_once_a_day_and_closes_at_its_end(window: WindowSpec, first: str) -> None:
    moments = [clock.later(on(first), 60 * minute) for minute in range(4 * 24 * 60)]
    opened = [b for a, b in pairwise(moments) if is_inside(window, b) and not is_inside(window, a)]
    assert len(opened) in (3, 4)
    for moment in opened:
        assert held_back(window, clock.later(moment, -60)).astimezone(UTC) == moment.astimezone(UTC)
        end = end_of(window, moment)
        assert is_inside(window, clock.later(end, -60))
        assert held_back(window, end) is not None


def test_outside_of_its_window_a_run_is_held_back_until_the_next_start() -> None:
    assert held_back(NIGHT, at(1, "23:10")) is None
    assert held_back(NIGHT, at(2, "07:00")) == at(2, "22:00")
    assert held_back(NIGHT, at(2, "12:00")) == at(2, "22:00")
    assert held_back(WindowSpec(), at(2, "12:00")) is None
    assert held_back(WindowSpec(ends="07:00"), at(2, "12:00")) is None

"""When a night starts and when it has to end: pure functions of the window and the clock.

Times are those of the window's clock, which a change to or from daylight saving time moves: a night that ends at 07:00
is an hour longer or shorter then. Two times of one zone are compared by their wall clocks in Python, so all
comparisons and differences are made in UTC.
"""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from shoes.spec import WindowSpec


def start_of(window: WindowSpec, now: datetime) -> datetime:
    """Now, or the next start of the window when now lies outside of it. `now` is aware."""
    if window.starts is None or is_inside(window, now):
        return now
    return _next(_here(window, now), _clock(window.starts))


def end_of(window: WindowSpec, start: datetime) -> datetime | None:
    """The first end of the window after `start`; None where the window has no end."""
    return None if window.ends is None else _next(_here(window, start), _clock(window.ends))


def is_inside(window: WindowSpec, now: datetime) -> bool:
    """Whether the window is open; one over midnight is. Without a start or an end it always is."""
    if window.starts is None or window.ends is None:
        return True
    clock, opens, closes = _here(window, now).time(), _clock(window.starts), _clock(window.ends)
    return opens <= clock < closes if opens < closes else clock >= opens or clock < closes


def _here(window: WindowSpec, moment: datetime) -> datetime:
    """A moment by the window's clock."""
    return moment.astimezone(ZoneInfo(window.timezone)) if window.timezone else moment


def _next(now: datetime, clock: time) -> datetime:
    """The next time that a wall clock shows `clock`, strictly after `now`.

    A time that daylight saving skips is taken as the moment at which the clock is put forward and past it; of one that
    comes twice, the first.
    """
    today = datetime.combine(now.date(), clock, tzinfo=now.tzinfo)
    tomorrow = datetime.combine(now.date() + timedelta(days=1), clock, tzinfo=now.tzinfo)
    return today if today.astimezone(UTC) > now.astimezone(UTC) else tomorrow


def _clock(text: str) -> time:
    return time.fromisoformat(text)

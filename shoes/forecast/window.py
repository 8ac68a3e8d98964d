"""When a night starts and when it has to end: pure functions of the window and the clock."""

from datetime import datetime, time, timedelta

from shoes.spec import WindowSpec


def start_of(window: WindowSpec, now: datetime) -> datetime:
    """Now, or the next start of the window when now lies outside of it. `now` is aware; local time counts."""
    if window.starts is None or is_inside(window, now):
        return now
    return _next(now, _clock(window.starts))


def end_of(window: WindowSpec, start: datetime) -> datetime | None:
    """The first end of the window after `start`; None where the window has no end."""
    return None if window.ends is None else _next(start, _clock(window.ends))


def is_inside(window: WindowSpec, now: datetime) -> bool:
    """Whether the window is open; one over midnight is. Without a start or an end it always is."""
    if window.starts is None or window.ends is None:
        return True
    clock, opens, closes = now.timetz().replace(tzinfo=None), _clock(window.starts), _clock(window.ends)
    return opens <= clock < closes if opens < closes else clock >= opens or clock < closes


def _next(now: datetime, clock: time) -> datetime:
    """The next time that a wall clock shows `clock`, strictly after `now`."""
    today = datetime.combine(now.date(), clock, tzinfo=now.tzinfo)
    return today if today > now else datetime.combine(now.date() + timedelta(days=1), clock, tzinfo=now.tzinfo)


def _clock(text: str) -> time:
    return time.fromisoformat(text)

"""When a night starts and when it has to end: pure functions of the window and the clock.

Times are those of the window's clock, which a change to or from daylight saving time moves: a night that ends at 07:00
is an hour longer or shorter then. Two times of one zone are compared by their wall clocks in Python, so all
comparisons and differences are made in UTC.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from shoes.spec import WindowSpec


def start_of(window: WindowSpec, now: datetime) -> datetime:
    """Now, or the next start of the window when now lies outside of it. `now` is aware."""
    return held_back(window, now) or now


def end_of(window: WindowSpec, start: datetime) -> datetime | None:
    """The first end of the window after `start`; None where the window has no end."""
    return None if window.ends is None else _first_after(start, _ends(window, start))


def is_inside(window: WindowSpec, now: datetime) -> bool:
    """Whether the window is open; one over midnight is. Without a start or an end it always is.

    Open is what lies between a start and the first end after it: an end that daylight saving time shows twice closes
    the window the first time, and a start that it shows twice opens it once.
    """
    if window.starts is None or window.ends is None:
        return True
    opened = max((start for start in _starts(window, now) if _utc(start) <= _utc(now)), key=_utc)
    closes = end_of(window, opened)
    return closes is not None and _utc(now) < _utc(closes)


def held_back(window: WindowSpec, now: datetime) -> datetime | None:
    """When what may not start now may start: the window's next start; None while the window is open."""
    return None if is_inside(window, now) else next_start(window, now)


def next_start(window: WindowSpec, now: datetime) -> datetime:
    """The first start of the window after now; it must have one."""
    assert window.starts is not None
    return _first_after(now, _starts(window, now))


def _starts(window: WindowSpec, now: datetime) -> Iterator[datetime]:
    """Starts of the days around now.

    One that daylight saving time skips comes as if the clock had been put forward a day before, which is when
    Prefect's cron starts a run: 02:30 at what is still 01:30. Of one that comes twice, the first.
    """
    assert window.starts is not None
    for moment in _around(window, now, window.starts):
        is_skipped = _shown(moment).replace(tzinfo=None) != moment.replace(tzinfo=None)
        yield _shown(moment.replace(fold=1) if is_skipped else moment)


def _ends(window: WindowSpec, now: datetime) -> Iterator[datetime]:
    """Ends of the days around now; one that is skipped comes as if the clock were not put forward: 02:30 at 03:30."""
    assert window.ends is not None
    return (_shown(moment) for moment in _around(window, now, window.ends))


def _around(window: WindowSpec, now: datetime, clock: str) -> Iterator[datetime]:
    """The clock's time on the days around now, in the window's zone; some may not exist."""
    here = now.astimezone(ZoneInfo(window.timezone)) if window.timezone else now
    for days in range(-2, 3):
        yield datetime.combine(here.date() + timedelta(days=days), time.fromisoformat(clock), tzinfo=here.tzinfo)


def _first_after(now: datetime, moments: Iterator[datetime]) -> datetime:
    return min((moment for moment in moments if _utc(moment) > _utc(now)), key=_utc)


def _shown(moment: datetime) -> datetime:
    """The moment as a clock shows it, also where daylight saving time skips what it says."""
    return moment.astimezone(UTC).astimezone(moment.tzinfo)


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)

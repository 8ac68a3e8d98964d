"""What time it is, asked in one place: a night of nine hours can be tried in seconds, and a clock that jumps too."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo


def now(timezone: str | None = None) -> datetime:
    """The time, aware: in a time zone by its IANA name, or in this machine's own."""
    return datetime.now(ZoneInfo(timezone or local_timezone()))


def local_timezone() -> str:
    """IANA name of this machine's time zone, such as America/Sao_Paulo; UTC where it has none."""
    from tzlocal import get_localzone_name

    return get_localzone_name() or "UTC"


def later(moment: datetime, seconds: float) -> datetime:
    """The moment so many seconds after another one, by the same clock.

    Python adds to what a wall clock shows, which is an hour off across a change of daylight saving time.
    """
    return (moment.astimezone(UTC) + timedelta(seconds=seconds)).astimezone(moment.tzinfo)


def seconds_between(start: datetime, end: datetime) -> float:
    """Seconds that pass from one moment to another."""
    return (end.astimezone(UTC) - start.astimezone(UTC)).total_seconds()

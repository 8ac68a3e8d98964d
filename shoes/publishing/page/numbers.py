"""Numbers as people read them: a true minus sign, and no more digits than are known."""

from datetime import datetime

from shoes.reports import Distance, Interval

NOTHING = "–"


def signed(value: float, digits: int = 2) -> str:
    """+1.23 or −1.23; plain 0.00 for what rounds to nothing."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def plain(value: float | None, digits: int = 2) -> str:
    """1.23, and a dash for what was not measured."""
    return NOTHING if value is None else f"{value:.{digits}f}".replace("-", "−")


def interval(value: Interval | None, digits: int = 2) -> str:
    """+1.23 (+0.50 to +1.96)."""
    if value is None:
        return NOTHING
    mean, low, high = (signed(number, digits) for number in (value.mean, value.low, value.high))
    return f"{mean} ({low} to {high})"


def distance(value: Distance | None) -> str:
    """12.3 ± 1.4, two standard errors."""
    if value is None:
        return NOTHING
    return f"{plain(value.value)} ± {plain(2 * value.standard_error)}"


def margin(standard_error: float | None) -> float:
    """Two standard errors; nothing to draw where there is none."""
    return 0.0 if standard_error is None else 2 * standard_error


def percent(value: float) -> str:
    """A share: 12.5 %."""
    return f"{100 * value:.1f} %"


def when(moment: datetime) -> str:
    """Day and time on this machine's clock."""
    return f"{moment.astimezone():%a %d %b %Y, %H:%M}"


def day(moment: datetime) -> str:
    """Weekday and date on this machine's calendar."""
    return f"{moment.astimezone():%A %d %B %Y}"


def clock(moment: datetime) -> str:
    """Time of day on this machine's clock."""
    return f"{moment.astimezone():%H:%M:%S}"


def sentence(text: str) -> str:
    """A reason that stands alone: with a capital at its beginning and a full stop at its end."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else text

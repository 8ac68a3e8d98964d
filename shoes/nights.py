"""This machine's nights: when the scheduled one starts and ends, what it trains, and whether it is paused.

Kept as `schedule.toml` in the data folder, so that it holds with and without a server; `shoes up` hands it to Prefect.
"""

import tomllib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import Field, ValidationError, model_validator

from shoes import clock
from shoes.errors import ConfigurationError, Problem
from shoes.forecast import window
from shoes.progress import duration
from shoes.spec import ClockTime, Spec, WindowSpec
from shoes.spec.recipe import TimeZone
from shoes.storage import write_text

NightlyRecipe = Literal["overnight", "prototype", "demo"]
"""Recipes whose deployment does the whole night."""
RECIPES: tuple[str, ...] = get_args(NightlyRecipe)
FILE = "schedule.toml"
ABOUT_TO_BEGIN = timedelta(minutes=5)
"""So long before a night its machine is kept awake."""
Night = tuple[datetime, datetime]
"""Start and end of one night, aware."""


class Schedule(Spec):
    """When this machine's nights are."""

    starts: ClockTime = "22:00"
    """Hour and minute at which the night starts."""
    ends: ClockTime = "07:00"
    """Hour and minute at which the machine is needed again."""
    timezone: TimeZone = Field(default_factory=clock.local_timezone)
    """Time zone of both, such as America/Sao_Paulo; this machine's own where nothing else is said."""
    recipe: NightlyRecipe = "overnight"
    """What the night trains."""
    is_paused: bool = False
    """No night starts by itself."""
    is_resumed: bool = False
    """It was resumed since Prefect heard of it last, so what is paused there wakes up as well."""

    @model_validator(mode="after")
    def _be_open_for_some_time(self) -> Self:
        if self.starts == self.ends:
            raise ValueError(f"starts and ends are both {self.starts}: give the night some hours")
        return self

    @property
    def cron(self) -> str:
        """The start as a cron line, to be read in the schedule's time zone."""
        hour, minute = self.starts.split(":")
        return f"{int(minute)} {int(hour)} * * *"

    @property
    def window(self) -> WindowSpec:
        """The hours as a recipe has them."""
        return WindowSpec(starts=self.starts, ends=self.ends, timezone=self.timezone)

    def nights(self, now: datetime, count: int = 3) -> tuple[Night, ...]:
        """The nights that start after now."""
        found: list[Night] = []
        while len(found) < count:
            start = window.next_start(self.window, found[-1][0] if found else now)
            end = window.end_of(self.window, start)
            assert end is not None
            found.append((start, end))
        return tuple(found)


def parse_window(text: str) -> tuple[str, str]:
    """Start and end of a window as people write it: 22:00-07:00.

    Raises:
        ConfigurationError: with everything that is wrong with it.
    """
    parts = [part.strip() for part in text.replace("–", "-").split("-")]
    if len(parts) != 2:
        raise ConfigurationError([Problem(text, "is no window", "write start and end, such as 22:00-07:00")])
    try:
        schedule = Schedule(starts=parts[0], ends=parts[1], timezone="UTC")
    except ValidationError as error:
        raise ConfigurationError(problems_of(error, "write start and end, such as 22:00-07:00")) from error
    return schedule.starts, schedule.ends


def changed(schedule: Schedule, window: str | None, timezone: str | None, recipe: str | None) -> Schedule:
    """The schedule with what a person says in words; what is None stays.

    Raises:
        ConfigurationError: with all that is wrong with any of it.
    """
    problems: list[Problem] = []
    said: dict[str, str] = {name: value for name, value in (("timezone", timezone), ("recipe", recipe)) if value}
    try:
        if window is not None:
            said["starts"], said["ends"] = parse_window(window)
    except ConfigurationError as error:
        problems += error.problems
    try:
        found = Schedule.model_validate({**schedule.model_dump(), **said})
    except ValidationError as error:
        problems += problems_of(error, "correct it")
    if problems:
        raise ConfigurationError(problems)
    return found


def problems_of(error: ValidationError, fix: str) -> list[Problem]:
    """What pydantic found, field by field."""
    return [
        Problem(
            ".".join(map(str, found["loc"])) or "the window",
            f"{found['input']!r} {_told(found['msg'])}" if found["loc"] else _told(found["msg"]),
            fix,
        )
        for found in error.errors()
    ]


def _told(message: str) -> str:
    return message.removeprefix("Value error, ")


def load(data: Path) -> Schedule:
    """The schedule in a data folder; the default one where none was set.

    Raises:
        ConfigurationError: the file can't be read; the message says what to do.
    """
    file = data / FILE
    fix = f"set the hours again, such as `shoes schedule set 22:00-07:00`, which writes {file} anew"
    try:
        return Schedule.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Schedule()
    except ValidationError as error:
        found = [Problem(f"{file}: {p.where}", p.what, fix) for p in problems_of(error, fix)]
        raise ConfigurationError(found) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError([Problem(str(file), f"can't be read: {error}", fix)]) from error


def save(schedule: Schedule, data: Path) -> None:
    """Keep the schedule in a data folder, atomically."""
    import tomli_w

    write_text(data / FILE, tomli_w.dumps(schedule.model_dump(mode="json")))


def is_about_to_begin(schedule: Schedule, now: datetime) -> bool:
    """A night starts by itself within `ABOUT_TO_BEGIN`."""
    starts, _ = schedule.nights(now, 1)[0]
    return not schedule.is_paused and clock.seconds_between(now, starts) <= ABOUT_TO_BEGIN.total_seconds()


def in_words(night: Night) -> str:
    """A night for people: Thursday 26 November, 22:00 to 07:00; with its hours where they are not the usual ones."""
    start, end = night
    usual = (end.replace(tzinfo=None) - start.replace(tzinfo=None)).total_seconds()
    real = clock.seconds_between(start, end)
    moved = "" if real == usual else f", {duration(real)}: the clock is {'set back' if real > usual else 'put forward'}"
    return f"{start:%A} {start.day} {start:%B}, {start:%H:%M} to {end:%H:%M}{moved}"


def next_in_words(window_: WindowSpec, now: datetime) -> str:
    """When the next night starts, as a sentence."""
    opens = window.next_start(window_, now)
    return f"The next one starts on {opens:%A} {opens.day} {opens:%B} at {opens:%H:%M}."


def too_late(window_: WindowSpec, now: datetime) -> str | None:
    """Why a scheduled run may not start now, and when the next one does; None while its window is open."""
    if window.held_back(window_, now) is None:
        return None
    return (
        f"The window {window_.starts} to {window_.ends} is closed: this run waited until "
        f"{now:%H:%M}. Nothing was done, so that nothing trains through the day. {next_in_words(window_, now)} A run "
        "that you start yourself is not held back."
    )


def overrun(ends: datetime | None, now: datetime) -> str | None:
    """What to say of a night whose last stages ran past the window's end; None when it was in time."""
    if ends is None or clock.seconds_between(ends, now) <= 0:
        return None
    late = duration(clock.seconds_between(ends, now))
    return (
        f"Done {late} after the window's end at {ends:%H:%M}: only training stops there; once it is over, choosing, "
        "evaluating, promoting and reporting run to their end."
    )

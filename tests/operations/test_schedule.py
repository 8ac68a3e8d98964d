"""The nights of this machine: what is kept, what is refused, and what `shoes schedule` says without a server."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from flows.operations import up
from shoes import clock, nights
from shoes.environment.power import Power
from shoes.errors import ConfigurationError
from shoes.nights import Schedule, in_words, overrun, parse_window, too_late
from shoes.settings import load_settings
from shoes.spec import WindowSpec
from tests.world import free_port

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 10, 24, 12, tzinfo=BERLIN)
"""Of the day before the clock is put back."""


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing answers where a Prefect server would be."""
    monkeypatch.setenv("SHOES_PREFECT_PORT", str(free_port()))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def schedule(*words: str) -> Result:
    return CliRunner().invoke(main, ["schedule", *words])


def asked(*words: str) -> dict[str, object]:
    return json.loads(schedule(*words, "--json").stdout)


def file_of(own_world: Path) -> Path:
    return own_world / "data" / "schedule.toml"


def test_the_default_night_is_from_ten_to_seven_where_the_machine_is() -> None:
    found = Schedule()
    assert (found.starts, found.ends, found.timezone) == ("22:00", "07:00", clock.local_timezone())
    assert (found.recipe, found.is_paused, found.cron) == ("overnight", False, "0 22 * * *")
    assert found.window == WindowSpec(starts="22:00", ends="07:00", timezone=clock.local_timezone())
    assert Schedule(starts="05:07").cron == "7 5 * * *"


@pytest.mark.parametrize("text", ["22:00-07:00", " 22:00 - 07:00 ", "22:00–07:00"])
def test_a_window_is_read_as_people_write_it(text: str) -> None:
    assert parse_window(text) == ("22:00", "07:00")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("22:00", ["'22:00' is no window|22:00: is no window", "22:00-07:00"]),
        ("", ["is no window"]),
        ("22:00-", ["ends", "hours and minutes"]),
        ("25:00-7", ["starts: '25:00' is no time of day", "ends: '7' is no time of day", "2 problems"]),
        ("22:00-22:00", ["both 22:00", "some hours"]),
        ("22:00-07:00-09:00", ["is no window"]),
    ],
)
def test_a_window_that_is_none_is_told_what_is_wrong(text: str, said: list[str]) -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_window(text)
    for words in said:
        assert any(word in str(error.value) for word in words.split("|")), str(error.value)


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    assert nights.load(tmp_path) == Schedule()
    kept = Schedule(starts="21:30", ends="06:15", timezone="Asia/Tokyo", recipe="demo", is_paused=True)
    nights.save(kept, tmp_path)
    assert nights.load(tmp_path) == kept


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("starts = ", "can't be read"),
        ('starts = "22:00"\nends = "22:00"', "both 22:00"),
        ('starts = "25:00"\ntimezone = "Mars/Olympus"', "Mars/Olympus"),
        ('begins = "22:00"', "begins"),
    ],
)
def test_a_damaged_file_is_told_with_its_fix_and_set_writes_it_anew(own_world: Path, text: str, said: str) -> None:
    file = file_of(own_world)
    file.parent.mkdir()
    file.write_text(text)
    result = schedule("show")
    assert result.exit_code == 2
    assert said in result.output
    assert str(file) in result.output
    assert "shoes schedule set 22:00-07:00" in result.output
    assert schedule("set", "23:00-06:00", "--timezone", "UTC").exit_code == 0
    assert asked("show")["window"] == "23:00-06:00"


def test_the_next_nights_know_when_the_clock_is_moved() -> None:
    coming = Schedule(timezone="Europe/Berlin").nights(NOON)
    assert [in_words(night) for night in coming] == [
        "Saturday 24 October, 22:00 to 07:00, 10 h 0 min: the clock is set back",
        "Sunday 25 October, 22:00 to 07:00",
        "Monday 26 October, 22:00 to 07:00",
    ]
    spring = Schedule(timezone="Europe/Berlin").nights(datetime(2026, 3, 28, 23, tzinfo=BERLIN), 1)[0]
    assert in_words(spring) == "Sunday 29 March, 22:00 to 07:00"
    before = Schedule(timezone="Europe/Berlin").nights(datetime(2026, 3, 28, 12, tzinfo=BERLIN), 1)[0]
    assert in_words(before).endswith("8 h 0 min: the clock is put forward")


def test_a_scheduled_run_that_is_too_late_says_when_the_next_one_starts() -> None:
    window = WindowSpec(starts="22:00", ends="07:00", timezone="Europe/Berlin")
    said = too_late(window, datetime(2026, 10, 25, 9, 12, tzinfo=BERLIN))
    assert said is not None
    for words in ("22:00 to 07:00", "09:12", "Sunday 25 October at 22:00"):
        assert words in said
    assert too_late(window, datetime(2026, 10, 25, 6, 59, tzinfo=BERLIN)) is None
    assert too_late(WindowSpec(), NOON) is None


def test_a_night_that_ends_late_says_so() -> None:
    end = datetime(2026, 10, 25, 7, tzinfo=BERLIN)
    assert overrun(None, NOON) is None
    assert overrun(end, datetime(2026, 10, 25, 6, 50, tzinfo=BERLIN)) is None
    said = overrun(end, datetime(2026, 10, 25, 6, 42, tzinfo=UTC))
    assert said is not None
    assert "42 min 0 s after the window's end at 07:00" in said


def test_without_a_server_the_file_is_kept_and_it_is_said_when_it_holds(own_world: Path) -> None:
    said = schedule("set", "23:30-06:15", "--timezone", "America/Sao_Paulo", "--recipe", "prototype")
    assert said.exit_code == 0
    assert "Nights from 23:30 to 06:15, America/Sao_Paulo; each one runs the recipe prototype." in said.output
    assert "this holds from the next `shoes up`" in said.output
    assert nights.load(own_world / "data") == Schedule(
        starts="23:30", ends="06:15", timezone="America/Sao_Paulo", recipe="prototype"
    )
    found = asked("show")
    assert (found["window"], found["timezone"], found["recipe"]) == ("23:30-06:15", "America/Sao_Paulo", "prototype")
    assert (found["cron"], found["server"], found["is_active"], found["last"]) == ("30 23 * * *", None, None, None)
    assert len(found["next"]) == 3
    assert all(datetime.fromisoformat(night["starts"]).hour == 23 for night in found["next"])
    schedule("set", "22:00-07:00")
    assert nights.load(own_world / "data").recipe == "prototype", "what is not said stays"


def test_a_paused_schedule_has_no_next_nights_until_it_is_resumed(own_world: Path) -> None:
    assert asked("pause")["next"] == []
    said = schedule("show").output
    assert "Paused: no night starts by itself. `shoes schedule resume`" in said
    assert "Next nights" not in said
    assert asked("set", "21:00-05:00")["is_paused"] is True, "set does not wake it"
    assert len(asked("resume")["next"]) == 3
    kept = nights.load(own_world / "data")
    assert (kept.is_paused, kept.is_resumed) == (False, True), "the next `shoes up` wakes what is paused in Prefect"
    schedule("pause")
    assert nights.load(own_world / "data").is_resumed is False


def test_on_a_mac_that_sleeps_it_is_said_how_it_wakes_up(own_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoes.environment.power.read_power", lambda: Power(10, "", False, False))
    said = schedule("set", "23:30-06:15").output
    assert "The system sleeps after 10 idle minutes" in said
    assert "sudo pmset repeat wakeorpoweron MTWRFSU 23:28:00" in said
    assert any("pmset" in note for note in asked("show")["notes"])
    assert "pmset" not in schedule("pause").output, "there is nothing to wake up for"
    monkeypatch.setattr("shoes.environment.power.read_power", broken)
    assert schedule("resume").exit_code == 0


def test_before_a_night_the_machine_is_kept_awake(own_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was woken up two minutes before would sleep again, and the night would not begin."""
    kept: list[datetime] = []

    @contextmanager
    def awake() -> Iterator[None]:
        kept.append(clock.now())
        yield

    monkeypatch.setattr(up, "kept_awake", awake)
    evening = datetime(2026, 11, 27, 21, 0, tzinfo=UTC)
    times = [evening.replace(minute=minute) for minute in (0, 50, 55, 58, 59)]

    def rounds() -> list[int]:
        kept.clear()
        for moment in times:
            monkeypatch.setattr(clock, "now", lambda *_, moment=moment: moment)
            up._stay_awake(load_settings())
        return [moment.minute for moment in kept]

    schedule("set", "22:00-06:00", "--timezone", "UTC")
    assert rounds() == [55, 58, 59]
    schedule("pause")
    assert rounds() == []


def broken() -> Power:
    raise OSError("no such tool")


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_kept(own_world: Path) -> None:
    result = schedule("set", "25:00-7", "--timezone", "America/San_Paulo", "--recipe", "dmeo")
    assert result.exit_code == 2
    for words in ("4 problems", "25:00", "'7'", "did you mean America/Sao_Paulo?", "'dmeo'", "'demo'"):
        assert words in result.output
    assert not file_of(own_world).exists()
    told = json.loads(schedule("set", "22:00", "--json").stdout)
    assert told["problems"][0]["fix"] == "write start and end, such as 22:00-07:00"
    assert schedule("set").exit_code == 2

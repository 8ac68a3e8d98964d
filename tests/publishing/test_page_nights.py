"""Which night `shoes report` tells of, and what it says where there is none."""

import json
import time
import webbrowser
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli import main
from shoes.reports import NightReport
from shoes.storage import write_text
from shoes.tracking.journal import Journal
from tests.publishing import sample_night as sample


def shoes(*words: str):
    return CliRunner().invoke(main, ["report", *words])


@pytest.fixture
def runs(own_world: Path) -> Path:
    return own_world / "data" / "runs"


def keep(night: NightReport) -> NightReport:
    write_text(night.train.run_dir / "night.json", night.model_dump_json())
    return night


@pytest.fixture
def two_nights(runs: Path) -> tuple[NightReport, NightReport]:
    first = keep(sample.night(runs / "first", verdict="The first night."))
    later = first.finished + timedelta(days=1)
    return first, keep(sample.night(runs / "second", recipe="demo", verdict="The second night.", finished=later))


def begun(folder: Path, status: str, **tags: str) -> None:
    with Journal(folder / "journal.jsonl") as journal:
        journal.tags("tags", {"recipe": "demo"})
        journal.status("session/0", "RUNNING", step=0)
        journal.metrics("train/40", 40, {"train/loss": 0.1})
        journal.tags("end", tags)
        journal.status("end/status", status, step=0)


def test_the_newest_night_is_opened(two_nights, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    result = shoes()
    page = two_nights[1].train.run_dir / "report" / "index.html"
    assert (result.exit_code, opened) == (0, [page.as_uri()])
    assert "The second night." in result.output
    assert str(page) in result.output
    assert "The second night." in page.read_text()


def test_a_night_whose_data_folder_was_carried_is_told_from_where_it_is_now(
    two_nights, own_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried = own_world / "Volumes" / "Disk 1"
    carried.parent.mkdir()
    (own_world / "data").rename(carried)
    monkeypatch.setenv("SHOES_DATA_DIR", str(carried))
    told = json.loads(shoes("--json").stdout)
    assert told["page"] == str(carried / "runs/second/report/index.html")
    assert (carried / "runs/second/report/index.html").is_file()
    assert str(own_world / "data") not in json.dumps(told)
    assert not (own_world / "data").exists(), "nothing is written where it was"


def test_of_one_recipe_only(two_nights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda url: pytest.fail("--no-open opens nothing"))
    assert "The first night." in shoes("--no-open", "--recipe", "overnight").output
    assert "The second night." in shoes("--no-open", "--recipe", "demo").output
    missing = shoes("--no-open", "--recipe", "prototype")
    assert missing.exit_code == 1
    assert "No night of prototype has finished" in missing.stderr


def test_json_opens_nothing_and_says_it_all(two_nights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda url: pytest.fail("a machine asked"))
    found = json.loads(shoes("--json").output)
    assert (found["recipe"], found["opened"], found["verdict"]) == ("demo", False, "The second night.")
    assert Path(found["page"]).is_file()


def test_a_page_that_shows_something_else_is_made_again(two_nights) -> None:
    page = two_nights[1].train.run_dir / "report" / "index.html"
    shoes("--no-open")
    page.write_text('<meta name="shoes-page" content="of another version">')
    shoes("--no-open")
    assert "The second night." in page.read_text()


def test_the_page_is_copied(two_nights, own_world: Path) -> None:
    result = shoes("--no-open", "--out", "copy.html")
    assert result.exit_code == 0, result.output
    assert "The second night." in (own_world / "copy.html").read_text()
    refused = shoes("--no-open", "--out", "nowhere/copy.html")
    assert refused.exit_code == 2
    assert "--out" in refused.stderr


STATES = {
    "SCHEDULED": ({"paused": "at step 40: the window ends at 07:00"}, "paused at step 40: the window ends at 07:00"),
    "FAILED": ({"failure": "no space left"}, "failed at step 40: no space left"),
    "KILLED": ({}, "stopped at step 40"),
    "RUNNING": ({}, "is running, or was cut off at step 40"),
}


@pytest.mark.parametrize("status", STATES)
def test_a_night_that_is_not_over_is_told_of(runs: Path, status: str) -> None:
    tags, words = STATES[status]
    begun(runs / "begun", status, **tags)
    result = shoes("--no-open")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert words in result.stderr
    assert f"shoes run --recipe {runs / 'begun' / 'spec.toml'}" in result.stderr


def test_what_paused_since_the_last_night_is_told_beside_it(two_nights, runs: Path) -> None:
    begun(runs / "a killed one before", "KILLED")
    time.sleep(0.01)  # the journal counts milliseconds
    begun(runs / "begun", "SCHEDULED", paused="at step 40: the window ends at 07:00")
    result = shoes("--no-open")
    assert result.exit_code == 0
    assert "The second night." in result.output
    assert "Since then: The training of demo is paused at step 40" in result.output


def test_a_night_of_another_version_is_told_of(runs: Path) -> None:
    write_text(runs / "old" / "night.json", '{"verdict": "something"}')
    result = shoes("--no-open")
    assert result.exit_code == 1
    assert f"{runs / 'old' / 'night.json'} was written by another version" in result.stderr


def test_where_nothing_ever_ran_it_says_how(own_world: Path) -> None:
    result = shoes("--no-open")
    assert result.exit_code == 1
    assert "shoes run --recipe demo" in result.stderr
    assert list(own_world.iterdir()) == []

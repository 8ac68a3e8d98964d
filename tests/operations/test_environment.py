"""What Prefect's programs are told."""

import os
from pathlib import Path

import pytest

from flows.operations.environment import child_environment, prepare_prefect
from shoes.settings import load_settings


@pytest.fixture(autouse=True)
def without_prefects_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_UI_URL"):
        monkeypatch.delenv(name, raising=False)


def test_links_lead_to_the_dashboard_that_opens_by_itself() -> None:
    told = child_environment(load_settings())
    assert told["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert told["PREFECT_UI_URL"] == "http://127.0.0.1:4200/v2"


def test_links_into_a_teams_dashboard_begin_at_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example/api")
    assert child_environment(load_settings())["PREFECT_UI_URL"] == "https://prefect.example"


def test_a_persons_own_choice_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_UI_URL", "https://pages.example")
    assert child_environment(load_settings())["PREFECT_UI_URL"] == "https://pages.example"


def test_what_the_folders_env_says_of_prefect_reaches_it_and_nothing_else_does(
    own_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_LOCAL_STORAGE_PATH", "/a/choice/of/mine")
    (own_world / ".env").write_text("PREFECT_LOGGING_LEVEL=ERROR\nSOMETHING_ELSE=1\n")
    prepare_prefect()
    assert os.environ["PREFECT_LOGGING_LEVEL"] == "ERROR"
    assert "SOMETHING_ELSE" not in os.environ
    assert os.environ["PREFECT_LOCAL_STORAGE_PATH"] == "/a/choice/of/mine"
    home = load_settings().prefect_home
    assert os.environ["PREFECT_HOME"] == str(home)
    assert home.is_dir()
    assert "PREFECT_API_URL" not in os.environ, "nothing runs here"

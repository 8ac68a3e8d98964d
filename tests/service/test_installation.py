"""`shoes service` with the system's tools played by scripts; files, commands and texts are real."""

import json
import os
import plistlib
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from tests.service.tools import LAUNCHCTL, LOGINCTL, SYSTEMCTL, Tools

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the tools are shell scripts here")


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "my home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return home


@pytest.fixture
def linux(at_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    tools = Tools(tmp_path / "tools", systemctl=SYSTEMCTL, loginctl=LOGINCTL)
    monkeypatch.setenv("PATH", tools.path)
    monkeypatch.setattr("shoes.service.manager.sys", SimpleNamespace(platform="linux"))
    return tools


@pytest.fixture
def mac(at_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    tools = Tools(tmp_path / "tools", launchctl=LAUNCHCTL)
    monkeypatch.setenv("PATH", tools.path)
    monkeypatch.setattr("shoes.service.manager.sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr("shoes.service.launchd.SECONDS_BETWEEN_LOOKS", 0.01)
    return tools


@pytest.fixture(params=["linux", "mac"])
def system(request: pytest.FixtureRequest) -> Tools:
    return request.getfixturevalue(request.param)


def service(*words: str) -> Result:
    return CliRunner().invoke(main, ["service", *words])


def told(*words: str) -> Any:
    return json.loads(service(*words, "--json").stdout)


def files(home: Path) -> list[str]:
    return sorted(path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file())


def test_on_linux(linux: Tools, at_home: Path) -> None:
    result = service("install")
    assert result.exit_code == 0, result.output
    assert files(at_home) == [".config/systemd/user/shoes.service"]
    assert linux.calls() == [
        "systemctl --user daemon-reload",
        "systemctl --user enable shoes.service",
        "systemctl --user restart shoes.service",
    ]
    assert "`shoes up` starts when you log in." in result.output
    assert "sudo loginctl enable-linger" in result.output
    linux.set("linger", "yes")
    assert told("status")["starts"] == "when the machine starts"
    assert "enable-linger" not in service("status").output


def test_on_a_mac(mac: Tools, at_home: Path, tmp_path: Path) -> None:
    result = service("install")
    assert result.exit_code == 0, result.output
    (file,) = files(at_home)
    assert file == "Library/LaunchAgents/shoes.up.plist"
    found = plistlib.loads((at_home / file).read_bytes())
    assert found["EnvironmentVariables"]["SHOES_DATA_DIR"] == str(tmp_path / "data")
    assert Path(found["StandardOutPath"]).parent.is_dir(), "launchd makes no folders"
    domain = f"gui/{os.getuid()}"
    assert mac.calls() == [f"launchctl enable {domain}/shoes.up", f"launchctl bootstrap {domain} {at_home / file}"]


def test_a_mac_without_a_session_starts_it_at_the_next_login(mac: Tools, at_home: Path) -> None:
    mac.set("no-session")
    result = service("install")
    assert result.exit_code == 0
    assert "it starts at your next login there" in result.output
    assert files(at_home)


def test_status_and_a_second_installation(system: Tools, at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = service("status")
    assert (none.exit_code, "`shoes service install` does it" in none.output) == (1, True)
    service("install")
    found = told("status")
    assert (found["installed"], found["running"], found["differences"]) == (True, True, [])
    assert found["pid"] == os.getpid()
    assert found["since"] == datetime.fromtimestamp(psutil.Process().create_time(), UTC).isoformat()
    assert service("status").exit_code == 0
    system.clear()
    again = told("install")
    assert (again["changed"], system.calls()) == (False, []), "what trains is left alone"
    monkeypatch.setenv("SHOES_MLFLOW_PORT", "5055")
    moved = service("status")
    assert moved.exit_code == 1
    assert "SHOES_MLFLOW_PORT is not set there, and 5055 here" in moved.output
    assert told("install")["changed"]
    assert system.calls(), "it was started anew"
    assert service("status").exit_code == 0


def test_removing(system: Tools, at_home: Path) -> None:
    nothing = service("uninstall")
    assert (nothing.exit_code, nothing.output) == (0, "There was nothing to remove.\n")
    service("install")
    assert service("uninstall").exit_code == 0
    assert files(at_home) == []
    assert told("status")["running"] is False


@pytest.mark.parametrize(("fixture", "refused"), [("linux", "enable"), ("linux", "restart"), ("mac", "bootstrap")])
def test_what_the_system_refuses_is_undone(
    fixture: str, refused: str, at_home: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    tools: Tools = request.getfixturevalue(fixture)
    tools.set("refuse", refused)
    result = service("install")
    assert result.exit_code == 1
    assert "Access denied by the test" in result.output
    assert "fix: " in result.output
    assert files(at_home) == []
    tools.unset("refuse")
    service("install")
    before = {file: (at_home / file).read_bytes() for file in files(at_home)}
    monkeypatch.setenv("SHOES_MLFLOW_PORT", "5055")
    tools.set("refuse", refused)
    assert service("install").exit_code == 1
    assert {file: (at_home / file).read_bytes() for file in files(at_home)} == before, "the former one is back"


def test_one_that_cannot_be_stopped_stays(linux: Tools, at_home: Path) -> None:
    service("install")
    linux.set("refuse", "disable")
    result = service("uninstall")
    assert (result.exit_code, "Access denied by the test" in result.output) == (1, True)
    assert files(at_home)


def test_a_file_by_hand_is_told(system: Tools, at_home: Path) -> None:
    service("install")
    (file,) = files(at_home)
    written = (at_home / file).read_text()
    (at_home / file).write_text(written.replace("120", "5"))
    assert told("status")["differences"] == ["it was written by another version of this program, or by hand"]
    (at_home / file).write_text("nothing")
    assert "can't be read: `shoes service install` writes it anew" in service("status").output


def test_secrets_are_named_and_not_written(
    system: Tools, at_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOES_ROOT", str(tmp_path))
    monkeypatch.setenv("SHOES_NOTIFY_WEBHOOK", "https://hooks.example/s3cret")
    result = service("install")
    assert f"SHOES_NOTIFY_WEBHOOK is a secret and is not written into the service: put it into {tmp_path}/.env" in (
        result.output
    )
    (file,) = files(at_home)
    assert "s3cret" not in (at_home / file).read_text() + result.output


def test_another_system_is_told_what_to_do(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoes.service.manager.sys", SimpleNamespace(platform="freebsd14"))
    for command in ("install", "status", "uninstall"):
        result = service(command)
        assert (result.exit_code, "@reboot cd " in result.output) == (2, True)

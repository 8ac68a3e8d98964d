"""Commands of the product where the system says that it is macOS, in a process of their own."""

import json
import os
import plistlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shoes.settings import PROJECT_ROOT, load_settings
from tests.service.tools import LAUNCHCTL, Tools


@pytest.fixture
def home(own_world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's folder, with macOS's tools on PATH."""
    folder = own_world / "home"
    folder.mkdir()
    tools = Tools(own_world / "tools", launchctl=LAUNCHCTL, caffeinate="#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("PATH", tools.path)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    return folder


def on_a_mac(*commands: list[str]) -> list[dict[str, Any]]:
    lines = "".join(json.dumps(words) + "\n" for words in commands)
    command = [sys.executable, "-m", "tests.environment.mac"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["error"] for one in found] == [""] * len(commands)
    return found


def test_the_nights_and_the_service_of_a_mac(home: Path, own_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_, show, install, again, status, is_up, uninstall = on_a_mac(
        ["schedule", "set", "22:00-06:30", "--timezone", "UTC", "--json"],
        ["schedule", "show"],
        ["service", "install"],
        ["service", "install", "--json"],
        ["service", "status", "--json"],
        ["status", "--json"],
        ["service", "uninstall"],
    )
    assert json.loads(set_["out"])["window"] == "22:00-06:30"
    assert load_settings().data.joinpath("schedule.toml").is_file()
    assert "The system sleeps after 1 idle minute" in show["out"]
    assert "sudo pmset repeat wakeorpoweron MTWRFSU" in show["out"]
    assert install["code"] == again["code"] == status["code"] == uninstall["code"] == 0
    assert "`shoes up` starts when you log in at the screen" in install["out"]
    assert json.loads(again["out"])["changed"] is False
    assert json.loads(status["out"])["running"] is True
    assert (is_up["code"], json.loads(is_up["out"])["servers"]) == (1, []), "nothing runs, and that is said"

    monkeypatch.setenv("SHOES_DATA_DIR", "/Volumes/Disk/shoes")
    refused, *_ = on_a_mac(["schedule", "show"])
    assert refused["code"] == 2
    assert "is on a drive that is not there: /Volumes/Disk" in refused["err"]


def test_the_agent_of_a_data_folder_on_another_drive(home: Path) -> None:
    """The drive is there, under a name that leads to it: launchd looks through that."""
    link = home / "shoes-data"
    link.symlink_to("/Volumes/Disk/shoes")
    os.environ["SHOES_DATA_DIR"] = str(link)
    (done,) = on_a_mac(["service", "install", "--json"])
    found = plistlib.loads((home / "Library/LaunchAgents/shoes.up.plist").read_bytes())
    assert found["StandardErrorPath"] == json.loads(done["out"])["log"] == str(home / "Library/Logs/shoes/service.log")
    assert (home / "Library/Logs/shoes").is_dir(), "launchd makes no folders"


@pytest.mark.slow
def test_the_checks_of_a_mac(home: Path) -> None:
    (done,) = on_a_mac(["check", "--json", "--recipe", "demo"])
    checks = {check["name"]: check for check in json.loads(done["out"])["checks"]}
    failed = {name: check["detail"] for name, check in checks.items() if check["status"] == "ERROR"}
    assert failed == {}, done["out"]
    power = checks["Power and sleep"]
    assert power["status"] == "WARN"
    assert "low power mode is on" in power["detail"]
    assert "coreaudiod only holds that off for now" in power["detail"]
    assert "sudo pmset -a powermode 0" in power["fix"]

"""A machine is itself whatever the network calls it."""

import platform
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoes.device import identity
from shoes.device.identity import machine_id, machine_name

SAID = {"ioreg": '  "IOPlatformUUID" = "6F1C-0A"', "scutil": "Maria’s Mac Studio\n"}


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    machine_id.cache_clear()
    yield
    machine_id.cache_clear()


def names(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    found = set()
    for host in ("Mac.local", "mac-2.fritz.box", "192.168.1.5"):
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        machine_id.cache_clear()
        found.add((machine_id(), machine_name()))
    return found


def test_a_mac_has_one_name_in_all_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(subprocess, "run", answer)
    ((number, name),) = names(monkeypatch)
    assert name == f"Maria-s-Mac-Studio-{number[:6]}"
    assert "6F1C" not in number
    monkeypatch.setitem(SAID, "ioreg", SAID["ioreg"].replace("0A", "0B"))
    ((other, _),) = names(monkeypatch)
    assert other != number


def answer(command: tuple[str, ...], **_: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.CompletedProcess(command, 0, SAID[Path(command[0]).name], "")


def test_a_machine_is_known_by_its_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_MACHINE_ID", tmp_path / "machine-id")
    (tmp_path / "machine-id").write_text("0123456789abcdef\n")
    assert len({number for number, _ in names(monkeypatch)}) == 1
    (tmp_path / "machine-id").unlink()
    assert len({number for number, _ in names(monkeypatch)}) == 3, "nothing else tells it"

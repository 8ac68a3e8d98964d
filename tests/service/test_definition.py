"""What the service runs, and its two forms: pure functions of the settings."""

import plistlib
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from shoes.errors import ConfigurationError
from shoes.service.definition import Definition, define, differences, left_out
from shoes.service.launchd import Launchd
from shoes.service.manager import Manager, choose_manager
from shoes.service.systemd import Systemd, unit
from shoes.settings import PROJECT_ROOT, load_settings

ODD = "/srv/50%h of $HOME/it's mine\\here"
NASTY = Definition((f"{ODD}/shoes", "up", 'a "word"'), Path(ODD), {"SHOES_DATA_DIR": ODD, "X": 'a\n"b" %h $PATH \\n'})


def managers(folder: Path) -> list[Manager]:
    return [Launchd(folder, 501, folder / "logs"), Systemd(folder / ".config", "me")]


def test_what_is_written_can_be_read_back(tmp_path: Path) -> None:
    for manager in managers(tmp_path):
        assert manager.read(manager.render(NASTY)) == NASTY


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"<plist>", b"[Service]\nExecStart=up\n"])
def test_what_is_no_definition_is_none(tmp_path: Path, content: bytes) -> None:
    assert [manager.read(content) for manager in managers(tmp_path)] == [None, None]


def test_the_agent_says_what_launchd_needs(tmp_path: Path) -> None:
    found = plistlib.loads(Launchd(tmp_path, 501, tmp_path / "logs").render(NASTY))
    assert found["Label"] == "shoes.up"
    assert found["RunAtLoad"] is True
    assert found["KeepAlive"] == {"SuccessfulExit": False}, "`shoes down` ends it for good, a crash does not"
    assert found["ExitTimeOut"] >= 60, "launchd would kill it after 20 seconds"
    assert found["ProcessType"] == "Interactive", "not on the efficiency cores"
    assert found["StandardErrorPath"] == str(tmp_path / "logs/service.log")


def test_no_sign_in_a_path_means_anything_to_systemd() -> None:
    text = unit(NASTY)
    assert "WorkingDirectory=/srv/50%%h of $HOME/it's mine\\here\n" in text
    assert 'ExecStart=":/srv/50%%h of $HOME/it\'s mine\\\\here/shoes" "up"' in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    program = tmp_path / "50%h of $it is" / "shoes"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "run").mkdir(mode=0o700)
    file = tmp_path / "shoes.service"

    def verify(one: Definition) -> subprocess.CompletedProcess[str]:
        file.write_text(unit(one))
        words = ["systemd-analyze", "verify", "--user", str(file)]
        environment = {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        return subprocess.run(words, capture_output=True, text=True, check=False, env=environment)

    good = verify(Definition((str(program), "up"), program.parent, dict(NASTY.environment)))
    assert (good.returncode, good.stderr) == (0, "")
    assert verify(Definition((f"{program}-gone", "up"), program.parent, {})).returncode, "it looks at what is there"


def test_the_settings_in_force_are_written_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOES_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("SHOES_DATA_DIR", "drive")
    monkeypatch.setenv("SHOES_NOTIFY_WEBHOOK", "https://hooks.example/s3cret")
    monkeypatch.setenv("SHOES_DATA__SOURCE", "https://me:s3cret@photos.example/all.zip")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "mac")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:s3cret")
    (tmp_path / ".env").write_text("PREFECT_API_URL=https://prefect.example/api\n")
    found = define(load_settings())
    assert found.folder == tmp_path / "root"
    assert found.data_dir == tmp_path / "drive", "wherever the command was given"
    assert found.environment["PREFECT_API_URL"] == "https://prefect.example/api"
    assert found.environment["MLFLOW_TRACKING_URI"] == "https://mlflow.example"
    assert found.environment["MLFLOW_TRACKING_USERNAME"] == "mac"
    assert found.environment["PATH"].startswith(str(Path(sys.executable).parent))
    assert "s3cret" not in "".join(manager.render(found).decode() for manager in managers(tmp_path))
    assert left_out(load_settings()) == [
        "MLFLOW_TRACKING_PASSWORD",
        "PREFECT_API_AUTH_STRING",
        "SHOES_DATA__SOURCE",
        "SHOES_NOTIFY_WEBHOOK",
    ]


def test_what_stands_in_the_projects_env_file_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOES_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")
    (tmp_path / ".env").write_text("SHOES_DATA_DIR=/drive\nMLFLOW_TRACKING_PASSWORD=s3cret\n")
    found = define(load_settings())
    assert "SHOES_DATA_DIR" not in found.environment
    assert found.data_dir == Path("/drive")
    assert left_out(load_settings()) == []


def test_without_settings_it_runs_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOES_DATA_DIR")
    found = define(load_settings())
    assert (found.folder, found.data_dir) == (PROJECT_ROOT, PROJECT_ROOT / "data")
    assert found.program[-1] == "up"
    assert Path(found.program[0]).is_absolute()


def test_differences_are_told_one_by_one() -> None:
    wanted = Definition(("/new/shoes", "up"), Path("/new"), {"A": "1"})
    assert differences(wanted, wanted) == []
    assert differences(Definition(("/old/shoes", "up"), Path("/old"), {"B": "2"}), wanted) == [
        "it runs /old/shoes up, and not /new/shoes up",
        "it starts in /old, and not in /new",
        "A is not set there, and 1 here",
        "B is 2 there, and not set here",
    ]


@pytest.mark.parametrize(
    ("platform", "tools", "environment", "file"),
    [
        ("darwin", ["launchctl"], {}, "/home/me/Library/LaunchAgents/shoes.up.plist"),
        ("linux", ["systemctl"], {}, "/home/me/.config/systemd/user/shoes.service"),
        ("linux", ["systemctl"], {"XDG_CONFIG_HOME": "/etc/me"}, "/etc/me/systemd/user/shoes.service"),
        ("linux", ["launchctl"], {}, None),
        ("darwin", ["systemctl"], {}, None),
        ("freebsd14", [], {}, None),
        ("win32", [], {}, None),
    ],
)
def test_the_system_decides(
    platform: str, tools: Sequence[str], environment: dict[str, str], file: str | None, tmp_path: Path
) -> None:
    def choose() -> Manager:
        return choose_manager(
            Definition(("/a b/100%/shoes", "up"), Path("/a b"), {}),
            tmp_path,
            platform=platform,
            environment={"HOME": "/home/me", **environment},
            which=lambda name: name if name in tools else None,
        )

    if file is not None:
        assert choose().file == Path(file)
        return
    with pytest.raises(ConfigurationError) as caught:
        choose()
    assert f"@reboot cd '/a b' && '/a b/100\\%/shoes' up >> {tmp_path}/service.log 2>&1" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "log"),
    [
        ("/Volumes/Disk/shoes/logs", "Library/Logs/shoes/service.log"),
        ("Documents/shoes/data/logs", "Library/Logs/shoes/service.log"),
        ("linked/logs", "Library/Logs/shoes/service.log"),
        ("shoes/data/logs", "shoes/data/logs/service.log"),
    ],
)
def test_the_agents_log_lies_where_launchd_may_write(data: str, log: str, tmp_path: Path) -> None:
    """launchd opens it before anything runs; where it may not, the agent never starts and says 78."""
    (tmp_path / "linked").symlink_to("/Volumes/Disk/shoes")
    launchd = Launchd(tmp_path, 501, tmp_path / data)
    found = plistlib.loads(launchd.render(NASTY))
    assert found["StandardOutPath"] == found["StandardErrorPath"] == launchd.log == str(tmp_path / log)


def test_a_project_on_another_drive_is_waited_for(tmp_path: Path) -> None:
    drive = tmp_path / "Volumes/Disk of me's"
    on_it = Definition((f"{drive}/shoes", "up", 'a "word"'), drive, {"A": "1"})
    launchd = Launchd(tmp_path, 501, tmp_path / "logs")
    assert plistlib.loads(launchd.render(on_it))["WorkingDirectory"] == str(drive)
    external = Definition(("/Volumes/Disk/shoes", "up"), Path("/Volumes/Disk"), {})
    found = plistlib.loads(launchd.render(external))
    assert found["WorkingDirectory"] == str(tmp_path), "launchd goes there before the drive may be there"
    assert launchd.read(launchd.render(external)) == external

    words = [*found["ProgramArguments"][:3], str(drive), f"{drive}/shoes", "up", 'a "word"']
    words[2] = words[2].replace("sleep 10", "sleep 0.05")
    waiting = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    time.sleep(0.2)
    assert waiting.poll() is None
    unmounted = tmp_path / "unmounted"
    unmounted.mkdir()
    (unmounted / "shoes").write_text('#!/bin/sh\npwd\necho "$@"\n')
    (unmounted / "shoes").chmod(0o755)
    drive.parent.mkdir()
    unmounted.rename(drive)
    assert waiting.communicate(timeout=10)[0] == f'{drive}\nup a "word"\n'


def test_servers_in_the_local_network_have_to_be_allowed(tmp_path: Path) -> None:
    launchd = Launchd(tmp_path, 501, tmp_path / "logs")
    at_home = {"PREFECT_API_URL": "http://192.168.1.5:4200/api", "MLFLOW_TRACKING_URI": "https://mlflow.example.com"}
    (hint,) = [text for text in launchd.hints(Definition(("shoes",), tmp_path, at_home)) if "Local Network" in text]
    assert "192.168.1.5 is in the local network" in hint
    assert "example.com" not in hint


def test_macos_asks_for_some_folders(tmp_path: Path) -> None:
    agent = Launchd(tmp_path, 501, tmp_path / "logs")
    free = Definition(("shoes",), tmp_path / "shoes", {"SHOES_DATA_DIR": str(tmp_path / "data")})
    asked = Definition(("shoes",), tmp_path / "shoes", {"SHOES_DATA_DIR": "/Volumes/drive"})
    assert len(agent.hints(free)) == 1
    assert "whether Python may read /Volumes/drive:" in agent.hints(asked)[1]

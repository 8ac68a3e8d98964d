"""Programs that are kept running: small real ones, killed, stopped and found again."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest

from shoes.clock import now
from shoes.errors import Busy, ConfigurationError, ShoesError
from shoes.servers import child, record, supervisor
from shoes.servers.child import Child
from shoes.servers.leftovers import stop_leftovers
from shoes.servers.ports import require_free
from shoes.servers.program import Program, dashboard, mlflow_server, prefect_server, worker
from shoes.servers.rotation import last_lines, rotate
from shoes.servers.supervisor import Supervisor, pause_before_restart
from shoes.settings import load_settings
from tests.world import free_port


def server(folder: Path, name: str = "pages", port: int | None = None) -> Program:
    port = port or free_port()
    return Program(
        name=name,
        title=name.capitalize(),
        command=(sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"),
        log=folder / f"{name}.log",
        health=f"http://127.0.0.1:{port}/",
        address=("127.0.0.1", port),
    )


def script(folder: Path, code: str, name: str = "script") -> Program:
    return Program(name=name, title="Script", command=(sys.executable, "-c", code), log=folder / f"{name}.log")


def until(what: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Supervisor]:
    found = Supervisor(dict(os.environ), tmp_path)
    yield found
    found.kill()


def test_a_program_is_ready_when_it_answers_and_gone_after_a_stop(tmp_path: Path) -> None:
    wanted = server(tmp_path)
    child = Child(wanted, dict(os.environ), tmp_path)
    child.wait_until_ready(30)
    assert child.answers()
    assert os.getsid(child.seat.pid) == child.seat.pid, "Ctrl-C in the terminal does not reach it"
    child.stop()
    assert not child.seat.is_alive
    assert wanted.address is not None
    require_free([wanted])


def test_a_stop_takes_what_the_program_started_and_what_does_not_listen(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    wanted = script(tmp_path, code)
    child = Child(Program(**{**wanted.__dict__, "stop_seconds": 0.5}), dict(os.environ), tmp_path)
    until(lambda: wanted.log.read_text().strip())
    grandchild = record.seat(int(wanted.log.read_text()))
    child.stop()
    assert child.exit_code == -signal.SIGKILL
    until(lambda: not grandchild.is_alive)


def test_what_does_not_start_is_said_with_the_end_of_its_log(tmp_path: Path) -> None:
    child = Child(
        script(tmp_path, "raise SystemExit('the database is of a newer version')"), dict(os.environ), tmp_path
    )
    until(lambda: child.exit_code is not None)
    with pytest.raises(ShoesError, match=r"Script did not start \(exit code 1\)(?s:.*)database is of a newer version"):
        child.wait_until_ready(30)


def test_what_dies_is_started_again_and_said(
    tmp_path: Path, keeper: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    first = keeper.start(server(tmp_path))
    first.wait_until_ready(30)
    os.kill(first.seat.pid, signal.SIGKILL)
    until(keeper.look)
    assert keeper.seats["pages"].is_alive
    assert keeper.seats["pages"] != first.seat
    assert "Pages ended (exit code -9)" in caplog.text


def test_what_hangs_is_killed_and_started_again(
    tmp_path: Path, keeper: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "SECONDS_WITHOUT_ANSWER", 0.5)
    monkeypatch.setattr(supervisor, "SECONDS_BETWEEN_QUESTIONS", 0.1)
    monkeypatch.setattr("shoes.servers.child.SECONDS_FOR_AN_ANSWER", 0.2)
    first = keeper.start(server(tmp_path))
    first.wait_until_ready(30)
    os.kill(first.seat.pid, signal.SIGSTOP)
    until(keeper.look)
    assert not first.seat.is_alive
    assert keeper.seats["pages"].is_alive


def test_the_pause_before_a_restart_grows_up_to_a_minute() -> None:
    assert [pause_before_restart(n) for n in (0, 1, 2, 5, 6, 50)] == [1, 2, 4, 32, 60, 60]


def test_what_dies_at_once_waits_longer_each_time(tmp_path: Path, keeper: Supervisor) -> None:
    keeper.start(script(tmp_path, "raise SystemExit(3)"))
    until(keeper.look)
    again = keeper.seats["script"]
    until(lambda: not again.is_alive)
    assert not keeper.look(), "the second restart waits"
    assert keeper.seats["script"] == again


def test_all_taken_ports_are_told_together_with_their_settings(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        taken = [server(tmp_path, "prefect", one.getsockname()[1]), server(tmp_path, "mlflow", two.getsockname()[1])]
        with pytest.raises(ConfigurationError) as error:
            require_free([*taken, server(tmp_path, "free")])
    assert [problem.where for problem in error.value.problems] == ["SHOES_PREFECT_PORT", "SHOES_MLFLOW_PORT"]
    assert f"is taken by {psutil.Process().name()} (process {os.getpid()})" in error.value.problems[0].what


def test_a_log_that_has_grown_is_cut_while_its_program_writes(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("ab", buffering=0) as writer:
        for round_ in range(5):
            writer.write(f"round {round_}\n".encode() * 10)
            assert rotate(log, max_bytes=50, num_kept=3)
        writer.write(b"after\n")
    assert log.read_bytes() == b"after\n", "the program goes on at the start of the file"
    assert not rotate(log, max_bytes=50)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["a.log", "a.log.1", "a.log.2", "a.log.3"]
    assert (tmp_path / "a.log.1").read_text().startswith("round 4")
    assert (tmp_path / "a.log.3").read_text().startswith("round 2")
    assert last_lines(tmp_path / "a.log.1", 2) == "round 4\nround 4"
    assert last_lines(tmp_path / "none") == ""


def running(settings: object, up: record.Seat, programs: dict[str, record.Seat]) -> record.Running:
    return record.Running(
        up=up,
        since=now(),
        is_ready=True,
        prefect_api="http://127.0.0.1:4200/api",
        dashboard="http://127.0.0.1:4200",
        mlflow="http://127.0.0.1:5001",
        programs=programs,
    )


def test_only_one_runs_for_a_data_folder(own_world: Path) -> None:
    settings = load_settings()
    code = (
        "from shoes.settings import load_settings; from shoes.servers import record; import time;"
        "lock = record.only_one(load_settings()); print('held', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        record.write(settings, running(settings, record.seat(other.pid), {}))
        with pytest.raises(Busy, match=rf"runs already \(process {other.pid}, .*Stop it with `shoes down`"):
            record.only_one(settings)
    finally:
        other.kill()
        other.communicate()
    assert record.running(settings) is None, "it is dead, and said so"
    record.only_one(settings).release()


def test_a_process_of_the_same_number_is_another_one() -> None:
    here = record.seat(os.getpid())
    assert here.is_alive
    assert not here.model_copy(update={"created": here.created - 1000}).is_alive


def test_what_a_killed_one_left_is_stopped_but_nobody_else(own_world: Path, tmp_path: Path) -> None:
    settings = load_settings()
    assert stop_leftovers(settings) == []
    child = Child(server(tmp_path), dict(os.environ), tmp_path)
    child.wait_until_ready(30)
    dead = record.Seat(pid=os.getpid(), created=0)
    other = record.seat(os.getpid()).model_copy(update={"created": 1})
    record.write(settings, running(settings, dead, {"pages": child.seat, "worker": other}))
    assert stop_leftovers(settings) == ["pages"]
    until(lambda: child.exit_code is not None)
    assert record.read(settings) is None


def test_programs_listen_on_the_loopback_and_share_the_data_folder(
    own_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOES_PREFECT_PORT", "4321")
    settings = load_settings()
    prefect, mlflow = prefect_server(settings), mlflow_server(settings)
    assert prefect is not None
    assert mlflow is not None
    assert prefect.address == ("127.0.0.1", 4321)
    assert prefect.command[-4:] == ("--host", "127.0.0.1", "--port", "4321")
    assert mlflow.address == ("127.0.0.1", 5001)
    assert str(settings.mlruns / "artifacts") in mlflow.command
    assert dashboard(settings) == "http://127.0.0.1:4321"
    assert worker(settings, "here").address is None


def test_a_teams_servers_are_used_instead(own_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://team:4200/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://team:5000")
    settings = load_settings()
    assert prefect_server(settings) is None
    assert mlflow_server(settings) is None
    assert dashboard(settings) == "http://team:4200"
    assert settings.mlflow_url == "http://team:5000"


def test_looks_at_servers_do_not_read_the_certificates_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    make = httpx.create_ssl_context
    monkeypatch.setattr(httpx, "create_ssl_context", lambda **how: read.append(how) or make(**how))
    child._certificates.cache_clear()
    for _ in range(3):
        assert not child.is_healthy(f"http://127.0.0.1:{free_port()}/")
    assert len(read) == 1

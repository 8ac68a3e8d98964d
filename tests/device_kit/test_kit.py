"""The device kit as people run it, on the CPU; and what it does when a part goes wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.device import __main__ as command
from benchmarks.device import kit, table, worker
from benchmarks.device.place import Options, Place
from benchmarks.device.rows import Row
from shoes.settings import PROJECT_ROOT
from tests.emulated.tensor import Computer

ABSENT = ("prefect", "mlflow", "datasets", "scipy", "matplotlib", "imagehash", "sqlalchemy")
"""What nobody brings to a rented GPU; the last ones are no small packages."""
BLOCKER = f"""
from importlib.machinery import PathFinder

find_spec = PathFinder.find_spec

def find_others(name, path=None, target=None):
    return None if name.partition(".")[0] in {ABSENT} else find_spec(name, path, target)

PathFinder.find_spec = staticmethod(find_others)
"""
STATUSES = {"done", "failed", "does not fit", "not run"}


def run_kit(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The smoke form, in processes that find nothing of ABSENT."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.device", "--smoke", "--device", "cpu", *arguments],
        cwd=PROJECT_ROOT,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def checked(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON of the last line, whose form is right, and whose rows all stand in the table."""
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == "device"
    assert result["format"] == command.FORMAT
    assert result["device"] == "cpu"
    assert result["versions"]["torch"]
    for row in result["rows"]:
        assert row.keys() == {"part", "what", "figure", "note", "status", "values"}
        assert row["status"] in STATUSES
        assert "\n".join(table.lines(Row(**row))) in done.stdout
    lines = done.stdout.splitlines()[:-1]
    assert max(map(len, lines)) <= table.WIDTH
    return result


def test_what_is_absent_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    done = subprocess.run(
        [sys.executable, "-c", "import mlflow"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named 'mlflow'" in done.stderr


def test_the_kit_times_a_step_where_neither_prefect_nor_mlflow_can_be_imported(tmp_path: Path) -> None:
    out = tmp_path / "kit.json"
    done = run_kit(tmp_path, "--parts", "facts,speed", "--minutes", "5", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    result = checked(done)
    assert json.loads(out.read_text()) == result
    assert result["parts"].keys() == {"facts", "speed"}
    arms = [row["values"] for row in result["rows"] if "arm" in row["values"]]
    assert [(arm["arm"], arm["micro_batch"]) for arm in arms] == [
        (name, size) for size in (1, 2) for name in ("ours", "bare", "usual")
    ]
    assert all(arm["images_per_second"] > 0 for arm in arms)
    assert all(arm["over_bare"]["median"] > 0 < arm["over_usual"]["median"] for arm in arms if arm["arm"] == "ours")
    peaks = [row["values"] for row in result["rows"] if "peak_bytes" in row["values"]]
    assert [peak["micro_batch"] for peak in peaks] == [1, 2]
    assert all(peak["peak_bytes"].keys() == {"ours", "bare", "usual"} for peak in peaks)


@pytest.mark.slow
def test_every_part_of_the_kit_is_well_on_the_cpu(tmp_path: Path) -> None:
    done = run_kit(tmp_path, "--minutes", "15")
    assert done.returncode == 0, done.stdout + done.stderr
    result = checked(done)
    assert list(result["parts"]) == [part.name for part in kit.PARTS]
    assert all(part["is_well"] for part in result["parts"].values())
    assert {row["status"] for row in result["rows"]} == {"done"}
    by_part = {row["part"]: row for row in result["rows"]}
    assert by_part["resume"]["figure"] == "equal bytes"
    assert by_part["full_proof"]["figure"] == "equal"
    assert by_part["full_parity"]["figure"] == "right"


@pytest.mark.slow
@pytest.mark.parametrize("part", ["facts", "speed", "drawing", "proof"])
def test_a_part_is_well_on_an_emulated_mps_device(part: str, mps: Computer, own_world: Path) -> None:
    answers = own_world / "answers"
    place = Place(Options(own_world, "mps", smoke=True), time.monotonic() + 1000)
    with answers.open("w") as out:
        assert worker.compute(part, place, out), answers.read_text()
    rows = [json.loads(line)["row"] for line in answers.read_text().splitlines()]
    assert {row["status"] for row in rows} == {"done"}


STUB = """
import json, os, signal, sys, time

def say(value):
    print(json.dumps(value), flush=True)

row = dict(what="a fact", figure="1 s", note="", status="done", values={})
json.loads(sys.stdin.readline())
for line in sys.stdin:
    part = json.loads(line)["part"]
    say({"row": {"part": part, **row}})
    if part == "dies":
        print("the last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if part == "hangs":
        time.sleep(600)
    say({"end": part, "is_well": True})
"""
"""A worker whose parts go as their names say."""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    (tmp_path / "stub.py").write_text(STUB)
    monkeypatch.setattr(kit, "COMMAND", (sys.executable, str(tmp_path / "stub.py")))
    return Options(tmp_path)


def parts(*names: str, most: float = 60.0) -> list[kit.Part]:
    return [kit.Part(name, f"about {name}", least=0.1, most=most) for name in names]


def rows_of(given: Sequence[kit.Part], options: Options, minutes: float = 1.0) -> list[Row]:
    rows: list[Row] = []
    for _ in kit.run(given, options, minutes=minutes, tell=rows.append):
        pass
    return rows


def test_a_part_whose_process_dies_is_a_row_and_the_next_part_is_run(stub: Options) -> None:
    rows = rows_of(parts("dies", "well"), stub)
    assert [(row.part, row.status) for row in rows] == [("dies", "done"), ("dies", "failed"), ("well", "done")]
    assert "killed it, most likely for memory" in rows[1].note
    assert "the last words" in rows[1].values["log"]


def test_a_part_that_takes_too_long_is_left_and_its_rows_are_kept(stub: Options) -> None:
    started = time.monotonic()
    rows = rows_of([*parts("hangs", most=0.5), *parts("well")], stub)
    assert [(row.part, row.status) for row in rows] == [("hangs", "done"), ("hangs", "not run"), ("well", "done")]
    assert rows[1].note.startswith("time")
    assert time.monotonic() - started < 20


def test_parts_for_which_there_is_no_time_are_rows(stub: Options) -> None:
    rows = rows_of([*parts("hangs"), kit.Part("late", "about late", least=1.0, most=60)], stub, minutes=0.02)
    assert [(row.part, row.status) for row in rows] == [("hangs", "done"), ("hangs", "not run"), ("late", "not run")]


def test_a_part_that_raises_is_a_row_with_the_errors_first_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from benchmarks.device.parts import facts

    def broken(place: Place) -> None:
        raise ValueError("the device is upside down\nand more")

    monkeypatch.setattr(facts, "run", broken)
    answers = tmp_path / "answers"
    with answers.open("w") as out:
        assert not worker.compute("facts", Place(Options(tmp_path), time.monotonic() + 60), out)
    (told,) = [json.loads(line)["row"] for line in answers.read_text().splitlines()]
    assert told["status"] == "failed"
    assert told["note"] == "ValueError: the device is upside down"
    assert "Traceback" in told["values"]["log"]


def test_ctrl_c_prints_what_there_is(
    stub: Options, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kit, "PARTS", tuple(parts("hangs")))
    tell = command.table.lines

    def interrupt(row: Row) -> list[str]:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        return list(tell(row))

    monkeypatch.setattr(command.table, "lines", interrupt)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        code = command.main(["--smoke", "--work", str(stub.work)])
    finally:
        signal.signal(signal.SIGALRM, before)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 130
    assert result["interrupted"]
    assert [row["what"] for row in result["rows"]] == ["a fact"]

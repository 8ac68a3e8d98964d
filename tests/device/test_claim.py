"""One computation at a time on a device: who comes later waits, whoever it is."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from shoes import clock, stages
from shoes.device.claim import claimed, holders, lock_names
from shoes.errors import Busy
from shoes.reports import PausedTraining
from shoes.settings import load_settings
from shoes.spec import Recipe

HOLD = """
import pathlib, sys
from shoes.device.claim import claimed
with claimed([sys.argv[1]], "overnight sd15 r8 3000, training", pathlib.Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(device: str, lock_dir: Path) -> "Iterator[subprocess.Popen[str]]":
    """Holds a device until its standard input is closed."""
    command = [sys.executable, "-c", HOLD, device, str(lock_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def in_a_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def test_a_lock_that_is_held_is_young(tmp_path: Path) -> None:
    """macOS removes what is three days old from its temporary folder, and a second holder would find none."""
    lock = tmp_path / "mps.lock"
    lock.touch()
    os.utime(lock, (0, 0))
    with claimed(["mps"], "a night", tmp_path):
        assert time.time() - lock.stat().st_mtime < 60
        assert time.time() - lock.stat().st_atime < 60


def test_who_comes_later_waits_says_once_for_whom_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "shoes")
    done = []

    def work() -> None:
        with claimed(["cpu"], "demo r8 200, training", tmp_path):
            done.append([holder.what for holder in holders(tmp_path)])

    with another_process("cpu", tmp_path) as other:
        (holder,) = holders(tmp_path)
        assert (holder.pid, holder.device) == (other.pid, "cpu")
        thread = in_a_thread(work)
        wait_for(lambda: caplog.messages)
        time.sleep(1.2)  # it tries several times, and has nothing more to say
        assert not done
        assert other.stdin is not None
        other.stdin.close()
        thread.join(30)
    assert done == [["demo r8 200, training"]]
    since = holder.since[11:16]
    assert caplog.messages == [
        f"the device cpu is used by 'overnight sd15 r8 3000, training' since {since} (process {other.pid}): waiting",
        "the device cpu is free: going on",
    ]
    assert holders(tmp_path) == []


def test_a_claim_dies_with_its_process(tmp_path: Path) -> None:
    with another_process("mps", tmp_path) as other:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        assert holders(tmp_path) == [], "its note is left, and counts for nothing"
        with claimed(["mps"], "the next", tmp_path, until=clock.now()):
            assert [holder.what for holder in holders(tmp_path)] == ["the next"]


def test_a_stage_called_by_one_that_holds_the_device_goes_on(tmp_path: Path) -> None:
    with claimed(["cpu"], "outer", tmp_path):
        with claimed(["cpu"], "inner", tmp_path):
            assert [holder.what for holder in holders(tmp_path)] == ["outer"]
        assert [holder.what for holder in holders(tmp_path)] == ["outer"]
    assert holders(tmp_path) == []


def test_another_thread_of_the_same_process_waits(tmp_path: Path) -> None:
    order = []

    def work() -> None:
        with claimed(["cpu"], "the other", tmp_path):
            order.append("the other")

    with claimed(["cpu"], "the first", tmp_path):
        thread = in_a_thread(work)
        thread.join(1.0)
        order.append("the first")
    thread.join(30)
    assert order == ["the first", "the other"]


def test_other_devices_are_free(tmp_path: Path) -> None:
    with another_process("cuda-0", tmp_path), claimed(["cuda-1"], "mine", tmp_path, until=clock.now()):
        assert [holder.device for holder in holders(tmp_path)] == ["cuda-0", "cuda-1"]


def test_waiting_ends_with_the_window(tmp_path: Path) -> None:
    with another_process("cpu", tmp_path):
        soon = clock.later(clock.now(), 0.1)
        with (
            pytest.raises(Busy, match="used by 'overnight sd15 r8 3000, training'"),
            claimed(["cpu"], "mine", tmp_path, until=soon),
        ):
            pytest.fail("two compute")


@pytest.mark.parametrize(
    ("device", "processes", "visible", "names"),
    [
        ("cpu", 2, "", ["cpu"]),
        ("mps", 1, "", ["mps"]),
        ("cuda", 1, "", ["cuda-0"]),
        ("cuda:3", 1, "", ["cuda-3"]),
        ("cuda", 3, "", ["cuda-0", "cuda-1", "cuda-2"]),
        ("cuda", 2, "5,3", ["cuda-3", "cuda-5"]),
        ("cuda:1", 1, "GPU-8a/b, GPU-c", ["cuda-GPU-c"]),
    ],
)
def test_a_gpu_is_named_by_its_number_on_the_machine(
    device: str, processes: int, visible: str, names: list[str]
) -> None:
    assert lock_names(device, processes, {"CUDA_VISIBLE_DEVICES": visible}) == names


def test_a_training_that_waits_past_its_window_is_paused(
    micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = micro()
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    monkeypatch.setattr(stages, "deadline", lambda _: clock.now() + timedelta(seconds=0.2))
    with another_process("cpu", load_settings().locks):
        paused = stages.train(recipe, models, data)
        assert stages.announce(recipe, models, data) is None, "that no forecast can be made is no reason to stop"
    assert isinstance(paused, PausedTraining)
    assert (paused.step, paused.max_train_steps) == (0, 4)
    assert "the window is over, and the device cpu is used by 'overnight sd15" in paused.reason
    assert not (paused.run_dir / "journal.jsonl").exists(), "nothing has begun"


def start(folder: Path, *flags: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "flows", "train", "--json", *flags],
        env={**os.environ, "SHOES_DATA_DIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_command_that_waits_ends_at_once_when_asked(with_small_data: Path, micro_flags: list[str]) -> None:
    with another_process("cpu", load_settings().locks):
        process = start(with_small_data, *micro_flags)
        assert process.stderr is not None
        said = ""
        while "waiting" not in said:
            said = process.stderr.readline()
            assert said, "it ended before it waited"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert not list(with_small_data.glob("runs/*/journal.jsonl"))


def test_the_same_training_started_twice_is_trained_once(with_small_data: Path, micro_flags: list[str]) -> None:
    with another_process("cpu", load_settings().locks) as other:
        both = [start(with_small_data, *micro_flags) for _ in range(2)]
        time.sleep(0.5)
        assert other.stdin is not None
        other.stdin.close()
        told = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n\n".join(err for _, err in told)
    first, second = (json.loads(out) for out, _ in told)
    assert first["adapter_sha256"] == second["adapter_sha256"]
    (journal,) = with_small_data.glob("runs/*/journal.jsonl")
    ids = [json.loads(line)["id"] for line in journal.read_text().splitlines()]
    assert sum(event.startswith("session/") for event in ids) == 1
    assert len(ids) == len(set(ids))

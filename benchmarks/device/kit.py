"""The parts in their order, each within its time, in a process that may die.

One process computes part after part, since loading the libraries takes as long as some parts do. A part that raises,
dies or takes too long costs that process: the next part gets a new one, on a device that nothing has touched.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from benchmarks.device.place import Options
from benchmarks.device.rows import Row, failed, no_time
from benchmarks.device.worker import as_row

PROJECT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "benchmarks.device.worker")
LOG = "worker.log"
"""What the libraries say, in the work folder; the end of it stands in the row of a process that died."""
GRACE_SECONDS = 5.0
"""A part that looks at its time ends by itself; one that does not is stopped so much later."""


@dataclass(frozen=True)
class Part:
    """One question to the device."""

    name: str
    """Of its module in `parts`."""
    about: str
    least: float
    """Seconds below which it is not begun."""
    most: float
    """Seconds after which it is stopped."""


PARTS = (
    Part("facts", "what the device is, and what is decided for it", least=5, most=60),
    Part("parity", "one step and one decode against fp32 on the CPU, the demo's model", least=10, most=90),
    Part("resume", "stopped, and gone on in another process: the same bytes", least=15, most=75),
    Part("proof", "an exported adapter draws what the one in memory draws", least=10, most=75),
    Part("speed", "a training step at full size, and its memory", least=30, most=200),
    Part("drawing", "seconds for a picture at full size", least=20, most=60),
    Part("forecast", "what was said against what happened", least=30, most=120),
    Part("full_parity", "the parity check at full size", least=40, most=150),
    Part("full_proof", "the proof of an export at full size", least=40, most=100),
)
"""By what they are worth, the first first: at the end there may be no time."""

Listener = Callable[[Row], None]


@dataclass(frozen=True)
class PartEnd:
    """How a part went."""

    name: str
    seconds: float
    is_well: bool


def run(
    parts: Sequence[Part], options: Options, *, minutes: float, tell: Listener, started: float | None = None
) -> Iterator[PartEnd]:
    """Run the parts; every row is told as soon as it is known.

    Args:
        minutes: for all of them, counted from `started` on the monotonic clock (now).
    """
    ends_at = (time.monotonic() if started is None else started) + 60 * minutes
    worker: Worker | None = None
    try:
        for part in parts:
            left = ends_at - time.monotonic()
            if left < min(part.least, 60 * minutes / 2):
                tell(no_time(part.name, part.about))
                continue
            worker = worker or Worker(options)
            began = time.monotonic()
            is_well = worker.compute(part, min(part.most, left), tell)
            if not is_well:
                worker.stop()
                worker = None
            yield PartEnd(part.name, time.monotonic() - began, is_well)
    finally:
        if worker is not None:
            worker.stop()


class Worker:
    """The process that computes, and what it says."""

    def __init__(self, options: Options) -> None:
        self._log = options.work / LOG
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=PROJECT,
                env=environment(options),
                start_new_session=True,  # Ctrl-C is for the kit, which stops this process and its children
            )
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()
        self._ask({"work": str(options.work), "device": options.device, "smoke": options.smoke})

    def compute(self, part: Part, seconds: float, tell: Listener) -> bool:
        """Tell the rows of a part; false when this process is of no more use."""
        ends_at = time.monotonic() + seconds
        self._ask({"part": part.name, "seconds": max(1.0, seconds - GRACE_SECONDS)})
        while True:
            try:
                answer = self._answers.get(timeout=max(0.1, ends_at - time.monotonic()))
            except queue.Empty:
                tell(no_time(part.name, f"the rest: {part.about}", seconds))
                return False
            if answer is None:
                tell(self._death(part))
                return False
            if "end" in answer:
                return bool(answer["is_well"])
            tell(as_row(answer["row"]))

    def _death(self, part: Part) -> Row:
        code = self._process.wait()
        row = failed(part.name, part.about, f"its process ended with code {code}{_hint(code)}")
        return replace(row, values={"log": self._log.read_text(encoding="utf-8", errors="replace")[-3000:]})

    def stop(self) -> None:
        """End the process and what it started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # it is gone already
            self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what was not read by a dead process is not written any more
                assert pipe is not None
                pipe.close()

    def _listen(self, answers: IO[str]) -> None:
        for line in answers:
            self._answers.put(json.loads(line))
        self._answers.put(None)

    def _ask(self, request: dict[str, object]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return  # it died: that is read where its answers are


def environment(options: Options) -> dict[str, str]:
    """The person's, without their settings of this program, and without a network for libraries that look for one."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SHOES_")}
    return own | {
        "SHOES_DATA_DIR": str(options.work),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _hint(code: int) -> str:
    return ": the system killed it, most likely for memory" if code == -signal.SIGKILL else ""

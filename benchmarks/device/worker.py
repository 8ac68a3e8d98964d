"""`python -m benchmarks.device.worker`: computes parts, one after another, and writes their rows as JSON lines.

Reads one request a line from standard input: the options first, then {"part": name, "seconds": time that it has}. Ends
with its input, and after a part that raised: a device may be left in any state by it.
"""

import json
import os
import sys
import time
import traceback
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TextIO

from benchmarks.device.place import Options, Place
from benchmarks.device.rows import Row, failed
from shoes.model.load import load_libraries


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not stand between the answers
    given = json.loads(sys.stdin.readline())
    options = Options(**given | {"work": Path(given["work"])})
    load_libraries()  # before anything is timed, or its memory watched
    notes: dict[str, object] = {}
    for line in sys.stdin:
        request = json.loads(line)
        place = Place(options, time.monotonic() + request["seconds"], notes)
        is_well = compute(request["part"], place, answers)
        _say(answers, {"end": request["part"], "is_well": is_well})
        if not is_well:
            return


def compute(part: str, place: Place, answers: TextIO) -> bool:
    """Write the rows of a part as they come; false after one that raised."""
    try:
        for row in import_module(f"benchmarks.device.parts.{part}").run(place):
            _say(answers, {"row": row.as_json()})
    except Exception as error:  # noqa: BLE001 - whatever a part meets is its row, and the others are to run
        row = replace(failed(part, "stopped by an error", error), values={"log": traceback.format_exc()[-3000:]})
        _say(answers, {"row": row.as_json()})
        return False
    return True


def as_row(value: dict[str, object]) -> Row:
    """A row that came as JSON."""
    return Row(**value)  # type: ignore[arg-type]


def _say(answers: TextIO, value: dict[str, object]) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()

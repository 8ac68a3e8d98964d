"""Ends what a process of tests has left behind: `python watchdog.py PID MARK FOLDER`, started by that process.

It is no child of that process for long: tests look at their children.
"""

import os
import shutil
import sys
import time
from contextlib import suppress

import psutil

MARK = "TESTS_RUN"
SECONDS_BETWEEN_LOOKS = 0.5


def main(number: int, mark: str, folder: str) -> None:
    """Wait until the process has ended, and clean up."""
    tests = psutil.Process(number)
    if os.fork():
        return
    while _lives(tests):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    while marked := _marked(mark):
        for process in marked:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(marked, timeout=5)
    shutil.rmtree(folder, ignore_errors=True)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                found.append(process)
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])

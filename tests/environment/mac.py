"""The product's commands where the system says that it is macOS: `python -m tests.environment.mac [COMMAND …]`.

Each line of standard input is a command; its exit code and what it printed are a line of JSON. What macOS lacks is gone
(/proc, CPU affinity, pidfd), what it has is there (F_FULLFSYNC), and its tools answer as they do on a Mac.
"""

import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import FrameType
from typing import Any

MISSING = {
    os: ("sched_getaffinity", "sched_setaffinity", "posix_fadvise", "posix_fallocate", "fdatasync", "copy_file_range",
         "pidfd_open", "memfd_create", "eventfd", "getrandom", "sendfile"),
    signal: ("pidfd_send_signal", "sigtimedwait", "sigwaitinfo"),
}  # fmt: skip
FULL = 51
PMSET = """System-wide power settings:
Currently in use:
 sleep                1 (sleep prevented by powerd, coreaudiod)
 displaysleep         10
 powermode            1
"""
ANSWERS = {
    ("pmset", "-g"): PMSET,
    ("pmset", "-g batt"): "Now drawing from 'AC Power'\n",
    ("sysctl", "-n machdep.cpu.brand_string"): "Apple M2 Max\n",
    ("sysctl", "-n hw.perflevel0.physicalcpu"): "8\n",
    ("sysctl", "-n iogpu.wired_limit_mb"): "0\n",
    ("sysctl", "-n hw.optional.arm.FEAT_BF16"): "1\n",
    ("ioreg", "-rd1 -c IOPlatformExpertDevice"): '  "IOPlatformUUID" = "6F1C-0A"\n',
    ("scutil", "--get LocalHostName"): "Marias-Mac-Studio\n",
}
_run = subprocess.run
_fcntl = fcntl.fcntl


def become_a_mac() -> None:
    """From now on the system says that it is macOS."""
    # these choose their parts by the system when they are loaded, and this one lacks macOS's
    import urllib.request

    import psutil

    del psutil, urllib
    sysconfig.get_config_vars()
    for module, names in MISSING.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    fcntl.F_FULLFSYNC = FULL  # type: ignore[attr-defined]
    fcntl.fcntl = _full_fcntl  # type: ignore[assignment]
    subprocess.run = _answer  # type: ignore[assignment]
    platform.system = lambda: "Darwin"  # type: ignore[assignment]
    platform.machine = lambda: "arm64"  # type: ignore[assignment]
    platform.mac_ver = lambda *_, **__: ("26.1", ("", "", ""), "arm64")  # type: ignore[assignment]
    sys.platform = "darwin"
    sys.addaudithook(_without_proc)


def _full_fcntl(descriptor: int, command: int, *words: Any) -> Any:
    return os.fsync(descriptor) if command == FULL else _fcntl(descriptor, command, *words)


def _answer(command: Any, *given: Any, **named: Any) -> "subprocess.CompletedProcess[Any]":
    words = [command] if isinstance(command, str) else list(map(str, command))
    key = (Path(words[0]).name, " ".join(words[1:]))
    if key in ANSWERS:
        return subprocess.CompletedProcess(words, 0, ANSWERS[key], "")
    return _run(command, *given, **named)


def _without_proc(event: str, given: tuple[Any, ...]) -> None:
    if event != "open" or not str(given[0]).startswith("/proc"):
        return
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if "/psutil/" in frame.f_code.co_filename:
            return
        frame = frame.f_back
    raise FileNotFoundError(2, "No such file or directory", given[0])


def main() -> None:
    """Run the commands of standard input."""
    commands = [json.loads(line) for line in sys.stdin]
    if any(words[0] == "check" for words in commands):
        import diffusers
        import torch
        import transformers  # noqa: F401 - these ask the real system, too

        del diffusers, torch
    become_a_mac()
    from click.testing import CliRunner

    from flows.cli import main as shoes

    for words in commands:
        done = CliRunner().invoke(shoes, words)
        error = "" if isinstance(done.exception, SystemExit | None) else repr(done.exception)
        print(json.dumps({"code": done.exit_code, "out": done.stdout, "err": done.stderr, "error": error}), flush=True)


if __name__ == "__main__":
    main()

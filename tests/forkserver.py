"""Commands of this program that start in a tenth of a second: forks of a process that has the libraries loaded.

Importing torch, diffusers, transformers and MLflow takes a core some seven seconds, and a test that kills a training
starts several. So a command that a test starts by `subprocess` (`is_known`) becomes a fork of the forkserver, which has
imported other people's libraries and nothing of this project. To the test it is like any other child: its own process,
which is waited for, killed and asked as always; its folder, variables, standard streams and session are those that were
asked for.

What it can't stand for, and how that is met:

- What a library reads of the environment while it is imported: where such a variable is another one (`_IMPORTED`), and
  under coverage, the command starts plainly.
- What other processes see of it from outside: the kernel shows the forkserver's command line and first environment.
  `shoes up`, which is looked for by these, starts plainly.
- The start of Python itself, imports that fail, `sitecustomize`, `python -W`: a test of these uses another program.
- Exit functions that a library registered when it was imported run in every fork.
- Other systems than Linux, where a process can't become another one's child: commands start plainly.
"""

import atexit
import ctypes
import gc
import inspect
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

SHOES = "from flows.cli import main; main()"
_MEASURING = (["-m", "shoes.forecast"], ["-m", "shoes.model.trial"])
_FOLLOWING = "from shoes.training.workers import follow; "
_IMPORTED = re.compile(r"(HF|HUGGINGFACE|TRANSFORMERS|DIFFUSERS|(PY)?TORCH|OMP|MKL|(DY)?LD|MLFLOW_DISABLE)_.*|PYTHON.*")
"""Variables that Python or a library reads when it starts. TORCHINDUCTOR_CACHE_DIR is none: torch sets it by itself."""
_LIBRARIES = (
    "numpy",
    "safetensors.torch",
    "torch",
    "transformers.models.clip",
    "diffusers.pipelines.stable_diffusion",
    "peft",
    "accelerate",
    "mlflow",
)
_PR_SET_CHILD_SUBREAPER = 36
_MOST_BYTES = 150_000
"""Of a message: its words and variables. Linux takes 200 kB."""
_environment: dict[str, str] = {}
"""The variables that the forkserver is started with."""
_server: "Forkserver | None" = None


def is_known(words: Any) -> bool:
    """A command line of `shoes`, or of a process that measures for it or trains beside it."""
    if not isinstance(words, list) or words[:1] != [sys.executable] or not all(isinstance(word, str) for word in words):
        return False
    if words[1:] in _MEASURING or (words[1:2] == ["-c"] and words[2].startswith(_FOLLOWING)):
        return True
    return words[1:3] in (["-c", SHOES], ["-m", "flows"]) and words[3:4] not in (["up"], [])


def patch() -> None:
    """From now on this process starts commands that are known by the forkserver."""
    if not sys.platform.startswith("linux"):
        return
    _environment.update(os.environ)
    plain = subprocess.Popen._execute_child  # type: ignore[attr-defined]
    signature = inspect.signature(plain)

    def execute(self: "subprocess.Popen[Any]", *words: Any, **named: Any) -> None:
        given = signature.bind(self, *words, **named).arguments
        if not _can_fork(given):
            plain(self, *words, **named)
            return
        streams = [given["p2cread"], given["c2pwrite"], given["errwrite"]]
        try:
            self.pid = _forkserver().start(
                given["args"][1:],
                folder=os.fspath(given["cwd"] or Path.cwd()),
                environment=dict(os.environ if given["env"] is None else given["env"]),
                streams=[number if one == -1 else one for number, one in enumerate(streams)],
                has_own_session=given["start_new_session"],
            )
            self._child_created = True  # type: ignore[attr-defined]
        finally:
            names = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
            self._close_pipe_fds(*(given[name] for name in names))  # type: ignore[attr-defined]

    subprocess.Popen._execute_child = execute  # type: ignore[attr-defined]


def _can_fork(given: dict[str, Any]) -> bool:
    if not is_known(given["args"]) or given["executable"] is not None or given["preexec_fn"] or given["pass_fds"]:
        return False
    environment = os.environ if given["env"] is None else given["env"]
    is_measured = any(name.startswith("COVERAGE_") for name in environment)
    return not is_measured and _imported(environment) == _imported(_environment)


def _imported(environment: Any) -> dict[str, str]:
    return {name: value for name, value in environment.items() if _IMPORTED.fullmatch(name)}


def _forkserver() -> "Forkserver":
    global _server  # noqa: PLW0603
    if _server is None:
        from tests import world

        with world.outside_of_tests():  # it is not the test's that asked for it first
            _server = Forkserver()
        atexit.register(_server.close)
    return _server


class Forkserver:
    """The process that forks, and this end of the line to it. It ends when this process does."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = theirs.fileno()
        words = [sys.executable, __file__, str(number)]
        self._process = subprocess.Popen(
            words, env=_environment, pass_fds=[number], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd="/"
        )
        theirs.close()

    def start(
        self, words: list[str], *, folder: str, environment: dict[str, str], streams: list[int], has_own_session: bool
    ) -> int:
        """Start a command, by the words after Python's name; its process, a child of this one."""
        asked = {"words": words, "folder": folder, "environment": environment, "has_own_session": has_own_session}
        message = json.dumps(asked).encode()
        assert len(message) < _MOST_BYTES
        _adopt(True)
        try:
            socket.send_fds(self._line, [message], streams)
            return int(self._line.recv(100))
        finally:
            _adopt(False)

    def close(self) -> None:
        """Let it end."""
        self._line.close()
        self._process.wait()


def do_not_wait_for_the_disk() -> None:
    """Files of this process and its forks are written when the system likes, which all other processes can't tell."""
    os.fsync = lambda _: None


def _adopt(is_on: bool) -> None:
    """Children of children that end become this process's own, as long as that is on."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(is_on), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def serve(line: socket.socket) -> None:
    """Fork for each message, until the line is closed."""
    import importlib

    for name in _LIBRARIES:
        importlib.import_module(name)
    gc.freeze()  # no fork looks through them
    do_not_wait_for_the_disk()
    while True:
        message, streams, _, _ = socket.recv_fds(line, _MOST_BYTES, 3)
        if not message:
            return
        line.send(str(_fork(json.loads(message), streams, line)).encode())
        for number in streams:
            os.close(number)


def _fork(asked: dict[str, Any], streams: list[int], line: socket.socket) -> int:
    """The number of a grandchild, which goes on once its parent is gone and the forkserver's has it."""
    number, orphaned = os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        if (grandchild := os.fork()) == 0:
            line.close()
            for end in (*number, orphaned[1]):
                os.close(end)
            os.read(orphaned[0], 1)
            os.close(orphaned[0])
            _become(asked, streams)
        os.write(number[1], str(grandchild).encode())
        os._exit(0)
    os.waitpid(child, 0)
    for end in (number[1], *orphaned):
        os.close(end)
    with os.fdopen(number[0]) as pipe:
        return int(pipe.read())


def _become(asked: dict[str, Any], streams: list[int]) -> NoReturn:
    """Be the command, and end as Python ends."""
    import random
    import time

    import numpy as np

    code = 1
    try:
        if asked["has_own_session"]:
            os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for stream in streams:
            os.close(stream)
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["folder"])
        time.tzset()
        random.seed()
        np.random.seed()
        code = _run(asked["words"])
    finally:
        if (error := sys.exc_info()[1]) is not None:
            sys.excepthook(type(error), error, error.__traceback__)
        _end(code)


def _end(code: int) -> NoReturn:
    import threading

    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _run(words: list[str]) -> int:
    """What `python WORDS` does; its exit code."""
    import runpy

    way, what, *arguments = words
    sys.argv = [way, *arguments]
    sys.path[0] = "" if way == "-c" else str(Path.cwd())
    try:
        if way == "-c":
            main = type(sys)("__main__")
            sys.modules["__main__"] = main
            exec(compile(what, "<string>", "exec"), main.__dict__)
        else:
            runpy.run_module(what, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        import signal
        import traceback

        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return 0


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))

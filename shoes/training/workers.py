"""A training in several processes: who starts the others, and what they do until it ends.

Either we start them ourselves (`--devices 2`), or `accelerate launch` has started this program several times. The
process of rank 0 does all that a single one would, and the others follow it.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from shoes.training import checkpoint
from shoes.training.checkpoint import Snapshot
from shoes.training.recovery import follow_remedy
from shoes.training.run import Decisions, Job
from shoes.training.session import Session, open_session
from shoes.training.step import NotFinite, take_step
from shoes.training.team import ALONE, Team

log = logging.getLogger(__name__)
PATIENCE = timedelta(hours=12)
"""How long the others wait for rank 0, which validates, draws and saves between steps."""
SECONDS_TO_END = 30.0


@contextmanager
def gathered(decisions: Decisions) -> Iterator[Team]:
    """The team of a training, started where nobody has started it; ended behind the block.

    Raises:
        RuntimeError: a process could not be reached.
    """
    if decisions.processes == 1:
        yield ALONE
        return
    launched = launched_processes() > 1
    variables = {} if launched else _variables(decisions.processes)
    with _environment(variables):
        others = [] if launched else [_start(rank, decisions) for rank in range(1, decisions.processes)]
        try:
            with _joined(decisions.device) as team:
                share_threads(decisions)
                yield team
                team.tell("end")
        except BaseException:  # they may be waiting for something that does not come any more
            for process in others:
                process.kill()
            raise
        finally:
            _end(others)


def launched_processes() -> int:
    """How many processes `accelerate launch` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def open_together(job: Job, decisions: Decisions, snapshot: Snapshot | None, team: Team) -> Session:
    """The session of rank 0, and then those of the others: what has to be encoded is encoded once."""
    session = open_session(job, decisions, snapshot, team)
    team.tell("train", job, decisions)
    return session


def follow(device: str) -> None:
    """Do what rank 0 says until it says that the training has ended, or is gone. `device` is that of the training."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the end of the step, and of the training, is for rank 0 to say
        signal.signal(number, signal.SIG_IGN)
    with _joined(device) as team:
        _, job, decisions = team.listen()
        share_threads(decisions)
        session = open_session(job, decisions, checkpoint.latest(job.checkpoints), team)
        for command, what in _commands(team):
            if command == "adapt":
                session.adapt(*what)
            elif command == "recover":
                follow_remedy(session, *what)
            elif command == "step":
                # rank 0 met the same, and says what to do
                with suppress(NotFinite, RuntimeError):
                    take_step(session)


def _commands(team: Team) -> Iterator[tuple[str, list[Any]]]:
    """What rank 0 says, until it says that it is done, or is gone."""
    while True:
        try:
            command, *what = team.listen()
        except RuntimeError:  # the connection is closed
            return
        if command == "end":
            return
        yield command, what


def share_threads(decisions: Decisions) -> None:
    """On the CPU the members share its cores."""
    import torch

    if decisions.device == "cpu":
        torch.set_num_threads(max(1, decisions.num_threads // decisions.processes))


@contextmanager
def _joined(device: str) -> Iterator[Team]:
    """This process as a member of the team that the environment describes."""
    from accelerate import PartialState

    backend = {"backend": "gloo"} if device == "cpu" else {}
    state = PartialState(cpu=device == "cpu", timeout=PATIENCE, **backend)
    try:
        yield Team(state.process_index, state.num_processes)
    finally:
        state.destroy_process_group()
        PartialState._reset_state()


def _variables(processes: int) -> dict[str, str]:
    """What PyTorch's processes find each other by."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return {**address, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": str(processes)}


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    names = {*variables, "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS"}  # accelerate sets the last two
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start(rank: int, decisions: Decisions) -> "subprocess.Popen[bytes]":
    """One follower, in a session of its own: Ctrl-C is for rank 0."""
    environment = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank)}
    command = [sys.executable, "-c", f"from shoes.training.workers import follow; follow({decisions.device!r})"]
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=2, start_new_session=True)


def _end(others: "list[subprocess.Popen[bytes]]") -> None:
    for process in others:
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

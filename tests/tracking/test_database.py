"""MLflow's database is there as a whole or not at all: a process that dies while it makes it ruins nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shoes.tracking.mirror import connect

DIE_AT_A_STATEMENT = """
import os, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine

left = int(sys.argv[2])

@event.listens_for(Engine, "after_cursor_execute")
def count(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

from shoes.tracking.mirror import connect
connect(sys.argv[1]).search_experiments(max_results=1)
"""


@pytest.mark.parametrize("statement", [12, 40, 90])
def test_killed_while_it_is_made_it_is_made_by_the_next(own_world: Path, statement: int) -> None:
    uri = f"sqlite:///{own_world}/data/mlflow.db"
    command = [sys.executable, "-c", DIE_AT_A_STATEMENT, uri, str(statement)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONWARNINGS": ""})
    assert done.returncode == -signal.SIGKILL, done.stderr
    client = connect(uri)
    experiment = client.create_experiment("after")
    assert client.get_experiment_by_name("after").experiment_id == experiment
    assert sorted(path.suffix for path in (own_world / "data").iterdir()) == [".db", ".lock"], "nothing is left over"

"""MLflow's database is there as a whole or not at all: a process that dies while it makes it ruins nothing."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from shoes.tracking import database
from shoes.tracking.database import make_database
from shoes.tracking.mirror import connect

DIE_AT_A_STATEMENT = """
import os, signal, sys
sys.prefix = sys.argv[3]
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


@pytest.mark.parametrize("statement", [12, *(pytest.param(later, marks=pytest.mark.slow) for later in (40, 90))])
def test_killed_while_it_is_made_it_is_made_by_the_next(
    own_world: Path, statement: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(own_world / "python"))  # no blank to copy, here and in the process
    uri = f"sqlite:///{own_world}/data/mlflow.db"
    command = [sys.executable, "-c", DIE_AT_A_STATEMENT, uri, str(statement), sys.prefix]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONWARNINGS": ""})
    assert done.returncode == -signal.SIGKILL, done.stderr
    client = connect(uri)
    experiment = client.create_experiment("after")
    assert client.get_experiment_by_name("after").experiment_id == experiment
    assert sorted(path.suffix for path in (own_world / "data").iterdir()) == [".db", ".lock"], "nothing is left over"


def test_the_second_store_is_a_copy_of_the_first_with_its_own_place(
    own_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(own_world / "python"))
    made = []
    for name in ("first", "second"):
        file = own_world / name / "mlflow.db"
        make_database(f"sqlite:///{file}")
        default = connect(f"sqlite:///{file}").get_experiment("0")
        assert default.artifact_location == (file.parent / "artifacts" / "0").as_uri()
        with closing(sqlite3.connect(file)) as base:
            made.append(sorted(line for line in base.iterdump() if 'INTO "experiments"' not in line))
        monkeypatch.setattr(database, "_migrate", None)
    assert made[0] == made[1]
    assert len(list((own_world / "python" / "share" / "shoes").iterdir())) == 1

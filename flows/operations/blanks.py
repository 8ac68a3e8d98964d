"""Makes the blank databases of an installation, so that no first start waits for their migrations."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.operations import database
from shoes.tracking import database as tracking

if __name__ == "__main__":
    os.environ["MLFLOW_LOGGING_LEVEL"] = "WARNING"  # not a line for each migration
    with TemporaryDirectory() as folder:
        database.make_database(Path(folder) / "prefect")
        tracking.make_database(f"sqlite:///{folder}/mlflow.db")

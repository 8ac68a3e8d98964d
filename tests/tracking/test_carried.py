"""A data folder that was carried to another place: MLflow's artifacts are found beside its database again."""

import shutil
from pathlib import Path

import pytest

from shoes.tracking.journal import Journal
from shoes.tracking.mirror import Destination, Mirror, connect


def destination(folder: Path) -> Destination:
    return Destination(f"sqlite:///{folder}/mlruns/mlflow.db", folder / "mlruns/artifacts", "shoes", "a run", "abc")


def note(folder: Path, name: str, kind: str) -> None:
    file = folder / kind / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(name)
    with Journal(folder / "runs/abc/journal.jsonl") as journal:
        journal.artifact(name, file, "files")


@pytest.mark.parametrize("is_copied", [False, True])
def test_what_was_kept_is_there_and_what_was_left_is_sent(own_world: Path, is_copied: bool) -> None:
    first, second = own_world / "data", own_world / "Volumes/Disk 1/shoes"
    note(first, "sent.txt", "runs/abc")
    Mirror(first / "runs/abc/journal.jsonl", destination(first)).send()
    note(first, "of the run.txt", "runs/abc")
    note(first, "of the data set.txt", "descriptions/def")
    shutil.copytree(first, second)
    if not is_copied:
        shutil.rmtree(first)
    forget_where_artifacts_were()

    mirror = Mirror(second / "runs/abc/journal.jsonl", destination(second))
    mirror.send()
    client = connect(f"sqlite:///{second}/mlruns/mlflow.db")
    found = {file.path for file in client.list_artifacts(mirror.run_id, "files")}
    assert found == {"files/sent.txt", "files/of the run.txt", "files/of the data set.txt"}
    (run,) = client.search_runs([mirror.experiment_id])
    assert run.info.artifact_uri.startswith((second / "mlruns/artifacts").as_uri() + "/")
    assert first.exists() is is_copied
    if is_copied:
        left = connect(f"sqlite:///{first}/mlruns/mlflow.db").search_runs([mirror.experiment_id])
        assert left[0].info.artifact_uri.startswith((first / "mlruns/artifacts").as_uri() + "/"), "it has its own"


def test_another_name_of_the_same_folder_changes_nothing(own_world: Path) -> None:
    file = own_world / "data/mlflow.db"
    before = connect(f"sqlite:///{file}").get_experiment("0").artifact_location
    (file.parent / "artifacts").mkdir()
    (own_world / "link").symlink_to(own_world / "data")
    assert connect(f"sqlite:///{own_world}/link/mlflow.db").get_experiment("0").artifact_location == before


def forget_where_artifacts_were() -> None:
    """MLflow remembers it for its process."""
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()

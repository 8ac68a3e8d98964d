"""MLflow holds what the journal holds: once, also after outages, and the champion draws."""

import json
import socket
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from shoes.errors import TrackingUnavailable
from shoes.tracking.journal import Journal, read_events
from shoes.tracking.mirror import Destination, Mirror, connect
from shoes.tracking.registry import Registry
from tests.champion import crown


def destination(folder: Path, uri: str | None = None) -> Destination:
    return Destination(uri or f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts", "trial", "a run", "abc")


def journal_of_five(folder: Path) -> Path:
    picture = folder / "picture.png"
    Image.new("RGB", (8, 8), "red").save(picture)
    with Journal(folder / "journal.jsonl") as journal:
        journal.parameters({"rank": 8})
        journal.tags("tags", {"recipe": "demo"})
        for step in range(1, 6):
            journal.metrics(f"train/{step}", step, {"train/loss": 1 / step, "train/lr": 0.1})
        journal.image("samples/0", "samples", 0, picture)
        journal.artifact("file", picture, "files")
        journal.status("end", "FINISHED", step=5)
    return folder / "journal.jsonl"


def test_a_replay_doubles_nothing(tmp_path: Path) -> None:
    journal = journal_of_five(tmp_path)
    for _ in range(3):
        mirror = Mirror(journal, destination(tmp_path))
        mirror.send()
        journal.with_suffix(".mlflow.json").unlink()
    client = connect(destination(tmp_path).tracking_uri)
    experiment = client.get_experiment_by_name("trial")
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert Counter(point.step for point in history) == Counter(range(1, 6))
    assert run.data.params == {"rank": "8"}
    assert run.data.tags["recipe"] == "demo"
    assert run.info.status == "FINISHED"
    pictures = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    assert len([path for path in pictures if path.endswith(".png")]) == 1
    assert [file.path for file in client.list_artifacts(run.info.run_id, "files")] == ["files/picture.png"]


def test_a_journal_that_is_sent_needs_no_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = journal_of_five(tmp_path)
    first = Mirror(journal, destination(tmp_path))
    first.send()
    monkeypatch.setattr("shoes.tracking.mirror.connect", lambda uri: pytest.fail("MLflow was asked"))
    again = Mirror(journal, destination(tmp_path))
    again.send()
    assert again.run_id == first.run_id


def test_what_was_written_while_mlflow_was_away_is_sent_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    journal = journal_of_five(tmp_path)
    with pytest.raises(TrackingUnavailable, match="does not answer"):
        Mirror(journal, destination(tmp_path, closed)).send()
    back = Mirror(journal, destination(tmp_path))
    back.send()
    history = connect(destination(tmp_path).tracking_uri).get_metric_history(back.require_run(), "train/loss")
    assert len(history) == 5


def test_two_machines_that_train_the_same_have_a_run_each(tmp_path: Path) -> None:
    """The store is the team's; the journals and the data folders are their own."""
    ids = []
    for name in ("one", "two", "one"):
        folder = tmp_path / name
        to = Destination(f"sqlite:///{tmp_path / 'team.db'}", folder / "mlruns/artifacts", "trial", "a run", "abc")
        if not folder.exists():
            folder.mkdir()
            journal_of_five(folder)
        (folder / "journal.mlflow.json").unlink(missing_ok=True)
        ids.append(Mirror(folder / "journal.jsonl", to).require_run())
    assert ids[0] == ids[2] != ids[1]
    client = connect(f"sqlite:///{tmp_path / 'team.db'}")
    assert [len(client.get_metric_history(run, "train/loss")) for run in ids[:2]] == [5, 5]


def test_the_nights_run_holds_everything(in_night) -> None:
    client = connect(f"sqlite:///{in_night.data_dir / 'mlruns/mlflow.db'}")
    experiment = client.get_experiment_by_name("casual-shoes-lora-demo")
    (run,) = client.search_runs([experiment.experiment_id], f"tags.fingerprint = '{in_night.training.fingerprint}'")
    assert run.data.params["rank"] == "8"
    assert run.data.params["learning_rate"] == "0.002"
    for event in read_events(in_night.training.run_dir / "journal.jsonl"):
        if event["kind"] == "metrics":
            for name, value in event["values"].items():
                points = [p for p in client.get_metric_history(run.info.run_id, name) if p.step == event["step"]]
                assert [point.value for point in points] == [value], name
    there = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"adapter", "samples", "evaluation", "images", "spec.toml", "environment.json"} <= there
    assert {f"val/loss/t{t:03d}" for t in (62, 187, 312, 437, 562, 687, 812, 937)} <= run.data.metrics.keys()
    assert "eval/clip_score_minus_base_low" in run.data.metrics


def test_the_kept_spec_is_a_recipe(in_night) -> None:
    from shoes import recipes

    assert recipes.load(str(in_night.training.run_dir / "spec.toml")) == in_night.recipe


def test_an_adapter_that_is_not_better_is_registered_and_not_the_champion(in_night) -> None:
    assert not in_night.promotion.promoted
    assert in_night.promotion.version is not None
    assert in_night.promotion.champion_version is None


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_better_adapter_becomes_the_champion_and_draws(in_night) -> None:
    import mlflow

    report = crown(in_night)
    assert report.promoted
    again = crown(in_night)
    assert again.version == report.version, "asking twice registers once"
    uri = f"sqlite:///{in_night.data_dir / 'mlruns/mlflow.db'}"
    champion = Registry(uri, "casual-shoes-lora-demo").champion()
    assert champion is not None
    assert champion.adapter_sha256 == in_night.training.adapter_sha256
    mlflow.set_registry_uri(uri)
    model = mlflow.pyfunc.load_model("models:/casual-shoes-lora-demo@champion")
    images = model.predict(["A professional product photo of black casual shoes", "red casual shoes"])
    assert [image.size for image in images] == [(64, 64), (64, 64)]
    assert json.dumps(report.model_dump(mode="json"))

"""MLflow knows what a run was trained on: the splits as inputs, and the description of the data set."""

import json
from pathlib import Path

from shoes.tracking import inputs
from shoes.tracking.journal import Journal, read_events
from shoes.tracking.mirror import Destination, Mirror, connect


def test_the_nights_run_names_its_data(in_night) -> None:
    client = connect(f"sqlite:///{in_night.data_dir / 'mlruns/mlflow.db'}")
    experiment = client.get_experiment_by_name("casual-shoes-lora-demo")
    (run,) = client.search_runs([experiment.experiment_id], f"tags.fingerprint = '{in_night.training.fingerprint}'")
    found = {i.dataset.name: (i.dataset, {tag.key: tag.value for tag in i.tags}) for i in run.inputs.dataset_inputs}
    assert {name: tags["mlflow.data.context"] for name, (_, tags) in found.items()} == {
        "small/train": "training",
        "small/val": "validation",
        "small/test": "testing",
    }
    train = found["small/train"][0]
    assert in_night.data.fingerprint.startswith(train.digest)
    assert len(train.digest) == 36
    assert json.loads(train.source)["uri"].endswith("small/train")
    counted = json.loads(train.profile)
    expected = next(split for split in in_night.data.splits if split.name == "train")
    assert (counted["num_rows"], counted["num_captions"]) == (expected.num_images, expected.num_captions)
    assert sum(counted["colour"].values()) == expected.num_images
    files = {file.path for file in client.list_artifacts(run.info.run_id, "data")}
    assert files == {"data/index.html", "data/description.json", "data/samples.png"}


def test_the_inputs_are_written_once(in_night) -> None:
    events = [e for e in read_events(in_night.training.run_dir / "journal.jsonl") if e["kind"] == "data_set"]
    assert [event["context"] for event in events] == ["training", "validation", "testing"]


def test_a_replay_doubles_no_input(tmp_path: Path) -> None:
    to = Destination(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts", "trial", "a run", "abc")
    about = {
        "source_type": "local",
        "source": {"uri": "/x"},
        "schema": {"mlflow_colspec": []},
        "profile": {"num_rows": 4},
    }
    with Journal(tmp_path / "journal.jsonl") as journal:
        for name, context in (("shoes/train", "training"), ("shoes/val", "validation")):
            journal.data_set(f"data/{name}", name=name, digest="d" * 36, context=context, about=about)
    for _ in range(3):
        mirror = Mirror(tmp_path / "journal.jsonl", to)
        mirror.send()
        (tmp_path / "journal.mlflow.json").unlink()
    found = connect(to.tracking_uri).get_run(mirror.require_run()).inputs.dataset_inputs
    assert sorted((i.dataset.name, i.tags[0].value) for i in found) == [
        ("shoes/train", "training"),
        ("shoes/val", "validation"),
    ]
    assert {tag.key for i in found for tag in i.tags} == {"mlflow.data.context"}
    assert json.loads(found[0].dataset.profile) == {"num_rows": 4}


def test_a_description_that_is_gone_costs_its_own_lines_only(tmp_path: Path, small_data: Path) -> None:
    from shoes import dataset

    data = dataset.verify(small_data).model_copy(update={"description": tmp_path / "gone"})
    assert inputs.describe(data) is None
    assert inputs.about(small_data / "train", None) == {
        "source_type": "local",
        "source": {"uri": str(small_data / "train")},
    }

"""A checkpoint that was chosen by its pictures takes the place of the one with the lowest held-out loss."""

import json
from collections.abc import Callable

import mlflow
import pytest

from shoes import stages
from shoes.evaluation import candidates
from shoes.publishing.export import adapter_sha256
from shoes.reports import TrainReport
from shoes.settings import load_settings
from shoes.spec import Recipe
from shoes.storage import hash_files
from shoes.tracking.journal import read_events


@pytest.fixture
def recipe(micro: Callable[..., Recipe]) -> Recipe:
    return micro({"train.max_train_steps": "6", "eval.choice_images": "4", "train.validation_images": "4"})


def test_the_chosen_checkpoint_is_the_adapter_from_then_on(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    trained = stages.train(recipe, models, data)
    lowest = min((loss for loss in trained.losses if loss.step), key=lambda loss: loss.mean)
    assert trained.chosen_step == lowest.step
    other = next(step for step in (2, 4, 6) if step != lowest.step)
    monkeypatch.setattr(candidates, "choose", lambda pictured: other)
    chosen = stages.choose(recipe, models, data, trained)
    candidate = trained.run_dir / "candidates" / f"step-{other:06d}"
    assert hash_files(chosen.adapter_dir) == hash_files(candidate)
    assert chosen.chosen_step == other
    assert chosen.adapter_sha256 == adapter_sha256(candidate) != trained.adapter_sha256
    assert chosen.loss_difference != trained.loss_difference
    assert chosen.choice is not None
    assert [row.step for row in chosen.choice.checkpoints] == [0, 2, 4, 6]
    kept = TrainReport.model_validate_json((chosen.run_dir / "report.json").read_bytes())
    assert stages.trained(recipe, models, data) == kept == chosen
    assert stages.choose(recipe, models, data, chosen) == chosen, "asked again, the same"
    _in_mlflow(recipe, chosen)


def _in_mlflow(recipe: Recipe, chosen: TrainReport) -> None:
    client = mlflow.MlflowClient(load_settings().tracking_uri)
    experiment = client.get_experiment_by_name(recipe.publish.experiment)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["adapter_sha256"] == chosen.adapter_sha256
    assert run.data.tags["checkpoint_reason"] == chosen.choice.reason
    assert run.data.metrics["choice/step"] == chosen.chosen_step
    ids = [event["id"] for event in read_events(chosen.run_dir / "journal.jsonl")]
    assert len(ids) == len(set(ids))


def test_an_evaluation_of_the_base_stays_when_the_choice_does(recipe: Recipe) -> None:
    """The whole path: choose, evaluate with the held-out loss of both arms, and find the choice in the report."""
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    training = stages.choose(recipe, models, data, stages.train(recipe, models, data))
    report = stages.evaluate(recipe, models, data, training)
    assert report.adapter_sha256 == training.adapter_sha256
    base, adapter = report.arms[:2]
    assert base.held_out_loss is not None
    assert base.held_out_loss != adapter.held_out_loss
    kept = sorted((load_settings().cache / "losses").iterdir())
    assert len(kept) == 2
    assert all(len(json.loads(file.read_text())) == 4 for file in kept), "four photos are the recipe's"

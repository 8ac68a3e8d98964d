"""Training the real tiny model: what is on disk, in the journal and in MLflow afterwards."""

from collections.abc import Callable

import numpy as np
import pytest

from shoes import stages
from shoes.errors import ConfigurationError
from shoes.spec import Recipe
from shoes.tensors import read_tensors
from shoes.tracking.journal import read_events
from shoes.training.step import take_step
from tests.training.opening import session_of


def test_max_train_steps_is_what_runs(night) -> None:
    report = night.training
    assert (report.step, report.max_train_steps) == (4, 4)
    losses = [e for e in read_events(report.run_dir / "journal.jsonl") if "train/loss" in e.get("values", {})]
    assert [event["step"] for event in losses] == [1, 2, 3, 4]


def test_the_candidate_with_the_lowest_held_out_loss_is_exported(night) -> None:
    report = night.training
    trained = {loss.step: loss.mean for loss in report.losses if loss.step > 0}
    assert set(trained) == {2, 4}
    assert report.chosen_step == min(trained, key=lambda step: trained[step])
    exported = read_tensors(report.adapter_dir / "pytorch_lora_weights.safetensors")
    candidate = report.run_dir / "candidates" / f"step-{report.chosen_step:06d}"
    expected = read_tensors(candidate / "pytorch_lora_weights.safetensors")
    assert all(np.array_equal(exported[name], expected[name]) for name in expected)


def test_old_checkpoints_are_pruned(night) -> None:
    left = sorted(path.name for path in (night.training.run_dir / "checkpoints").iterdir())
    assert left == ["step-000002", "step-000004"]


def test_a_finished_training_returns_without_loading_a_model(in_night, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*words: object, **options: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("shoes.training.lora.load_unet", fail)
    again = stages.train(in_night.recipe, in_night.models, in_night.data)
    assert again == in_night.training


def test_another_seed_trains_another_adapter(night, micro: Callable[..., Recipe]) -> None:
    recipe = micro({"train.seed": "7", "train.max_train_steps": "2"})
    report = stages.train(recipe, night.models, night.data)
    assert report.adapter_sha256 != night.training.adapter_sha256
    assert report.fingerprint != night.training.fingerprint


def test_accumulated_gradients_are_those_of_the_whole_batch(micro: Callable[..., Recipe]) -> None:
    whole = session_of(micro({"train.train_batch_size": "4", "train.gradient_accumulation_steps": "1"}))
    parts = session_of(micro({"train.train_batch_size": "1", "train.gradient_accumulation_steps": "4"}))
    for _ in range(2):
        first, second = take_step(whole), take_step(parts)
        assert first["train/loss"] == pytest.approx(second["train/loss"], rel=1e-5)
        assert first["train/grad_norm"] == pytest.approx(second["train/grad_norm"], rel=1e-4)


def test_gradients_are_clipped(micro: Callable[..., Recipe]) -> None:
    session = session_of(micro({"train.max_grad_norm": "1e-8", "train.lr_scheduler": "constant"}))
    metrics = take_step(session)
    assert metrics["train/grad_norm"] > 1e-8
    moments = [session.optimizer.state[p]["exp_avg"] for p in session.parameters.values()]
    norm = sum(float(m.square().sum()) for m in moments) ** 0.5
    assert norm <= 0.1 * 1e-8 * 1.01, "exp_avg after one step is (1 − β₁) × the clipped gradient"


def test_a_restored_session_goes_on_exactly(micro: Callable[..., Recipe]) -> None:
    straight = session_of(micro())
    take_step(straight)
    snapshot = straight.snapshot()
    take_step(straight)
    resumed = session_of(micro())
    resumed.restore(snapshot)
    take_step(resumed)
    expected, found = straight.snapshot(), resumed.snapshot()
    assert all(np.array_equal(expected.adapter[name], found.adapter[name]) for name in expected.adapter)
    assert all(np.array_equal(expected.optimizer[name], found.optimizer[name]) for name in expected.optimizer)
    assert not all(np.array_equal(snapshot.adapter[name], found.adapter[name]) for name in found.adapter)


def test_dropout_in_the_adapter_resumes_exactly_too(micro: Callable[..., Recipe]) -> None:
    recipe = micro({"train.lora_dropout": "0.3"})
    one, two = session_of(recipe), session_of(recipe)
    assert take_step(one)["train/loss"] == take_step(two)["train/loss"]
    first, second = take_step(one), take_step(two)
    assert {name: first[name] for name in first if name.startswith("train/")} == {
        name: second[name] for name in second if name.startswith("train/")
    }


def test_an_unknown_target_layer_is_named(micro: Callable[..., Recipe]) -> None:
    with pytest.raises(ConfigurationError, match="this UNet has no layer to_z"):
        session_of(micro({"train.lora_target_modules": "to_q,to_z"}))

"""The numbers themselves: a golden curve, and a batch that can be learned by heart."""

from collections.abc import Callable

import pytest
import torch

from shoes.spec import Recipe
from shoes.training import step as step_module
from shoes.training.step import draw, take_step
from tests.conftest import DEMO_MODEL
from tests.training.opening import session_of


def test_one_batch_can_be_learned_by_heart(micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two photos with fixed noise and timesteps: below 5 % of the first loss within 300 steps at rank 64."""
    session = session_of(
        micro(
            {
                **DEMO_MODEL,  # the shallow base has too few weights for that
                "train.train_batch_size": "2",
                "train.gradient_accumulation_steps": "1",
                "train.rank": "64",
                "train.lora_alpha": "64",
                "train.learning_rate": "5e-3",
                "train.lr_scheduler": "constant",
                "train.lora_target_modules": "to_q,to_k,to_v,to_out.0,ff.net.0.proj,ff.net.2",
                "train.max_train_steps": "300",
            }
        )
    )
    order, draws = draw(session)
    monkeypatch.setattr(step_module, "draw", lambda session: (order, draws))
    first = take_step(session)["train/loss"]
    last = first
    while session.step < 300 and last >= 0.05 * first:
        last = take_step(session)["train/loss"]
    assert last < 0.05 * first, f"{last / first:.1%} of the first loss after {session.step} steps"


def test_the_golden_loss_curve(micro: Callable[..., Recipe]) -> None:
    """Any change of the data, the draws, the objective, the adapter or the optimizer moves this curve."""
    session = session_of(micro({**DEMO_MODEL, "train.max_train_steps": "6"}))
    curve = [take_step(session) for _ in range(6)]
    assert [metrics["train/loss"] for metrics in curve] == pytest.approx(GOLDEN, rel=2e-4)
    assert [metrics["train/grad_norm"] for metrics in curve] == pytest.approx(GOLDEN_NORMS, rel=5e-3)


GOLDEN = [0.0997526795, 0.0660532266, 0.0850939304, 0.0796229616, 0.1547912955, 0.0879479200]
GOLDEN_NORMS = [0.0169221889, 0.0156257320, 0.0250983946, 0.0218684133, 0.0421449579, 0.0209891628]


def test_what_changes_only_the_cost_changes_no_dropout_either(micro: Callable[..., Recipe]) -> None:
    base = {"train.lora_dropout": "0.3", "train.train_batch_size": "4", "train.gradient_accumulation_steps": "1"}
    usual = take_step(session_of(micro(base)))
    for change in (
        {"train.train_batch_size": "1", "train.gradient_accumulation_steps": "4"},
        {"train.gradient_checkpointing": "full"},
        {"train.gradient_checkpointing": "attention"},
    ):
        found = take_step(session_of(micro({**base, **change})))
        assert found["train/loss"] == pytest.approx(usual["train/loss"], rel=1e-5)
        assert found["train/grad_norm"] == pytest.approx(usual["train/grad_norm"], rel=1e-4)
    without = take_step(session_of(micro({**base, "train.lora_dropout": "0"})))
    assert without["train/grad_norm"] != pytest.approx(usual["train/grad_norm"], rel=1e-3), "dropout did something"


def test_steps_are_timed_by_part(micro: Callable[..., Recipe]) -> None:
    metrics = take_step(session_of(micro()))
    parts = {name: value for name, value in metrics.items() if name.startswith("time/")}
    assert set(parts) == {"time/data", "time/forward", "time/backward", "time/optimizer"}
    assert all(value > 0 for value in parts.values())


def test_the_smoothed_loss_starts_at_the_first_and_resumes(micro: Callable[..., Recipe]) -> None:
    session = session_of(micro())
    first = take_step(session)
    assert first["train/loss_smoothed"] == pytest.approx(first["train/loss"])
    snapshot = session.snapshot()
    second = take_step(session)
    assert second["train/loss_smoothed"] != second["train/loss"]
    session.restore(snapshot)
    assert take_step(session)["train/loss_smoothed"] == second["train/loss_smoothed"]


def test_a_step_that_fails_leaves_nothing_behind(micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(micro())
    take_step(session)
    before = session.snapshot()
    usual, calls = session.scaler.scale, []

    def failing(loss: "torch.Tensor") -> "torch.Tensor":
        calls.append(loss)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("out of memory")
        return usual(loss)

    monkeypatch.setattr(session.scaler, "scale", failing)
    with pytest.raises(torch.OutOfMemoryError):
        take_step(session)
    after = session.snapshot()
    assert after.step == before.step
    assert all(torch.equal(before.adapter[name], after.adapter[name]) for name in before.adapter)
    assert all(torch.equal(before.optimizer[name], after.optimizer[name]) for name in before.optimizer)
    assert all(parameter.grad is None for parameter in session.parameters.values())

"""A training saves itself from NaN and from full memory: planted in the real thing."""

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from shoes.errors import TrainingError
from shoes.reports import Intervention
from shoes.spec import Recipe
from shoes.tracking.journal import Journal
from shoes.training import recovery
from shoes.training.objective import Objective
from shoes.training.recovery import Trouble, choose_remedy, step_or_recover
from shoes.training.run import Decisions
from shoes.training.saving import start_run
from shoes.training.session import Session
from tests.training.opening import session_of, train

NAN = Trouble(9, "the loss is nan", is_memory=False)
FULL = Trouble(9, "the device's memory is full", is_memory=True)


def decisions(**changes: object) -> Decisions:
    usual = Decisions(device="mps", precision="fp16", num_threads=1, reasons={}, micro_batch=4, checkpointing="off")
    return replace(usual, **changes)


def tried(*kinds: str, step: int = 9) -> tuple[Intervention, ...]:
    return tuple(Intervention(step=step, kind=kind, detail=kind) for kind in kinds)


@pytest.mark.parametrize(
    ("trouble", "now", "safer", "kind", "changed"),
    [
        (NAN, decisions(), ["bf16", "no"], "again", {}),
        (NAN, decisions(interventions=tried("again")), ["bf16", "no"], "precision", {"precision": "bf16"}),
        (NAN, decisions(interventions=tried("again", step=8)), ["no"], "again", {}),
        (NAN, decisions(precision="no", interventions=tried("again")), [], "learning_rate", {"rate_cuts": (6,)}),
        (
            NAN,
            decisions(precision="no", rate_cuts=(2,), interventions=tried("again")),
            [],
            "learning_rate",
            {"rate_cuts": (2, 6)},
        ),
        (replace(NAN, damaged=(3,)), decisions(), [], "cache", {}),
        (FULL, decisions(), [], "micro_batch", {"micro_batch": 2}),
        (FULL, decisions(micro_batch=3), [], "micro_batch", {"micro_batch": 1}),
        (FULL, decisions(micro_batch=1), [], "checkpointing", {"checkpointing": "attention"}),
        (FULL, decisions(micro_batch=1, device="cuda"), [], "checkpointing", {"checkpointing": "full"}),
        (FULL, decisions(micro_batch=1, checkpointing="attention"), [], "checkpointing", {"checkpointing": "full"}),
    ],
)
def test_the_policy(trouble: Trouble, now: Decisions, safer: list[str], kind: str, changed: dict[str, object]) -> None:
    remedy = choose_remedy(trouble, now, safer=safer, saved_step=6, most=8)
    assert remedy.kind == kind
    assert remedy.decisions == replace(now, **changed)
    assert remedy.detail


@pytest.mark.parametrize(
    ("trouble", "now", "words"),
    [
        (
            NAN,
            decisions(interventions=tried("again", "precision", "learning_rate")),
            "gave up at step 9: the loss is nan",
        ),
        (replace(NAN, damaged=(3, 4)), decisions(interventions=tried("cache")), "NaN or infinity for 2 photos"),
        (FULL, decisions(micro_batch=1, checkpointing="full"), "too small for one image"),
    ],
)
def test_where_nothing_is_left_it_gives_up_with_a_way_on(trouble: Trouble, now: Decisions, words: str) -> None:
    with pytest.raises(TrainingError, match=words) as caught:
        choose_remedy(trouble, now, safer=[], saved_step=6, most=3)
    assert "--train." in str(caught.value)


def plant(monkeypatch: pytest.MonkeyPatch, harm: Callable[[int, "torch.Tensor"], "torch.Tensor"]) -> list[int]:
    """Pass every micro-batch's losses through `harm`, which is told the number of the call; returns the calls."""
    calls: list[int] = []
    usual = Objective.training_losses

    def harmed(self: Objective, batch):
        calls.append(len(calls))
        return harm(calls[-1], usual(self, batch))

    monkeypatch.setattr(Objective, "training_losses", harmed)
    return calls


def test_nan_in_a_batch_that_does_not_come_again_changes_nothing(
    micro: Callable[..., Recipe], night, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plant(monkeypatch, lambda call, losses: losses * float("nan") if call == 5 else losses)
    report = train(micro())
    assert [(done.step, done.kind) for done in report.interventions] == [(3, "again")]
    assert report.adapter_sha256 == night.training.adapter_sha256
    assert "step 3: the loss is nan; the step is computed once more" in caplog.text


def test_infinity_in_a_gradient_is_met_too(
    micro: Callable[..., Recipe], night, monkeypatch: pytest.MonkeyPatch
) -> None:
    def harm(call: int, losses: "torch.Tensor") -> "torch.Tensor":
        if call == 2:
            losses.register_hook(lambda grad: grad * float("inf"))
        return losses

    plant(monkeypatch, harm)
    report = train(micro())
    assert [(done.step, done.kind) for done in report.interventions] == [(2, "again")]
    assert report.adapter_sha256 == night.training.adapter_sha256


def opened(recipe: Recipe) -> tuple[Session, Journal]:
    session = session_of(recipe)
    journal = Journal(session.job.journal)
    start_run(session, journal)
    return session, journal


def test_nan_that_stays_in_half_precision_ends_in_full_precision(
    micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, journal = opened(micro({"train.mixed_precision": "bf16"}))
    usual = Objective.training_losses

    def harmed(self: Objective, *words):
        losses = usual(self, *words)
        return losses * float("nan") if self.precision == "bf16" and session.step == 1 else losses

    monkeypatch.setattr(Objective, "training_losses", harmed)
    with journal:
        _, changed_first = step_or_recover(session, journal)
        before = session.snapshot()
        metrics, changed = step_or_recover(session, journal)
    assert (changed_first, changed) == (False, True)
    assert session.decisions.precision == "no"
    assert next(session.objective.unet.conv_in.parameters()).dtype == torch.float32
    assert np.isfinite(metrics["train/loss"])
    assert session.step == 2
    name = next(iter(before.optimizer))
    assert float(session.snapshot().optimizer[name.replace(name.split("/")[0], "step")]) == 2, "the moments went along"
    again = session_of(micro({"train.mixed_precision": "bf16"}))
    assert again.decisions.precision == "no", "the decision is pinned"


def test_nan_that_stays_in_full_precision_halves_the_learning_rate_from_the_last_checkpoint(
    micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = micro({"train.lr_scheduler": "constant", "train.max_recoveries": "3"})
    session, journal = opened(recipe)
    monkeypatch.setattr(recovery, "log", logging.getLogger("shoes.test"))
    plant(monkeypatch, lambda call, losses: losses * float("nan") if session.step == 2 and not cut() else losses)

    def cut() -> bool:
        return bool(session.decisions.rate_cuts)

    with journal:
        for _ in range(2):
            step_or_recover(session, journal)
        metrics, _ = step_or_recover(session, journal)
    assert session.step == 1, "back to the checkpoint of step 0, and one step on"
    assert metrics["train/lr"] == recipe.train.learning_rate / 2
    assert session.decisions.rate_cuts == (0,)


def test_it_gives_up_after_so_many_remedies(micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, lambda call, losses: losses * float("nan"))
    with pytest.raises(TrainingError, match="gave up at step 1") as caught:
        train(micro({"train.max_recoveries": "3"}))
    assert "the step is computed once more" in str(caught.value)
    assert "half the learning rate" in str(caught.value)


def test_a_damaged_latent_is_encoded_again(micro: Callable[..., Recipe], night) -> None:
    session, journal = opened(micro())
    with journal:
        metrics, _ = step_or_recover(session, journal)
        (file,) = {path for path in session.job.cache.rglob("moments.npy") if len(np.load(path)) == len(session.train)}
        moments = np.lib.format.open_memmap(file, mode="r+")
        moments[:] = np.nan
        moments.flush()
        metrics, changed = step_or_recover(session, journal)
    assert not changed or session.decisions.interventions[-1].kind == "cache"
    assert np.isfinite(metrics["train/loss"])
    assert not np.isnan(np.load(file)).any()
    clean = session_of(micro({"train.seed": "42"}))
    assert session.train.moments.shape == clean.train.moments.shape


def test_full_memory_at_step_7_halves_the_micro_batch_and_keeps_the_effective_batch(
    micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    eight = {"train.train_batch_size": "4", "train.gradient_accumulation_steps": "1", "train.max_train_steps": "8"}
    without = train(micro({**eight, "train.logging_dir": "elsewhere"}))
    sizes: list[int] = []

    def harm(call: int, losses: "torch.Tensor") -> "torch.Tensor":
        sizes.append(len(losses))
        if len(losses) > 1 and call >= 6:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return losses

    plant(monkeypatch, harm)
    report = train(micro(eight))
    assert [(done.step, done.kind) for done in report.interventions] == [(7, "micro_batch"), (7, "micro_batch")]
    assert sizes[:6] == [4] * 6
    assert sizes[-4:] == [1] * 4
    assert report.step == 8
    for ours, theirs in zip(report.losses, without.losses, strict=True):
        assert ours.mean == pytest.approx(theirs.mean, rel=1e-5), "the effective batch is the same"


def test_other_errors_are_not_taken_for_full_memory(
    micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    def harm(call: int, losses: "torch.Tensor") -> "torch.Tensor":
        raise RuntimeError("the size of tensor a must match the size of tensor b")

    plant(monkeypatch, harm)
    with pytest.raises(RuntimeError, match="must match"):
        train(micro())


def test_full_memory_as_python_says_it_is_met_too(
    micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, journal = opened(micro())

    def harm(call: int, losses: "torch.Tensor") -> "torch.Tensor":
        if call == 0:
            raise MemoryError
        return losses

    plant(monkeypatch, harm)
    with journal:
        step_or_recover(session, journal)
    assert (session.step, session.decisions.micro_batch) == (1, 1)

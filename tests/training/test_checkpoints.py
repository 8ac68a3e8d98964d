"""Checkpoints that were damaged, and what a training makes of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from shoes.errors import TrainingError
from shoes.reports import HeldOutLoss
from shoes.spec import Recipe
from shoes.tracking.journal import Journal
from shoes.training import checkpoint
from shoes.training.checkpoint import Snapshot
from shoes.training.saving import save_checkpoint
from tests.training.opening import session_of, train

LOSS = HeldOutLoss(step=0, mean=0.1, standard_error=0.01, train_mean=0.1)


def snapshot(step: int) -> Snapshot:
    weights = {"a": torch.full((64,), float(step))}
    return Snapshot(
        step=step, adapter=weights, optimizer=weights, average=weights, scaler={}, losses=(LOSS,), smoothed=(0.5, 0.25)
    )


def truncate(folder: Path) -> None:
    file = folder / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def flip_a_bit(folder: Path) -> None:
    file = folder / "adapter.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes(content)


def lose_a_file(folder: Path) -> None:
    (folder / "state.json").unlink()


def lose_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def write_half(folder: Path) -> None:
    """As a writer that died leaves it: under its temporary name."""
    folder.rename(folder.with_name(f".partial-{folder.name}-123"))


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.write_bytes(b"")


DAMAGES = [truncate, flip_a_bit, lose_a_file, lose_the_manifest, write_half, empty]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_passed_over_for_the_one_before(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.save(tmp_path, snapshot(1), keep=5)
    damage(checkpoint.save(tmp_path, snapshot(2), keep=5))
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert ("step-000002 is passed over" in caplog.text) is (damage is not write_half)
    checkpoint.save(tmp_path, snapshot(2), keep=5)
    assert checkpoint.latest(tmp_path).step == 2, "it is written again in its place"


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, snapshot(3), keep=1)
    found = checkpoint.latest(tmp_path)
    assert (found.step, found.losses, found.smoothed) == (3, (LOSS,), (0.5, 0.25))
    for kind in ("adapter", "optimizer", "average"):
        assert torch.equal(getattr(found, kind)["a"], torch.full((64,), 3.0))


def test_without_any_whole_one_there_is_none(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    flip_a_bit(checkpoint.save(tmp_path, snapshot(1), keep=5))
    assert checkpoint.latest(tmp_path) is None


def test_older_ones_are_kept_where_the_new_one_does_not_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, snapshot(step), keep=5)
    monkeypatch.setattr(checkpoint, "damage", lambda folder: ["adapter.safetensors has other bytes"])
    with pytest.raises(TrainingError, match=r"other bytes.*The disk is failing"):
        checkpoint.save(tmp_path, snapshot(3), keep=1)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir())[:2] == ["step-000001", "step-000002"]


@pytest.mark.parametrize("damage", [truncate, pytest.param(flip_a_bit, marks=pytest.mark.slow)])
def test_a_training_whose_newest_checkpoint_is_damaged_ends_with_the_same_bytes(
    micro: Callable[..., Recipe], night, damage: Callable[[Path], None]
) -> None:
    report = train(micro())
    for name in ("report.json",):
        (report.run_dir / name).unlink()
    damage(report.run_dir / "checkpoints" / "step-000004")
    again = train(micro())
    assert again.adapter_sha256 == night.training.adapter_sha256
    assert again.resumed_from == (2,)


def test_a_checkpoint_counts_once_the_journal_is_on_the_disk(
    micro: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    session = session_of(micro())
    sync, save = Journal.sync, checkpoint.save
    monkeypatch.setattr(Journal, "sync", lambda journal: order.append("journal") or sync(journal))
    monkeypatch.setattr(checkpoint, "save", lambda *of, **how: order.append("checkpoint") or save(*of, **how))
    with Journal(session.job.journal) as journal:
        save_checkpoint(session, journal)
        assert order == ["journal", "checkpoint"]

"""A training whose folder was carried to another machine, or whose device is gone."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shoes.device.facts import GIGABYTE, DeviceFacts
from shoes.errors import ConfigurationError
from shoes.reports import ParityTrial
from shoes.spec import Recipe, TrainSpec
from shoes.tracking.journal import read_events
from shoes.training.moving import on_this_machine
from shoes.training.run import Decisions, finished, keep_decisions, plan_decisions
from tests.tracking.test_carried import forget_where_artifacts_were
from tests.training.opening import job_of, train

REASONS = {"device": "fastest device found", "precision": "exact", "checkpointing": "it fits"}
TRIED = ParityTrial(device="mps", precision="no", passed=True, verdict="as the CPU")
BIG = DeviceFacts(
    device_name="Apple M2 Max", mps=True, total_memory_bytes=32 * GIGABYTE, device_memory_bytes=21 * GIGABYTE
)
SMALL = BIG.model_copy(
    update={"device_name": "Apple M1", "total_memory_bytes": 8 * GIGABYTE, "device_memory_bytes": 5 * GIGABYTE}
)
BARE = DeviceFacts(device_name="x86_64 processor (Linux)", total_memory_bytes=16 * GIGABYTE)
HERE = Decisions(device="cpu", precision="no", num_threads=2, reasons=REASONS, machine=BARE.device_name)
MAC = Decisions(
    device="mps",
    precision="no",
    num_threads=8,
    reasons=REASONS,
    micro_batch=8,
    parity=(TRIED,),
    rate_cuts=(50,),
    machine=BIG.device_name,
    memory_bytes=21 * GIGABYTE,
)
CUDA = replace(MAC, device="cuda", precision="bf16", machine="NVIDIA L4", memory_bytes=22 * GIGABYTE)


def decide() -> Decisions:
    return HERE


def moved(pinned: Decisions, facts: DeviceFacts, step: int = 1800, **spec: Any) -> Decisions:
    return on_this_machine(pinned, TrainSpec(train_batch_size=4, **spec), facts, lambda: step, decide)


@pytest.mark.parametrize(
    ("pinned", "facts"),
    [
        (MAC, BIG),
        (replace(MAC, machine="", memory_bytes=0), SMALL),  # an earlier version did not write down where it was
        (HERE, BARE),
        (replace(HERE, memory_bytes=1), BARE),
        (replace(HERE, machine=""), BIG),  # begun on the CPU, it stays there
    ],
)
def test_what_holds_here_stays_as_it_is(pinned: Decisions, facts: DeviceFacts) -> None:
    assert moved(pinned, facts) is pinned


@pytest.mark.parametrize("pinned", [MAC, CUDA, replace(CUDA, machine="", memory_bytes=0)])
def test_a_device_that_is_not_here_is_replaced_by_what_is_and_that_is_said(pinned: Decisions) -> None:
    found = moved(pinned, BARE)
    assert (found.device, found.precision, found.num_threads) == ("cpu", "no", 2)
    assert found.rate_cuts == (50,), "what the training learned on its way holds on"
    assert found.parity == (), "the device that is here is compared with the CPU anew"
    (done,) = found.interventions
    assert (done.kind, done.step) == ("machine", 1801)
    assert f"begun on {pinned.device}" in done.detail
    assert "on from step 1,800 with cpu in fp32, rounded otherwise than before" in done.detail
    assert moved(found, BARE) is found, "and then that holds"


def test_before_the_first_checkpoint_it_just_begins_here() -> None:
    assert "it begins on cpu in fp32" in moved(CUDA, BARE, step=0).interventions[0].detail


def test_a_device_that_the_recipe_names_is_not_replaced() -> None:
    with pytest.raises(ConfigurationError) as caught:
        moved(CUDA, BARE, device="cuda")
    (problem,) = caught.value.problems
    assert problem.where == "train.device"
    assert "begun on cuda, and step 1,800 is saved" in problem.what
    assert "--train.device auto, which begins a training of its own" in problem.fix


def test_a_machine_with_less_memory_decides_about_memory_again() -> None:
    found = moved(MAC, SMALL)
    assert (found.device, found.precision, found.rate_cuts) == ("mps", "no", (50,))
    assert found.micro_batch == 4
    assert found.checkpointing == "full"
    assert found.parity == (), "another chip may have other faults"
    assert "begun on mps (Apple M2 Max); on with Apple M1, micro-batches of 4" in found.interventions[0].detail
    assert moved(found, SMALL) is found


def test_a_larger_machine_of_the_kind_keeps_what_was_decided() -> None:
    small = replace(MAC, machine=SMALL.device_name, memory_bytes=5 * GIGABYTE, micro_batch=1, checkpointing="full")
    found = moved(small, BIG)
    assert (found.micro_batch, found.checkpointing, found.parity) == (1, "full", ())


def test_a_training_begun_on_cuda_goes_on_here_from_its_checkpoint_and_in_another_folder(
    micro: Callable[..., Recipe], with_small_data: Path, night, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = train(micro())
    (done.run_dir / "report.json").unlink()
    shutil.rmtree(done.run_dir / "checkpoints/step-000004")
    job = job_of(micro())
    keep_decisions(job, replace(plan_decisions(job), device="cuda", machine="NVIDIA L4"))
    carried = with_small_data.parent / "Volumes/Disk"
    shutil.move(with_small_data, carried)
    monkeypatch.setenv("SHOES_DATA_DIR", str(carried))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for its own process
    forget_where_artifacts_were()

    again = train(micro())
    assert (again.device, again.resumed_from) == ("cpu", (2,))
    assert [done.kind for done in again.interventions] == ["machine"]
    assert again.adapter_sha256 == night.training.adapter_sha256, "the CPU had made both halves"
    events = list(read_events(again.run_dir / "journal.jsonl"))
    (told,) = [event["values"] for event in events if event["id"] == "intervention/1"]
    assert "begun on cuda (NVIDIA L4); on from step 2 with cpu" in told["intervention.1"]
    assert [event["values"]["device"] for event in events if event["id"].startswith("decisions")] == ["cpu", "cpu"]

    shutil.move(carried, with_small_data)
    monkeypatch.setenv("SHOES_DATA_DIR", str(with_small_data))
    found = finished(job)
    assert found is not None, "its adapter is whole, wherever it lies"
    assert (found.run_dir, found.adapter_dir) == (done.run_dir, done.adapter_dir)

"""The real tiny model on a device that was made wrong: what the training does, and what it says."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shoes import stages, verdict
from shoes.device import DeviceFacts, measure
from shoes.device.parity import PARTS, in_words, measured_parts
from shoes.reports import ParityTrial
from shoes.settings import load_settings
from shoes.spec import Recipe, TrainSpec
from shoes.tracking.journal import read_events
from shoes.training import lora
from shoes.training.parity import fault_finder
from shoes.training.run import Decisions, Job, keep_decisions, make_job, pin_decisions, with_parity

Break = Callable[[torch.nn.Module, object, tuple[torch.Tensor]], tuple[torch.Tensor]]


def not_finite(module: torch.nn.Module, inputs: object, output: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (output[0] * torch.nan,)


def five_percent(module: torch.nn.Module, inputs: object, output: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (output[0] * 1.05,)


def wrong_backward(module: torch.nn.Module, inputs: object, output: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    if output[0].requires_grad:
        output[0].register_hook(lambda gradient: gradient * 1.2)
    return output


@pytest.fixture
def break_bf16(monkeypatch: pytest.MonkeyPatch) -> Callable[[Break], list[torch.dtype]]:
    """Make every UNet in bf16 compute wrong; the dtypes that were loaded are in the list."""

    def apply(hook: Break) -> list[torch.dtype]:
        loaded: list[torch.dtype] = []
        load = lora.load_unet

        def load_broken(path, *, device: str, dtype: torch.dtype):
            loaded.append(dtype)
            unet = load(path, device=device, dtype=dtype)
            if dtype == torch.bfloat16:
                unet.register_forward_hook(hook)
            return unet

        monkeypatch.setattr(lora, "load_unet", load_broken)
        return loaded

    return apply


@pytest.fixture
def shallow(micro: Callable[..., Recipe], shallow_model: Path) -> Callable[[dict[str, str]], Recipe]:
    """Makes micro recipes of a model that computes little."""
    return lambda changes: micro({"model.pretrained_model_name_or_path": str(shallow_model), **changes})


def job_of(recipe: Recipe) -> Job:
    settings = load_settings()
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    return make_job(recipe, models.base, data, runs=settings.runs, cache=settings.cache)


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        (not_finite, "not finite"),
        (five_percent, "predicted noise is 5."),
        (wrong_backward, "the gradient is "),
    ],
)
def test_a_wrong_precision_is_left(shallow, break_bf16, hook: Break, words: str) -> None:
    break_bf16(hook)
    decisions = pin_decisions(job_of(shallow({"train.mixed_precision": "bf16"})))
    assert [trial.precision for trial in decisions.parity] == ["bf16", "no"]
    assert words in decisions.parity[0].verdict
    assert decisions.precision == "no"
    assert "cpu in fp32 was taken" in decisions.reasons["precision"]


def test_a_right_precision_stays_and_is_not_checked_again(shallow, break_bf16) -> None:
    loaded = break_bf16(lambda module, inputs, output: output)
    job = job_of(shallow({"train.mixed_precision": "bf16"}))
    decisions = pin_decisions(job)
    (trial,) = decisions.parity
    assert trial.passed
    assert decisions.precision == "bf16"
    assert trial.prediction_error is not None
    assert 0 < trial.prediction_error < 0.03
    assert (trial.device_name, trial.micro_batch) == (measure().device_name, 2)
    assert set(measured_parts(trial)) == set(PARTS) - {"text", "encode", "decode"}  # these are the CPU's own in fp32
    assert loaded == [torch.float32, torch.bfloat16]
    assert pin_decisions(job) == decisions
    assert len(loaded) == 2


def test_a_run_that_goes_on_on_another_device_is_checked_again(shallow, break_bf16) -> None:
    job = job_of(shallow({"train.mixed_precision": "bf16"}))
    decisions = pin_decisions(job)
    (trial,) = decisions.parity
    assert trial.device_name == decisions.machine == measure().device_name
    old = replace(decisions, machine="")
    keep_decisions(job, old)
    assert pin_decisions(job) == old  # from before it was written down
    keep_decisions(job, replace(decisions, machine="another"))
    break_bf16(not_finite)
    again = pin_decisions(job)
    assert (again.precision, again.num_threads) == ("no", decisions.num_threads)
    assert [trial.device_name for trial in again.parity] == [measure().device_name] * 2
    assert pin_decisions(job) == again


def test_what_was_changed_has_its_reason_and_what_was_not_keeps_it() -> None:
    facts = DeviceFacts(device_name="Apple M2 Max", mps=True, device_memory_bytes=24 * 10**9)
    reasons = {"device": "d", "precision": "p", "checkpointing": "c", "optimizer": "o", "micro_batch": "measured"}
    planned = Decisions("mps", "bf16", 8, reasons, checkpointing="full", micro_batch=8)

    def after(**changes: object) -> Decisions:
        tried = {
            "device": "mps",
            "precision": "bf16",
            "checkpointing": "full",
            "micro_batch": 8,
            "fused_optimizer": True,
        }
        first = ParityTrial.model_validate({**tried, "passed": False, "verdict": "is off"})
        last = ParityTrial.model_validate({**tried, **changes, "passed": True, "verdict": "agrees"})
        return with_parity(TrainSpec(), planned, (first, last), facts)

    unfused = after(fused_optimizer=False)
    assert (unfused.fused_optimizer, unfused.micro_batch, unfused.precision) == (False, 8, "bf16")
    assert unfused.reasons == {**reasons, "optimizer": in_words(unfused.parity)}
    smaller = after(micro_batch=4)
    assert (smaller.micro_batch, smaller.fused_optimizer) == (4, True)
    assert smaller.reasons == {**reasons, "micro_batch": in_words(smaller.parity)}, "it is not tuned again"
    safer = after(precision="no", checkpointing="off", micro_batch=2)
    assert (safer.precision, safer.checkpointing, safer.micro_batch) == ("no", "off", 2)
    assert safer.reasons["precision"] == in_words(safer.parity)
    assert "micro_batch" not in safer.reasons, "it is tuned anew"
    cpu = after(device="cpu", precision="no", micro_batch=2)
    assert (cpu.device, cpu.reasons["device"]) == ("cpu", in_words(cpu.parity))
    assert with_parity(TrainSpec(), planned, unfused.parity[-1:], facts) == replace(planned, parity=unfused.parity[-1:])


def test_decisions_and_reports_from_before_there_were_so_many_parts_are_read() -> None:
    old = {
        "device": "mps",
        "precision": "no",
        "passed": True,
        "verdict": "agrees with fp32 on the CPU",
        "loss_error": 0.0002,
        "prediction_error": 0.0011,
        "gradient_error": 0.0027,
        "decode_error": 0.0004,
        "seconds": 3.0,
    }
    decisions = Decisions(device="mps", precision="no", num_threads=2, reasons={}, parity=(old,))  # type: ignore[arg-type]
    (trial,) = decisions.parity
    assert measured_parts(trial) == {"decode": 0.0004, "loss": 0.0002, "prediction": 0.0011, "gradient": 0.0027}
    assert (trial.device_name, trial.wrong, trial.micro_batch, trial.fused_optimizer) == ("", (), None, None)


def test_the_faults_of_each_precision_are_told_one_by_one(shallow, break_bf16) -> None:
    break_bf16(not_finite)
    fault = fault_finder(job_of(shallow({})), "cpu")
    assert fault("no") == ""
    assert "not finite" in fault("bf16")


def test_the_run_trains_in_the_safer_precision_and_says_so(night, micro: Callable[..., Recipe], break_bf16) -> None:
    break_bf16(not_finite)
    recipe = micro({"train.mixed_precision": "bf16"})
    report = stages.train(recipe, night.models, night.data)
    assert (report.device, report.precision) == ("cpu", "no")
    assert report.adapter_sha256 == night.training.adapter_sha256
    assert report.fingerprint != night.training.fingerprint
    assert [trial.passed for trial in report.parity] == [False, True]
    tags = next(event for event in read_events(report.run_dir / "journal.jsonl") if event["id"] == "decisions")
    assert tags["values"]["precision"] == "no"
    assert tags["values"]["parity"].startswith("cpu in bf16 computes wrong (the loss is not finite")
    assert "cpu in bf16 computes wrong" in verdict.trained(recipe, report)
    assert "computes wrong" not in verdict.trained(night.recipe, night.training)

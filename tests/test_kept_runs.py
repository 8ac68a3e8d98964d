"""What people have from before goes on: a run folder, its reports, and the names of results.

`tests/kept/809a286` was made at that commit, on one thread: the data set and run folder of a training that was stopped
after step 4 of 6, and what it ended with when it went on there and then.
"""

import json
import platform
import shutil
from pathlib import Path
from typing import Annotated

import pytest
import torch
from pydantic import BaseModel

from shoes import recipes, stages
from shoes.evaluation.inputs import drawing_settings
from shoes.identity import Later, identity
from shoes.reports import EvaluationReport, HeldOutLoss, TrainReport
from shoes.spec import EvalSpec, InferenceSpec, TrainSpec
from shoes.storage import fingerprint
from shoes.tensors import read_tensors

KEPT = Path(__file__).parent / "kept/809a286"
RUN = "8dc7ca5271c4054a"
RECIPE = {
    "data.dataset_dir": "data/kept",
    "train.train_batch_size": "2",
    "train.gradient_accumulation_steps": "2",
    "train.eval_batch_size": "8",
    "train.max_train_steps": "6",
    "train.lr_warmup_steps": "1",
    "train.save_steps": "3",
    "train.validation_steps": "3",
    "train.validation_images": "4",
    "train.checkpointing_steps": "2",
    "train.rank": "2",
    "train.lora_target_modules": "to_q,to_v",
    "train.use_ema": "true",
    "train.lora_dropout": "0.1",
    "eval.num_images": "none",
    "eval.num_inference_steps": "2",
    "eval.num_resamples": "200",
}
MADE_ON = ["GenuineIntel", "6", "207", "2.13"]
"""Vendor, family and model of the processor, and release of PyTorch: another one may round sums in another way."""


def test_a_paused_run_of_before_ends_with_the_bytes_that_it_would_have_had(own_world: Path) -> None:
    shutil.copytree(KEPT / "data", own_world / "data", dirs_exist_ok=True)
    recipe = recipes.load("demo", RECIPE)
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    report = stages.train(recipe, models, data)
    assert isinstance(report, TrainReport)
    assert (report.fingerprint, report.resumed_from, report.step, report.chosen_step) == (RUN, (4,), 6, 6)
    if [*processor(), torch.__version__.rpartition(".")[0]] == MADE_ON:
        assert report.adapter_sha256 == finished("report")["adapter_sha256"]
    found = read_tensors(report.adapter_dir / "pytorch_lora_weights.safetensors")
    for name, expected in read_tensors(KEPT / "finished/pytorch_lora_weights.safetensors").items():
        torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=1e-5)


def processor() -> list[str]:
    """Vendor, family and model of this machine's, where the system says them."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return []
    said = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    values = {name.strip(): value.strip() for name, value in said.items()}
    return [values[name] for name in ("vendor_id", "cpu family", "model")]


def finished(name: str) -> dict[str, object]:
    return json.loads((KEPT / f"finished/{name}.json").read_text())


@pytest.mark.parametrize(("name", "report"), [("report", TrainReport), ("evaluation", EvaluationReport)])
def test_reports_of_before_are_read(name: str, report: type[BaseModel]) -> None:
    report.model_validate(finished(name))


def test_no_result_of_before_gets_another_name() -> None:
    """A field that is added without `Later`, a default that changes: every run that people have would begin anew."""
    drawing = drawing_settings(EvalSpec(), 512, "cpu", "float32")
    loss = HeldOutLoss(step=1, mean=0.5, standard_error=0.125, train_mean=0.25)
    values = {"train": TrainSpec(), "eval": EvalSpec(), "inference": InferenceSpec(), "drawing": drawing, "loss": loss}
    assert {name: fingerprint(value) for name, value in values.items()} == NAMES


NAMES = {
    "train": "4a52204c2d3f35e6",
    "eval": "e3c6b197a47cf92e",
    "inference": "dbcd0c8cd961206d",
    "drawing": "6a855c14155d1c4d",
    "loss": "049b90501cbe0967",
}


class Inner(BaseModel):
    rank: int = 8
    new: Annotated[bool, Later(before=False)] = False


class Outer(BaseModel):
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()
    place: Path = Path("a")


def test_a_later_field_counts_only_where_it_says_something_new() -> None:
    assert identity(Inner()) == {"rank": 8}
    assert identity(Inner(new=True)) == {"rank": 8, "new": True}
    assert fingerprint(Inner()) == fingerprint({"rank": 8}) != fingerprint(Inner(new=True))
    assert identity(Outer(several=(Inner(), Inner(new=True)))) == {
        "inner": {"rank": 8},
        "several": [{"rank": 8}, {"rank": 8, "new": True}],
        "place": "a",
    }
    assert fingerprint(Outer(), [Inner()]) == fingerprint(Outer(), ({"rank": 8},))

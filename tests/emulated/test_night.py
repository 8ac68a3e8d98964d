"""All that a night does beside its steps, on the emulated device: encoders, samplers, judges, memory, every stage."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from flows.cli import main
from shoes import stages
from shoes.dataset import load_split
from shoes.device import facts, release, watch_memory
from shoes.device.pressure import read_memory
from shoes.environment.check import Situation
from shoes.environment.checks.components import components
from shoes.environment.checks.libraries import pytorch
from shoes.evaluation.clip import load_clip
from shoes.evaluation.encoders import load_dino
from shoes.forecast import child
from shoes.model.inference import Inference, apply_inference
from shoes.model.load import load_pipeline, load_scheduler, load_text, load_vae
from shoes.sampling import draw_pixels
from shoes.settings import PROJECT_ROOT, load_settings
from shoes.spec import Recipe, SchedulerName
from shoes.training.cache import encode_photos, encode_text
from shoes.training.validation import _Sample
from tests.emulated.tensor import Computer

MODEL, CLIP = PROJECT_ROOT / "data/demo/model", PROJECT_ROOT / "data/demo/clip"
PHOTOS = PROJECT_ROOT / "data/demo/casual_shoes/train"
CAPTIONS = ["black casual shoes, summer collection", ""]


def test_the_encoders_see_what_they_see_on_the_cpu(mps: Computer) -> None:
    records = load_split(PHOTOS)[:1]

    def seen(device: str) -> list[np.ndarray]:
        text = encode_text(load_text(MODEL, device=device), CAPTIONS, device)
        return [encode_photos(load_vae(MODEL, device=device), records, device, mirror=True), text]

    for found, right in zip(seen("mps"), seen("cpu"), strict=True):
        assert np.allclose(found, right, atol=1e-4)


def test_the_judges_see_what_they_see_on_the_cpu(mps: Computer, tmp_path: Path) -> None:
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    Dinov2Model(Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(tmp_path)
    BitImageProcessorPil().save_pretrained(tmp_path)
    pictures = [Image.open(record.image) for record in load_split(PHOTOS)[:2]]

    def seen(device: str) -> list[np.ndarray]:
        clip, dino = load_clip(CLIP, device), load_dino(tmp_path, device)
        return [clip.embed_images(pictures), clip.embed_captions(CAPTIONS), dino.embed_images(pictures)]

    for found, right in zip(seen("mps"), seen("cpu"), strict=True):
        assert np.allclose(found, right, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "steps"),
    [
        (torch.float32, 2),
        pytest.param(torch.float32, 1, marks=pytest.mark.slow),
        pytest.param(torch.float32, 6, marks=pytest.mark.slow),
        pytest.param(torch.bfloat16, 6, marks=pytest.mark.slow),
        pytest.param(torch.float16, 6, marks=pytest.mark.slow),
    ],
)
def test_every_sampler_draws_what_it_draws_on_the_cpu(mps: Computer, dtype: torch.dtype, steps: int) -> None:
    def drawn(device: str, dtype: torch.dtype) -> list[torch.Tensor]:
        pipeline = load_pipeline(MODEL, device=device, dtype=dtype, scheduler="ddim", resolution=64)
        pictures = []
        for sampler in get_args(SchedulerName):
            pipeline.scheduler = load_scheduler(MODEL, sampler)
            how = {"num_inference_steps": steps, "guidance_scale": 3.0, "resolution": 64}
            pictures += [batch.cpu() for batch in draw_pixels(pipeline, [_Sample("shoes", 1)], **how)]
        return pictures

    tolerance = 1e-3 if dtype == torch.float32 else 0.1
    for found, right in zip(drawn("mps", dtype), drawn("cpu", torch.float32), strict=True):
        assert (found - right).abs().mean() < tolerance


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"vae_slicing": True}, {"vae_slicing": False}, {"vae_tiling": True}])
def test_every_way_to_save_memory_draws(mps: Computer, options: dict[str, bool]) -> None:
    pipeline = load_pipeline(MODEL, device="mps", dtype=torch.float32, scheduler="ddim", resolution=64)
    apply_inference(pipeline, Inference(**options), device="mps", resolution=64)
    drawings = [_Sample("shoes", seed) for seed in (1, 2)]
    how = {"num_inference_steps": 2, "guidance_scale": 2.0, "resolution": 64}
    (batch,) = draw_pixels(pipeline, drawings, **how, batch_size=2)
    assert batch.device.type == "mps"
    assert bool(batch.isfinite().all())


def test_memory_is_read_and_given_back(mps: Computer) -> None:
    with watch_memory("mps") as watch:
        release("mps")
    assert watch.peak_bytes >= watch.baseline_bytes > 0
    assert read_memory("mps").device_bytes > 0
    assert facts.measure().device_memory_bytes > 0


def test_the_checks_try_the_device(mps: Computer, micro: Callable[..., Recipe]) -> None:
    situation = Situation(micro({"train.device": "mps"}), load_settings(), "by hand")
    findings = [pytorch(situation), components(situation)]
    assert [finding.status for finding in findings] == ["OK", "OK"], findings
    assert mps.calls["convolution"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_whole_night(mps: Computer, micro: Callable[..., Recipe], precision: str) -> None:
    recipe = micro(
        {
            "train.device": "mps",
            "train.mixed_precision": precision,
            "train.gradient_checkpointing": "auto",
            "train.use_ema": "true",
            "train.snr_gamma": "5",
            "eval.second_clip_model_name_or_path": str(CLIP),
        }
    )
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    training = stages.choose(recipe, models, data, stages.train(recipe, models, data))
    evaluation = stages.evaluate(recipe, models, data, training)
    promotion = stages.promote(recipe, models, data, training, evaluation)
    assert (training.device, training.precision) == ("mps", precision)
    assert [trial.passed for trial in training.parity] == [True]
    assert promotion.reason


@pytest.mark.slow
def test_the_commands_beside_a_night(
    mps: Computer, with_small_data: Path, micro_flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "MODULE", "tests.emulated.forecast")
    monkeypatch.setattr(child, "SECONDS_PER_MEASUREMENT", 0.2)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))

    def run(*words: str) -> dict[str, object]:
        result = CliRunner().invoke(main, [*words, *micro_flags, "--train.device", "mps", "--json"])
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    assert run("forecast")["device"] == "mps"
    trained = run("train")
    assert trained["device"] == "mps"
    adapter = str(Path(str(trained["run_dir"])) / "adapter")
    assert run("generate", "red shoes", "--adapter", adapter)["good"] is True
    assert run("export", "--merged")["merged"]

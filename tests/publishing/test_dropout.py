"""An adapter that was trained with dropout draws with all of itself, whoever loads it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from shoes.generation.formats import AdapterFile, apply_adapters, find_adapter
from shoes.model.load import load_pipeline, load_unet
from shoes.publishing.export import DIFFUSERS_FILE, KOHYA_FILE, export
from shoes.publishing.kohya import Provenance
from shoes.publishing.proof import prove, updates_of
from shoes.sampling import draw
from shoes.spec import TrainSpec
from shoes.training import lora
from shoes.training.passes import wake_adapter


class Shoe:
    prompt, seed = "a red shoe", 1


def drawn(pipeline) -> bytes:
    (picture,) = draw(pipeline, [Shoe()], num_inference_steps=2, guidance_scale=7.5, resolution=64)
    return picture.tobytes()


@pytest.fixture(scope="module")
def adapter(shallow_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = TrainSpec(lora_dropout=0.5, rank=2)
    unet = load_unet(shallow_model, device="cpu", dtype=torch.float32)
    lora.add_adapter(unet, spec)
    wake_adapter(unet, seed=1)
    target = tmp_path_factory.mktemp("dropout") / "adapter"
    export(target, lora.adapter_weights(unet), spec, Provenance("data/demo/model"))
    return target


def for_evaluation(model: Path, adapter: Path):
    return load_pipeline(model, device="cpu", dtype=torch.float32, scheduler="ddim", adapter_dir=adapter)


def generating(file: str) -> Callable[[Path, Path], object]:
    def load(model: Path, adapter: Path):
        pipeline = load_pipeline(model, device="cpu", dtype=torch.float32, scheduler="ddim")
        given: AdapterFile = find_adapter(adapter / file)
        apply_adapters(pipeline, [given], "the base")
        return pipeline

    return load


@pytest.mark.parametrize(
    "load",
    [for_evaluation, generating(DIFFUSERS_FILE), generating(KOHYA_FILE), generating("peft")],
    ids=["evaluation", "generate, diffusers", "generate, kohya", "generate, PEFT"],
)
def test_every_loader_draws_without_dropout(shallow_model: Path, adapter: Path, load) -> None:
    pipeline = load(shallow_model, adapter)
    assert drawn(pipeline) == drawn(pipeline) == drawn(for_evaluation(shallow_model, adapter))
    assert not [name for name, module in pipeline.unet.named_modules() if module.training]


def test_the_proof_draws_without_dropout(shallow_model: Path, adapter: Path) -> None:
    pipeline = load_pipeline(shallow_model, device="cpu", dtype=torch.float32, scheduler="ddim")
    trained = for_evaluation(shallow_model, adapter)
    pictures = prove(adapter, pipeline, updates=updates_of(trained.unet), draw=drawn)
    assert set(pictures.values()) == {drawn(trained)}

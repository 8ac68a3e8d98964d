"""`shoes generate` in the shared night's data folder, and an adapter whose effect is plain to see."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from flows.cli import main
from shoes import sampling
from shoes.model.load import load_unet
from shoes.publishing.export import export
from shoes.publishing.kohya import Provenance
from shoes.spec import TrainSpec
from shoes.training import lora

PROMPT = "A professional product photo of black casual shoes, summer collection, men"


@pytest.fixture
def generate(in_night, micro_flags: list[str]) -> Callable[..., Result]:
    """Runs the command with the micro recipe."""
    return lambda *words: CliRunner().invoke(main, ["generate", *micro_flags, *map(str, words)])


@pytest.fixture
def report(generate: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    """Runs it with --json, and gives what it found."""

    def run(*words: object) -> dict[str, Any]:
        result = generate(*words, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return run


@pytest.fixture(scope="session")
def strong(night, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported adapter of random weights, in all three formats; alpha is not its rank."""
    spec = TrainSpec(rank=4, lora_alpha=12, resolution=64)
    unet = load_unet(night.models.base.path, device="cpu", dtype=torch.float32)
    lora.add_adapter(unet, spec)
    numbers = torch.Generator().manual_seed(0)
    shapes = {name: weight.shape for name, weight in lora.adapter_weights(unet).items()}
    weights = {name: 0.1 * torch.randn(shape, generator=numbers) for name, shape in shapes.items()}
    folder = tmp_path_factory.mktemp("strong") / "adapter"
    export(folder, weights, spec, Provenance("tiny"))
    return folder


@pytest.fixture
def drawn_seeds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seed of every picture that is drawn, in order."""
    seeds: list[int] = []
    real = sampling.draw_pixels

    def count(pipeline, drawings, **how):
        seeds.extend(drawing.seed for drawing in drawings)
        return real(pipeline, drawings, **how)

    monkeypatch.setattr(sampling, "draw_pixels", count)
    return seeds

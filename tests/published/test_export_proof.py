"""Right exports are never refused, wrong ones always: over ranks, alphas, layers, scaling, precisions and models."""

import json
import math
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch

from shoes.errors import ExportError
from shoes.model.load import load_pipeline
from shoes.publishing.export import DIFFUSERS_FILE, KOHYA_FILE, export
from shoes.publishing.kohya import Provenance
from shoes.publishing.proof import doubts, mean_difference, prove, updates_of
from shoes.sampling import draw
from shoes.settings import PROJECT_ROOT
from shoes.spec import TrainSpec
from shoes.tensors import read_tensors, write_tensors
from shoes.training import lora
from shoes.training.fused_lora import fuse_adapter

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]

MODELS = ("demo", "stable-diffusion-v1-5", "stable-diffusion-2-1-base")
PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TARGETS = (
    ("to_q",),
    ("to_k", "to_v"),
    ("to_k", "to_q", "to_v", "to_out.0"),
    ("to_q", "ff.net.0.proj", "ff.net.2"),
    ("to_q", "to_out.0", "proj_in", "proj_out"),
    ("conv1", "conv2"),
)
PEFT_FILE = "peft/adapter_model.safetensors"


@dataclass(frozen=True)
class Case:
    """One adapter on one model."""

    model: str
    precision: str
    spec: TrainSpec

    @property
    def name(self) -> str:
        scaled = "rslora" if self.spec.use_rslora else "lora"
        layers = "+".join(self.spec.lora_target_modules)
        return f"{self.model} {self.precision} {scaled} {self.spec.rank}/{self.spec.lora_alpha} {layers}"


def cases(count: int) -> list[Case]:
    """Drawn by a seed; every model, precision and set of layers comes up equally often."""
    dice = random.Random(15)
    return [
        Case(
            MODELS[number % 3],
            list(PRECISIONS)[number // 3 % 3],
            TrainSpec(
                rank=dice.choice((1, 2, 3, 4, 8, 16, 32, 64, 128)),
                lora_alpha=dice.choice((1, 2, 4, 8, 12, 16, 32, 64)),
                use_rslora=dice.random() < 0.4,
                lora_target_modules=TARGETS[number % len(TARGETS)],
                resolution=64,
            ),
        )
        for number in range(count)
    ]


class Drawing:
    prompt, seed = "a photo of a watch", 3


def image(pipeline):
    (found,) = draw(pipeline, [Drawing()], num_inference_steps=3, guidance_scale=5.0, resolution=64)
    return found


@pytest.fixture(scope="module")
def models(published: Callable[..., Path]) -> Callable[[str], Path]:
    return lambda name: PROJECT_ROOT / "data/demo/model" if name == "demo" else published(name)


class Trained:
    """A trained adapter and its export."""

    def __init__(self, case: Case, model: Path, folder: Path) -> None:
        self.folder = folder
        dtype = PRECISIONS[case.precision]
        self.pipeline = load_pipeline(model, device="cpu", dtype=dtype, scheduler="ddim", resolution=64)
        unet = self.pipeline.unet
        lora.add_adapter(unet, case.spec)
        noise = torch.Generator().manual_seed(case.spec.rank)
        scale = case.spec.lora_alpha / (case.spec.rank**0.5 if case.spec.use_rslora else case.spec.rank)
        size = math.sqrt(0.05 / (scale * math.sqrt(case.spec.rank)))  # the update is as large whatever the rank
        weights = {
            name: size * torch.randn(weight.shape, generator=noise)
            for name, weight in lora.adapter_weights(unet).items()
        }
        lora.set_adapter_weights(unet, weights)
        self.updates = updates_of(unet)
        for parameter in lora.trainable(unet).values():
            parameter.data = parameter.data.to(dtype)
        self.expected = image(self.pipeline)
        fuse_adapter(unet)
        self.rounding = mean_difference(self.expected, image(self.pipeline))
        unet.unload_lora()
        export(folder, weights, case.spec, Provenance("tiny"))

    def differences(self) -> dict[str, float]:
        pictures = prove(self.folder, self.pipeline, updates=self.updates, draw=image)
        return {form: mean_difference(self.expected, picture) for form, picture in pictures.items()}


@pytest.mark.parametrize("case", cases(40), ids=lambda case: case.name)
def test_a_right_export_is_not_refused(case: Case, models: Callable[[str], Path], tmp_path: Path) -> None:
    trained = Trained(case, models(case.model), tmp_path / "adapter")
    base = image(trained.pipeline)
    assert mean_difference(base, trained.expected) > 0.2, "the adapter does something"
    assert not doubts(trained.differences(), trained.rounding)


Damage = Callable[[Path], None]


def changed(file: str, act: Callable[[dict[str, torch.Tensor]], None]) -> Damage:
    """A file of the export with other tensors and the same metadata."""

    def damage(folder: Path) -> None:
        from safetensors import safe_open

        with safe_open(folder / file, "pt") as opened:
            metadata = opened.metadata()
        tensors = read_tensors(folder / file)
        act(tensors)
        write_tensors(folder / file, tensors, metadata)

    return damage


def ups(tensors: dict[str, torch.Tensor]) -> list[str]:
    return sorted(name for name in tensors if "lora_B" in name or "lora_up" in name)


def swap(tensors: dict[str, torch.Tensor]) -> None:
    one, *others = ups(tensors)
    other = next(name for name in others if tensors[name].shape == tensors[one].shape)
    tensors[one], tensors[other] = tensors[other], tensors[one]


def drop(tensors: dict[str, torch.Tensor]) -> None:
    layer = ups(tensors)[0].rpartition(".lora_")[0]
    for name in [name for name in tensors if name.startswith(f"{layer}.")]:
        del tensors[name]


def scale(by: float, tensors: dict[str, torch.Tensor]) -> None:
    tensors[ups(tensors)[-1]] *= by


def spoil(tensors: dict[str, torch.Tensor]) -> None:
    tensors[ups(tensors)[0]][0] = torch.nan


def cut_rank(tensors: dict[str, torch.Tensor]) -> None:
    """The last of the rank's rows and columns is lost in each layer."""
    for name, tensor in tensors.items():
        if "lora_A" in name or "lora_down" in name:
            tensor[-1] = 0


def alpha(by: float, tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if name.endswith(".alpha"):
            tensor.mul_(by)


def alpha_is_rank(tensors: dict[str, torch.Tensor]) -> None:
    for name in [name for name in tensors if name.endswith(".alpha")]:
        del tensors[name]


def peft_config(**values: object) -> Damage:
    def damage(folder: Path) -> None:
        file = folder / "peft/adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return damage


def without_metadata(folder: Path) -> None:
    write_tensors(folder / DIFFUSERS_FILE, read_tensors(folder / DIFFUSERS_FILE), {"format": "pt"})


WRONG: dict[str, tuple[str, Damage]] = {
    **{
        f"{form}: {what}": (form, changed(file, act))
        for form, file in (("diffusers file", DIFFUSERS_FILE), ("PEFT folder", PEFT_FILE), ("kohya file", KOHYA_FILE))
        for what, act in (
            ("two layers are swapped", swap),
            ("a layer is missing", drop),
            ("one layer is 1 % larger", partial(scale, 1.01)),
            ("a value is not finite", spoil),
            ("one of the rank is lost", cut_rank),
        )
    },
    "kohya file: alpha is 2 % larger": ("kohya file", changed(KOHYA_FILE, partial(alpha, 1.02))),
    "kohya file: alpha is not there": ("kohya file", changed(KOHYA_FILE, alpha_is_rank)),
    "PEFT folder: alpha is another": ("PEFT folder", peft_config(lora_alpha=13)),
    "PEFT folder: scaled for rank-stabilised LoRA": ("PEFT folder", peft_config(use_rslora=True)),
    "diffusers file: alpha and rank are not said": ("diffusers file", without_metadata),
}


@pytest.fixture(scope="module", params=list(PRECISIONS))
def sound(request: pytest.FixtureRequest, models, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    spec = TrainSpec(rank=4, lora_alpha=12, resolution=64)
    case = Case("stable-diffusion-v1-5", request.param, spec)
    return Trained(case, models(case.model), tmp_path_factory.mktemp("wrong") / "adapter")


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_export_is_refused_in_every_precision(case: str, sound: Trained, tmp_path: Path) -> None:
    form, damage = WRONG[case]
    whole, sound.folder = sound.folder, tmp_path / "adapter"
    shutil.copytree(whole, sound.folder)
    try:
        damage(sound.folder)
        with pytest.raises(ExportError, match=f"The {form} in"):
            sound.differences()
    finally:
        sound.folder = whole


def test_there_are_as_many_as_were_promised() -> None:
    assert len(cases(40)) == 40
    assert len(WRONG) == 20

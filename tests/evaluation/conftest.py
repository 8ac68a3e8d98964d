from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shoes.evaluation.clip import ClipScorer, load_clip
from shoes.evaluation.drawings import Drawing
from shoes.evaluation.inputs import Adapter, EvaluationInputs, JudgeModel, Judges, Photos
from shoes.evaluation.pictures import Draw
from shoes.spec import EvalSpec

ROOT = Path(__file__).resolve().parents[2]
COLOURS = {"black": (25, 25, 25), "red": (200, 30, 30), "blue": (30, 60, 200), "green": (30, 140, 50)}
SEASONS = ("summer", "winter")


def find_model(shipped: str, shared: str) -> Path:
    places = (ROOT / "data" / "demo" / shipped, ROOT.parent / "shared" / "models" / shared)
    found = [place for place in places if (place / "config.json").is_file() or (place / "unet").is_dir()]
    return found[0] if found else pytest.skip(f"no model at {' or '.join(map(str, places))}")


@dataclass(frozen=True)
class Photo:
    image: Path
    caption: str
    attributes: dict[str, Any] = field(default_factory=dict)


def shape(colour: tuple[int, int, int], noise: int) -> Image.Image:
    """A 64-pixel box of one colour on white, the way the tiny base model draws shoes."""
    pixels = np.full((64, 64, 3), 250, dtype=np.uint8)
    pixels[24:44, 8:56] = colour
    pixels[40:44, 8:56] = np.random.default_rng(noise).integers(0, 255, (4, 48, 3))
    return Image.fromarray(pixels)


def paint(folder: Path, number: int) -> Photo:
    """A photo of a box; its number decides colour, season and noise."""
    folder.mkdir(parents=True, exist_ok=True)
    name, season = list(COLOURS)[number % 4], SEASONS[number // 4 % 2]
    path = folder / f"{1000 + number}.png"
    shape(COLOURS[name], number).save(path)
    caption = f"A product photo of {name} casual shoes, {season} collection"
    return Photo(path, caption, {"colour": name, "season": season})


def draw_boxes(drawings: Sequence[Drawing]) -> Iterator[Image.Image]:
    """Draws the colour that the prompt names."""
    for drawing in drawings:
        yield shape(next(rgb for name, rgb in COLOURS.items() if name in drawing.prompt), drawing.seed)


def draw_grey_boxes(drawings: Sequence[Drawing]) -> Iterator[Image.Image]:
    """Draws the same grey box, whatever the prompt."""
    for drawing in drawings:
        yield shape((128, 128, 128), drawing.seed)


@pytest.fixture
def boxes() -> Draw:
    return draw_boxes


@pytest.fixture
def grey_boxes() -> Draw:
    return draw_grey_boxes


@pytest.fixture(scope="session")
def clip_path() -> Path:
    return find_model("clip", "product-photos-64-clip")


@pytest.fixture(scope="session")
def diffusion_path() -> Path:
    return find_model("model", "product-photos-64")


@pytest.fixture(scope="session")
def dino_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DINOv2 of the smallest size, with random weights."""
    import torch
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56)
    Dinov2Model(config).save_pretrained(folder)
    BitImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip(clip_path: Path) -> ClipScorer:
    return load_clip(clip_path, "cpu")


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    """Sixteen photos of boxes, two of each of eight captions."""
    return [paint(tmp_path / "test" / "images", number) for number in range(16)]


@pytest.fixture
def training_photos(tmp_path: Path) -> list[Photo]:
    """Twelve more photos of boxes."""
    return [paint(tmp_path / "train" / "images", number) for number in range(100, 112)]


@pytest.fixture
def make_inputs(
    tmp_path: Path, photos: list[Photo], training_photos: list[Photo], clip_path: Path
) -> Callable[..., EvaluationInputs]:
    def make(**changes: Any) -> EvaluationInputs:
        spec = EvalSpec(**{"images_per_caption": 1, "num_resamples": 200, **changes.pop("spec", {})})
        values: dict[str, Any] = {
            "spec": spec,
            "test": Photos(photos, "test photos"),
            "training": Photos(training_photos, "training photos"),
            "validation": Photos([paint(tmp_path / "val", number) for number in range(200, 208)], "validation photos"),
            "model_fingerprint": "model",
            "adapter": Adapter(tmp_path / "adapter", "adapter-hash"),
            "judges": Judges(JudgeModel("tiny clip", clip_path, "clip")),
            "resolution": 64,
            "device": "cpu",
            "dtype": "float32",
            "out_dir": tmp_path / "evaluations",
            "cache_dir": tmp_path / "cache",
        }
        return EvaluationInputs(**{**values, **changes})

    return make

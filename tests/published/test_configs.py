"""What a config does not say is what the library's class takes for it, all along the way from the file to the step."""

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shoes.model import configs
from shoes.model.architecture import clip_problems, pipeline_problems
from shoes.model.load import load_noise_schedule, load_scheduler, load_text
from shoes.settings import PROJECT_ROOT
from shoes.training.cache import encode_text
from tests.published import layouts
from tests.published.layouts import SCHEDULER, TEXT, TOKENIZER, UNET, VAE, Fields
from tests.published.models import Recipe, make_model

SAMPLERS = ("dpm-solver", "ddim", "euler", "pndm")


def classes() -> dict[str, Any]:
    """The libraries' own classes, by the file that they read."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

    return {UNET: UNet2DConditionModel, VAE: AutoencoderKL, SCHEDULER: DDPMScheduler}


def arguments(kind: Any) -> Fields:
    given = inspect.signature(kind.__init__).parameters.values()
    return {argument.name: argument.default for argument in given if argument.default is not argument.empty}


def as_read_by(kind: Any, config: Fields) -> Fields:
    """A config's fields as a class of diffusers takes them; it builds no model for that."""
    return arguments(kind) | kind.extract_init_dict(dict(config))[0]


def test_defaults_are_those_of_the_installed_classes() -> None:
    import diffusers
    import transformers

    for reader in (configs.UNET, configs.VAE, configs.NOISE_SCHEDULE, configs.DPM_SOLVER):
        fields = arguments(getattr(diffusers, reader.name))
        computed = {"lambda_min_clipped": -float("inf")} if reader is configs.DPM_SOLVER else {}
        assert configs.defaults(reader) | computed == fields
    for reader in (configs.TEXT_ENCODER, configs.CLIP):
        fields = {f.name: f.default for f in dataclasses.fields(getattr(transformers, reader.name))}
        found = configs.defaults(reader)
        assert found == {name: fields[name] for name in found}
        assert len(found) > 4


def write(folder: Path, found: dict[str, Fields]) -> Path:
    for file, fields in found.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(fields), encoding="utf-8")
    return folder


def without_each_field(name: str, defaults: dict[str, Fields]) -> Iterator[tuple[str, str, dict[str, Fields]]]:
    """File, field, and the configs without it: of all files of a model that others are like, of its own else."""
    published = layouts.configs(name)
    yield "", "", published
    for file in layouts.LAYOUTS[name].changes if name in layouts.LAYOUTS else published:
        for field in defaults.get(file, {}).keys() & published[file].keys():
            left = {n: value for n, value in published[file].items() if n != field}
            yield file, field, published | {file: left}


@pytest.mark.parametrize("name", layouts.EVERY_BASE)
def test_a_field_that_is_not_there_is_at_the_librarys_default(name: str, tmp_path: Path) -> None:
    from transformers import CLIPTextConfig

    kinds, text = classes(), {f.name: f.default for f in dataclasses.fields(CLIPTextConfig)}
    defaults = {TEXT: text} | {file: arguments(kind) for file, kind in kinds.items()}
    for file, _, found in without_each_field(name, defaults):
        folder = write(tmp_path, found)
        read = {path: as_read_by(kind, found[path]) for path, kind in kinds.items()} | {TEXT: text | found[TEXT]}
        check_geometry(folder, read)
        check_architecture(folder, read)
        if file in ("", SCHEDULER):
            check_schedules(folder, found[SCHEDULER])


def check_geometry(folder: Path, read: dict[str, Fields]) -> None:
    assert configs.geometry(folder) == configs.ModelGeometry(
        latent_channels=read[VAE]["latent_channels"],
        downscale=2 ** (len(read[VAE]["block_out_channels"]) - 1),
        scaling_factor=read[VAE]["scaling_factor"],
        text_tokens=read[TEXT]["max_position_embeddings"],
        text_width=read[TEXT]["hidden_size"],
    )


def check_architecture(folder: Path, read: dict[str, Fields]) -> None:
    """A model is refused where the sizes differ that the libraries take, and nowhere else."""
    wide, hidden = read[UNET]["cross_attention_dim"], read[TEXT]["hidden_size"]
    text = f"cross_attention_dim is {wide} and the text encoder's hidden_size is {hidden}"
    assert [problem.what for problem in pipeline_problems(folder)] == ([] if wide == hidden else [text])


def check_schedules(folder: Path, config: Fields) -> None:
    """The training's noise schedule, and every sampler, are what the library makes of the same config."""
    import diffusers

    schedule = load_noise_schedule(folder)
    assert dict(schedule.config) | as_read_by(diffusers.DDPMScheduler, config) == dict(schedule.config)
    for name in SAMPLERS:
        scheduler = load_scheduler(folder, name)
        scheduler.set_timesteps(5)
        assert scheduler.config.num_train_timesteps == schedule.config.num_train_timesteps
        assert scheduler.config.prediction_type == schedule.config.prediction_type
        assert scheduler.alphas_cumprod.equal(schedule.alphas_cumprod)


@pytest.mark.parametrize(("name", "pads_with"), [("stable-diffusion-v1-5", 49407), ("stable-diffusion-2-1-base", 0)])
def test_a_tokenizer_that_says_no_length_fills_the_places_of_the_text_encoder(
    name: str, pads_with: int, tmp_path: Path
) -> None:
    folder = make_model(tmp_path / "model", Recipe(name))
    for file, field in (("", ""), (TOKENIZER, "model_max_length"), (TEXT, "max_position_embeddings")):
        if file:
            config = json.loads((folder / file).read_text())
            write(folder, {file: {n: value for n, value in config.items() if n != field}})
        parts = load_text(folder, device="cpu")
        assert parts.tokenizer.model_max_length == 77
        long, empty = parts.tokenizer(["a red canvas shoe " * 30, ""], padding="max_length", truncation=True).input_ids
        assert (len(long), long[-1]) == (77, 49407), "cut, with the end of the text kept"
        assert (len(empty), empty[2]) == (77, pads_with)
        assert encode_text(parts, ["a red canvas shoe " * 30], "cpu").shape == (1, 77, 64)


def test_a_judge_is_known_by_its_config(tmp_path: Path) -> None:
    for name in ("openai/clip-vit-base-patch32", "openai/clip-vit-large-patch14"):
        folder = make_model(tmp_path / name, Recipe(name))
        published = json.loads((folder / "config.json").read_text())
        assert clip_problems(folder) == []
        for field in ("text_config", "vision_config", "projection_dim"):
            write(folder, {"config.json": {n: v for n, v in published.items() if n != field}})
            assert clip_problems(folder) == [], "CLIPConfig has a default for it"


READERS = {"shoes/model/configs.py", "shoes/model/architecture.py"}
COPIERS = {"shoes/model/single/conversion.py", "shoes/model/single/layout.py"}
"""They write published configs that ship with the project, and judge nobody's."""


def test_no_config_is_read_without_the_defaults() -> None:
    """`load_config` gives what stands in the file: the first night on Stable Diffusion 1.5 ended with it."""
    files = [file for place in ("shoes", "demo", "benchmarks") for file in (PROJECT_ROOT / place).rglob("*.py")]
    texts = {file.relative_to(PROJECT_ROOT).as_posix(): file.read_text(encoding="utf-8") for file in files}
    assert len(texts) > 200
    lines = [line for text in texts.values() for line in text.splitlines() if ".load_config(" in line]
    assert [line for line in lines if ".from_config(" not in line] == []
    found = {name for name, text in texts.items() if re.search(r"[/\"]config\.json", text) and "json.load" in text}
    assert {name for name in found if name.startswith("shoes")} - COPIERS == READERS

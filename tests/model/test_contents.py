"""What is loaded is what is in the file: every damage is named before the night, and no good layout is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shoes import recipes, stages
from shoes.environment.check import Finding, Situation
from shoes.environment.checks.inputs import model_files
from shoes.environment.checks.weights import _WHATS
from shoes.errors import ModelError
from shoes.evaluation.clip import load_clip
from shoes.evaluation.encoders import load_dino
from shoes.generation.formats import apply_adapters, find_adapter
from shoes.model.contents import words
from shoes.model.load import load_pipeline, load_text, load_unet, load_vae
from shoes.reports import Defect
from shoes.settings import load_settings
from shoes.spec import Recipe
from tests.model import tiny
from tests.model.tiny import State

ALWAYS = {"missing", "misshapen", "NaN", "truncated"}
CASES = [
    pytest.param(
        name, damage, id=f"{name}-{damage}", marks=() if damage in ALWAYS or name == "unet" else pytest.mark.slow
    )
    for name in tiny.WEIGHTS
    for damage in tiny.DAMAGES
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny.make(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(whole: Path) -> dict[str, State]:
    """What each network holds when it was loaded from whole files."""
    return {name: load(whole, name).state_dict() for name in tiny.WEIGHTS}


@pytest.fixture
def models(whole: Path, own_world: Path) -> Path:
    """A base model and its three judges, each a folder of one's own."""
    return Path(shutil.copytree(whole, own_world / "models"))


def recipe(folder: Path, **changes: str) -> Recipe:
    names = {
        "model.pretrained_model_name_or_path": str(folder / "base"),
        "model.variant": "none",
        "eval.clip_model_name_or_path": str(folder / "clip"),
        "eval.second_clip_model_name_or_path": str(folder / "second"),
        "eval.dino_model_name_or_path": str(folder / "dino"),
    }
    return recipes.load("demo", names | changes)


def check(folder: Path, **changes: str) -> Finding:
    """The line of `shoes check` about the models."""
    return model_files(Situation(recipe(folder, **changes), load_settings(), "by hand"))


def load(folder: Path, name: str) -> torch.nn.Module:
    loads: dict[str, Callable[[], torch.nn.Module]] = {
        "unet": lambda: load_unet(folder / "base", device="cpu", dtype=torch.float32),
        "vae": lambda: load_vae(folder / "base", device="cpu"),
        "text encoder": lambda: load_text(folder / "base", device="cpu").encoder,
        "CLIP": lambda: load_clip(folder / "clip", "cpu").model,
        "second CLIP": lambda: load_clip(folder / "second", "cpu").model,
        "DINOv2": lambda: load_dino(folder / "dino", "cpu").model,
    }
    return loads[name]()


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_every_damage_is_named_before_anything_is_loaded(
    models: Path, loaded: dict[str, State], name: str, damage: str
) -> None:
    file = models / tiny.WEIGHTS[name]
    tensors, total = load_file(file), len(loaded[name])
    spoil, expected = tiny.DAMAGES[damage]
    spoil(file)
    found = check(models)
    assert found.status == "ERROR"
    expected = expected.format(
        total=total, name=tiny.victim(tensors).removeprefix("text_model." * ("CLIP" not in name))
    )
    assert f"{file}: " in found.detail.replace("can't be used: ", "")
    assert expected in found.detail
    assert found.detail.count("verified") == 3, "the other three models are fine"
    with pytest.raises(ModelError) as caught:
        stages.fetch_model(recipe(models))
    assert str(file) in str(caught.value)
    if damage not in ("NaN", "infinity", "whole numbers"):  # values are looked at once, before
        with pytest.raises(ModelError, match=file.name):
            load(models, name)


@pytest.mark.parametrize("layout", tiny.GOOD, ids=lambda layout: layout.__name__)
def test_no_good_layout_is_refused_and_every_one_is_loaded(
    models: Path, loaded: dict[str, State], layout: Callable[[Path], None]
) -> None:
    layout(models)
    changes = {"model.variant": "fp16"} if layout is tiny.in_half_precision else {}
    found = check(models, **changes)
    assert found.status == "OK", found.detail
    stages.fetch_model(recipe(models, **changes))
    for name in tiny.WEIGHTS:
        here = load(models, name).state_dict()
        half = torch.float16 if tiny.WEIGHTS[name].startswith("base") else torch.bfloat16
        for key, tensor in loaded[name].items():
            kind = half if layout is tiny.in_half_precision else tensor.dtype
            assert torch.equal(here[key], tensor.to(kind).float()) or "mask_token" in key, key
    text = load_text(models / "base", device="cpu")
    assert text.tokenizer.model_max_length == tiny.PLACES
    assert load_clip(models / "clip", "cpu").embed_captions(["word " * 99]).shape == (1, 32)


@pytest.mark.parametrize("name", tiny.WEIGHTS)
def test_a_missing_shard_is_named(models: Path, name: str) -> None:
    shard = tiny.shard(models / tiny.WEIGHTS[name])[1]
    shard.unlink()
    found = check(models)
    assert found.status == "ERROR"
    assert f"1 of 3 shards is missing: {shard.name}" in found.detail
    with pytest.raises(ModelError, match=shard.name):
        load(models, name)


def test_a_damaged_shard_is_named(models: Path) -> None:
    first, second, third = tiny.shard(models / tiny.WEIGHTS["unet"])
    tiny.DAMAGES["NaN"][0](first)
    tiny.truncated(second)
    assert f"{second}: can't be used: is cut off" in check(models).detail
    assert third.is_file()


def _only_fp16(folder: Path) -> None:
    tiny.in_half_precision(folder)


def _only_non_ema(folder: Path) -> None:
    file = folder / tiny.WEIGHTS["unet"]
    file.rename(file.with_name("diffusion_pytorch_model.non_ema.safetensors"))


def _both_precisions(folder: Path) -> None:
    file = folder / tiny.WEIGHTS["unet"]
    shutil.copy(file, file.with_name("diffusion_pytorch_model.fp16.safetensors"))


def _no_words(folder: Path) -> None:
    (folder / "base/tokenizer/tokenizer.json").unlink()


def _another_vocabulary(folder: Path) -> None:
    tiny.change(
        folder / tiny.WEIGHTS["text encoder"],
        lambda tensors: {k: t[:600].clone() if "token_embedding" in k else t for k, t in tensors.items()},
    )
    _set(folder / "base/text_encoder/config.json", vocab_size=600)


def _few_words(folder: Path) -> None:
    for file in (folder / "clip").glob("tokenizer*"):
        file.unlink()
    (folder / "clip/vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2}')
    (folder / "clip/merges.txt").write_text("#version: 0.2\n")


def _another_config(folder: Path) -> None:
    _set(folder / "base/unet/config.json", down_block_types=["NoSuchBlock", "DownBlock2D"])


def _quantised(folder: Path) -> None:
    _set(folder / "clip/config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})


def _quantised_unet(folder: Path) -> None:
    _set(folder / "base/unet/config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})


def _other_weights(folder: Path) -> None:
    shutil.copy(folder / "dino/model.safetensors", folder / "dino/other.safetensors")
    _set(folder / "dino/config.json", transformers_weights="other.safetensors")


def _an_adapter(folder: Path) -> None:
    (folder / "base/text_encoder/adapter_config.json").write_text("{}")


def _set(file: Path, **fields: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


REFUSED = {
    "fp16 only": (_only_fp16, "the model has these weights in fp16: use --model.variant fp16"),
    "non-EMA only": (_only_non_ema, "only as non_ema: give another model, or"),
    "both precisions": (_both_precisions, "would be loaded in their place"),
    "no words": (_no_words, "base/tokenizer: the tokenizer can't be used: holds no words"),
    "another vocabulary": (
        _another_vocabulary,
        "gives tokens up to number 620, and the text encoder has vectors for 600",
    ),
    "few words": (_few_words, "the tokenizer can't be used: knows 3 of the 640 tokens"),
    "another config": (_another_config, "does not describe a UNet2DConditionModel"),
    "quantised": (_quantised, "of a quantised model"),
    "a quantised UNet": (_quantised_unet, "of a quantised model"),
    "other weights": (_other_weights, "has the weights read from other.safetensors"),
    "an adapter": (_an_adapter, "would have the weights of another model loaded"),
}


def test_fp16_that_came_later_is_told_by_check(models: Path) -> None:
    stages.fetch_model(recipe(models))
    _both_precisions(models)
    found = check(models)
    assert found.status == "ERROR"
    assert "would be loaded in their place" in found.detail


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_loaded_in_place_of_the_model_is_refused_with_a_way_out(models: Path, case: str) -> None:
    spoil, expected = REFUSED[case]
    spoil(models)
    found = check(models)
    assert found.status == "ERROR"
    assert expected in found.detail
    with pytest.raises(ModelError, match="fix: "):
        stages.fetch_model(recipe(models))


def test_parts_without_the_variant_come_in_full_precision(models: Path) -> None:
    for name in ("unet", "vae"):
        file = models / tiny.WEIGHTS[name]
        file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))
    assert check(models, **{"model.variant": "fp16"}).status == "OK"
    assert load(models, "text encoder") is not None


def test_a_file_is_read_once_and_what_was_found_is_remembered(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a record that was kept before anyone looked into files."""
    looks: list[Path] = []

    def look(file: Path) -> dict[str, int]:
        looks.append(file)
        return {}

    seen: tuple[dict[str, object], ...] = ({}, {})
    monkeypatch.setattr("shoes.model.contents.memory._LAYOUTS", seen[0])
    monkeypatch.setattr("shoes.model.contents.memory._VALUES", seen[1])
    monkeypatch.setattr("shoes.model.contents.findings.values.count_non_finite", look)
    monkeypatch.setattr("shoes.environment.checks.inputs.READ_AT_ONCE", 0)
    first = check(models)
    assert first.status == "OK"
    assert "`shoes model verify` also looks for NaN in the weights" in first.detail
    assert not looks, "check reads no large files"
    kept = load_settings().models / "manifests"
    assert {"".join(file.suffixes) for file in kept.iterdir()} == {".contents.json"}, "what was not read is no record"
    stages.fetch_model(recipe(models))
    assert len(looks) == 6
    monkeypatch.setattr("shoes.model.contents.findings.layout.compare", pytest.fail)
    for memory in seen:  # another process
        memory.clear()
    assert "NaN" not in check(models).detail
    stages.check_model(recipe(models))
    assert len(looks) == 6
    monkeypatch.undo()
    for file in kept.glob("*.contents.json"):  # a data folder of before
        file.unlink()
    assert not [one for one in stages.check_model(recipe(models)).values() if one.problems]


def test_what_mends_a_damaged_folder_is_no_damage(models: Path, whole: Path) -> None:
    file = models / tiny.WEIGHTS["vae"]
    tiny.truncated(file)
    with pytest.raises(ModelError, match="is cut off"):
        stages.fetch_model(recipe(models))
    shutil.copy(whole / tiny.WEIGHTS["vae"], file)
    stages.fetch_model(recipe(models))
    assert check(models).status == "OK"


PLAIN = "unet.down_blocks.0.attentions.0.proj_in"


def _adapter(model: Path, folder: Path, *more: str) -> Path:
    """A LoRA of rank 2 for one layer of the tiny UNet, and other tensors."""
    folder.mkdir()
    shape = load_file(model / "unet/diffusion_pytorch_model.safetensors")[f"{PLAIN.removeprefix('unet.')}.weight"].shape
    tensors = {
        f"{PLAIN}.lora_A.weight": torch.ones(2, *shape[1:]),
        f"{PLAIN}.lora_B.weight": torch.ones(shape[0], 2, 1, 1),
    }
    tensors |= {name: torch.ones(2, 2) for name in more}
    save_file(tensors, folder / "pytorch_lora_weights.safetensors")
    return folder


@pytest.mark.parametrize("way", ["a folder of ours", "a file of anybody's"])
def test_what_an_adapters_loader_drops_is_refused_with_names_and_count(models: Path, way: str) -> None:
    def draw(folder: Path) -> None:
        given = None if way == "a file of anybody's" else folder
        pipeline = load_pipeline(
            models / "base", device="cpu", dtype=torch.float32, scheduler="ddim", adapter_dir=given
        )
        if given is None:
            apply_adapters(pipeline, [find_adapter(folder)], "tiny")

    draw(_adapter(models / "base", models / "good"))
    unknown = [f"unet.no_such_block.{number}.to_q.lora_{end}.weight" for number in range(3) for end in "AB"]
    with pytest.raises(ModelError, match=r"holds 8 tensors, of which 6 would not be applied: unet\.no_such_block\.0"):
        draw(_adapter(models / "base", models / "unknown", *unknown))


def test_every_kind_of_defect_has_words_in_both_places() -> None:
    kinds = set(Defect.model_fields["kind"].annotation.__args__)
    assert kinds == set(_WHATS) == set(words._WHATS)

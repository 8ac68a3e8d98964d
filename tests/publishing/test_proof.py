"""The proof accepts the adapter in every form, and names the form that is another one."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from shoes.errors import ExportError
from shoes.publishing.export import DIFFUSERS_FILE, KOHYA_FILE, export
from shoes.publishing.proof import doubts, mean_difference, prove, updates_of
from shoes.spec import TrainSpec
from shoes.tensors import read_tensors, write_tensors
from shoes.training import lora
from shoes.training.fused_lora import fuse_adapter
from tests.publishing.adapters import BASE, OTHERS, SPEC, image, pipeline, strong_adapter


class Proof:
    """A trained adapter beside its export."""

    def __init__(self, night, folder: Path, spec: TrainSpec, size: float = 0.1, dtype=torch.float32) -> None:
        self.folder, weights = folder, strong_adapter(night, spec, size=size)
        export(folder, weights, spec, BASE)
        inside, self.pipeline = (pipeline(night, dtype=dtype) for _ in range(2))
        lora.add_adapter(inside.unet, spec)
        lora.set_adapter_weights(inside.unet, weights)
        self.updates = updates_of(inside.unet)
        for parameter in lora.trainable(inside.unet).values():
            parameter.data = parameter.data.to(dtype)
        self.expected = image(inside)
        fuse_adapter(inside.unet)
        self.rounding = mean_difference(self.expected, image(inside))

    def run(self) -> dict[str, float]:
        pictures = prove(self.folder, self.pipeline, updates=self.updates, draw=image)
        return {form: mean_difference(self.expected, picture) for form, picture in pictures.items()}


@pytest.mark.parametrize("spec", [SPEC, OTHERS["rslora"]], ids=["lora", "rslora"])
def test_every_form_draws_what_the_trained_adapter_draws(night, tmp_path: Path, spec: TrainSpec) -> None:
    proof = Proof(night, tmp_path / "adapter", spec)
    base = image(proof.pipeline)
    assert mean_difference(base, proof.expected) > 5, "the adapter does something"
    differences = proof.run()
    assert list(differences) == ["diffusers file", "PEFT folder", "kohya file"]
    assert not doubts(differences, proof.rounding)
    assert mean_difference(base, image(proof.pipeline)) == 0, "the base is left as it was"


def test_in_half_precision_like_is_compared_with_like(night, tmp_path: Path) -> None:
    """The trained adapter is rounded as the forms are when they are loaded, and drawn by the same layers."""
    proof = Proof(night, tmp_path / "adapter", SPEC, dtype=torch.bfloat16)
    assert set(proof.run().values()) == {0.0}
    assert proof.rounding > 0, "the fused layers round in another order: they may not be what is compared with"


def without_alpha(proof: Proof) -> None:
    file = proof.folder / KOHYA_FILE
    write_tensors(file, {name: t for name, t in read_tensors(file).items() if not name.endswith(".alpha")})


def without_config(proof: Proof) -> None:
    file = proof.folder / DIFFUSERS_FILE
    write_tensors(file, read_tensors(file))


def other_alpha(proof: Proof) -> None:
    file = proof.folder / "peft/adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "lora_alpha": 4}))


def renamed(file: str):
    def act(proof: Proof) -> None:
        tensors = read_tensors(proof.folder / file)
        name = min(name for name in tensors if "attn1" in name and name.endswith("weight"))
        tensors[name.replace("attn1", "attn7")] = tensors.pop(name)
        write_tensors(proof.folder / file, tensors, {"format": "pt"})

    return act


def a_little_louder(proof: Proof) -> None:
    """One layer's update is 1 % larger: no picture shows it."""
    file = proof.folder / "peft/adapter_model.safetensors"
    tensors = read_tensors(file)
    name = min(name for name in tensors if "lora_B" in name)
    write_tensors(file, {**tensors, name: tensors[name] * 1.01}, {"format": "pt"})


def swapped(proof: Proof) -> None:
    """Two layers of one shape have each other's update."""
    tensors = read_tensors(proof.folder / KOHYA_FILE)
    one, other = sorted(name for name in tensors if "to_q.lora_up" in name)[:2]
    write_tensors(proof.folder / KOHYA_FILE, {**tensors, one: tensors[other], other: tensors[one]}, {"format": "pt"})


def half_a_file(proof: Proof) -> None:
    file = proof.folder / KOHYA_FILE
    file.write_bytes(file.read_bytes()[:1000])


DAMAGES = {
    "kohya's alpha is gone": (without_alpha, "kohya file", "is another adapter"),
    "diffusers' config is gone": (without_config, "diffusers file", "is another adapter"),
    "PEFT has another alpha": (other_alpha, "PEFT folder", "is another adapter"),
    "a key of diffusers' is renamed": (renamed(DIFFUSERS_FILE), "diffusers file", ""),
    "a key of PEFT's is renamed": (renamed("peft/adapter_model.safetensors"), "PEFT folder", ""),
    "a key of kohya's is renamed": (renamed(KOHYA_FILE), "kohya file", ""),
    "kohya's file is cut short": (half_a_file, "kohya file", "can't be loaded"),
    "one layer of PEFT's is 1 % off": (a_little_louder, "PEFT folder", "is another adapter"),
    "two layers of kohya's are swapped": (swapped, "kohya file", "is another adapter"),
}


@pytest.fixture(scope="module")
def sound(night, tmp_path_factory: pytest.TempPathFactory) -> Proof:
    """An adapter so weak that its picture is almost the base's, in half precision."""
    return Proof(night, tmp_path_factory.mktemp("proof") / "adapter", SPEC, size=0.005, dtype=torch.bfloat16)


@pytest.mark.parametrize("case", DAMAGES)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of the libraries about what they find
def test_a_form_that_is_another_adapter_is_named(sound: Proof, tmp_path: Path, case: str) -> None:
    damage, form, words = DAMAGES[case]
    whole, sound.folder = sound.folder, tmp_path / "adapter"
    shutil.copytree(whole, sound.folder)
    try:
        damage(sound)
        with pytest.raises(ExportError, match=f"The {form} in .*adapter {words}"):
            sound.run()
    finally:
        sound.folder = whole


def test_a_form_that_changes_the_text_encoder_is_refused(sound: Proof) -> None:
    from peft import LoraConfig

    pipeline = sound.pipeline
    pipeline.text_encoder.add_adapter(LoraConfig(target_modules=["q_proj"]), "words")
    try:
        with pytest.raises(ExportError, match=r"The diffusers file .* of the text encoder, which the adapter has not"):
            sound.run()
    finally:
        pipeline.unload_lora_weights()


def test_a_picture_that_rounding_does_not_explain_is_a_doubt() -> None:
    assert doubts({"PEFT folder": 0.0, "kohya file": 0.0}, None) == ()
    assert doubts({"PEFT folder": 0.5, "kohya file": 0.0}, 0.5) == ()
    (doubt,) = doubts({"PEFT folder": 0.0, "kohya file": 1.17}, 0.54)
    assert doubt.startswith("the kohya file has the right weights, but draws another picture")
    assert "1.2 grey levels" in doubt
    assert "rounding explains 0.54" in doubt
    assert doubts({"kohya file": math.nan}, 0.54), "what can't be compared is not explained"


def test_an_update_that_is_not_finite_is_no_equal_one(sound: Proof) -> None:
    name, update = next(iter(sound.updates.items()))
    broken = {**sound.updates, name: type(update)(torch.full_like(update.up, torch.nan), update.down, update.scale)}
    with pytest.raises(ExportError, match="off by inf"):
        prove(sound.folder, sound.pipeline, updates=broken, draw=image)

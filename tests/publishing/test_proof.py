"""The proof accepts the adapter in every form, and names the form that is another one."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from shoes.errors import ExportError
from shoes.publishing.export import DIFFUSERS_FILE, KOHYA_FILE, export
from shoes.publishing.proof import mean_difference, prove, updates_of
from shoes.spec import TrainSpec
from shoes.tensors import read_tensors, write_tensors
from shoes.training import lora
from tests.publishing.adapters import BASE, OTHERS, SPEC, image, pipeline, strong_adapter


class Proof:
    """An adapter in memory beside its export."""

    def __init__(self, night, folder: Path, spec: TrainSpec, size: float = 0.1, dtype=torch.float32) -> None:
        self.folder, weights = folder, strong_adapter(night, spec, size=size)
        export(folder, weights, spec, BASE)
        inside, self.pipeline = (pipeline(night, dtype=dtype) for _ in range(2))
        lora.add_adapter(inside.unet, spec)
        lora.set_adapter_weights(inside.unet, weights)
        inside.unet.to(dtype)
        self.expected, self.updates = image(inside), updates_of(inside.unet)

    def run(self) -> dict[str, float]:
        return prove(self.folder, self.pipeline, updates=self.updates, expected=self.expected, draw=image)


@pytest.mark.parametrize("spec", [SPEC, OTHERS["rslora"]], ids=["lora", "rslora"])
def test_every_form_draws_what_the_adapter_in_memory_draws(night, tmp_path: Path, spec: TrainSpec) -> None:
    proof = Proof(night, tmp_path / "adapter", spec)
    base = image(proof.pipeline)
    assert mean_difference(base, proof.expected) > 5, "the adapter does something"
    differences = proof.run()
    assert list(differences) == ["diffusers file", "PEFT folder", "kohya file"]
    assert max(differences.values()) < 0.1
    assert mean_difference(base, image(proof.pipeline)) == 0, "the base is left as it was"


def test_in_half_precision_like_is_compared_with_like(night, tmp_path: Path) -> None:
    """The adapter in memory is rounded as the forms are when they are loaded: then nothing differs."""
    proof = Proof(night, tmp_path / "adapter", SPEC, dtype=torch.bfloat16)
    assert set(proof.run().values()) == {0.0}


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


def half_a_file(proof: Proof) -> None:
    file = proof.folder / KOHYA_FILE
    file.write_bytes(file.read_bytes()[:1000])


DAMAGES = {
    "kohya's alpha is gone": (without_alpha, "kohya file"),
    "diffusers' config is gone": (without_config, "diffusers file"),
    "PEFT has another alpha": (other_alpha, "PEFT folder"),
    "a key of diffusers' is renamed": (renamed(DIFFUSERS_FILE), "diffusers file"),
    "a key of PEFT's is renamed": (renamed("peft/adapter_model.safetensors"), "PEFT folder"),
    "a key of kohya's is renamed": (renamed(KOHYA_FILE), "kohya file"),
    "kohya's file is cut short": (half_a_file, "kohya file"),
}


@pytest.fixture(scope="module")
def sound(night, tmp_path_factory: pytest.TempPathFactory) -> Proof:
    """An adapter so weak that its picture is almost the base's."""
    return Proof(night, tmp_path_factory.mktemp("proof") / "adapter", SPEC, size=0.005)


@pytest.mark.parametrize("case", DAMAGES)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of the libraries about what they find
def test_a_form_that_is_another_adapter_is_named(sound: Proof, tmp_path: Path, case: str) -> None:
    damage, form = DAMAGES[case]
    whole, sound.folder = sound.folder, tmp_path / "adapter"
    shutil.copytree(whole, sound.folder)
    try:
        damage(sound)
        with pytest.raises(ExportError, match=f"The {form} in .*adapter "):
            sound.run()
    finally:
        sound.folder = whole


def test_a_picture_is_compared_as_well(sound: Proof) -> None:
    """Equal weights that draw something else: a loader that does not use them."""
    strange = image(sound.pipeline).rotate(90)
    with pytest.raises(ExportError, match=r"The diffusers file .* grey levels"):
        prove(sound.folder, sound.pipeline, updates=sound.updates, expected=strange, draw=image)


def test_an_update_that_is_not_finite_is_no_equal_one(sound: Proof) -> None:
    name, update = next(iter(sound.updates.items()))
    broken = {**sound.updates, name: type(update)(torch.full_like(update.up, torch.nan), update.down, update.scale)}
    with pytest.raises(ExportError, match="off by inf"):
        prove(sound.folder, sound.pipeline, updates=broken, expected=sound.expected, draw=image)

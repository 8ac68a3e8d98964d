"""A checkpoint in a single file is the model that it was made of, or is refused with words."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from shoes.errors import ModelError
from shoes.model.files import check, diffusion_files, fetch, repair
from shoes.model.load import load_noise_schedule, load_pipeline, load_unet
from shoes.model.single.header import Header, Tensor, read_header
from shoes.model.single.kinds import refusals
from shoes.model.single.layout import layout_of, read_config
from shoes.model.single.parts import misfits, plan_parts
from shoes.model.single.prediction import measure, measured, said
from shoes.reports import ModelReport
from shoes.settings import PROJECT_ROOT, load_settings
from tests.published.checkpoints import Tensors, load_part, named, write_checkpoint

SD15, SD21 = "stable-diffusion-v1-5", "stable-diffusion-2-1-base"
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."
CLIP = f"{TEXT}transformer.text_model."
EPSILON = {"modelspec.prediction_type": "epsilon"}


pytestmark = pytest.mark.usefixtures("no_network")


def fetched(file: Path) -> ModelReport:
    """With the default revision and variant, which are those of another model."""
    return fetch(diffusion_files(str(file), "451f4fe", "fp16"), load_settings())


def drawn(folder: Path) -> torch.Tensor:
    pipeline = load_pipeline(folder, device="cpu", dtype=torch.float32, scheduler="ddim")
    generator = torch.Generator().manual_seed(0)
    options = {"height": 64, "width": 64, "num_inference_steps": 2, "generator": generator, "output_type": "pt"}
    return pipeline("a red canvas shoe", **options).images


def with_what_old_files_hold(tensors: Tensors) -> None:
    """EMA weights, the noise schedule, a loss, positions as floats, and a text encoder by its oldest names."""
    for name in [name for name in tensors if name.startswith(UNET)]:
        tensors[f"model_ema.{name.removeprefix('model.').replace('.', '')}"] = torch.zeros(1)
    for name in [name for name in tensors if name.startswith(CLIP)]:
        tensors[name.replace(".text_model.", ".")] = tensors.pop(name)
    tensors[f"{TEXT}transformer.embeddings.position_ids"] = torch.full((1, 77), 0.5)
    tensors["alphas_cumprod"] = torch.zeros(1000)
    tensors[f"{VAE}loss.logvar"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("name", "change"),
    [(SD15, with_what_old_files_hold), (SD21, lambda tensors: None)],
    ids=["1.5 with what old files hold", "2.1"],
)
def test_a_single_file_draws_its_folders_pictures(
    published: Callable[..., Path], own_world: Path, name: str, change: Callable[[Tensors], None]
) -> None:
    file = write_checkpoint(published(name), own_world / "models/dreams_8.safetensors", change)
    found = fetched(Path("models/dreams_8.safetensors"))
    picture = drawn(found.path)
    assert picture.std() > 0.05
    assert torch.equal(picture, drawn(published(name)))
    assert (found.num_files, found.commit) == (13, None)
    names = [set(load_part(folder / "text_encoder")) for folder in (found.path, published(name))]
    assert names[0] == {one for one in names[1] if not one.endswith("position_ids")}, "as they are published"
    text = " ".join(found.notes)
    assert ("EMA" in text, "1 tensors belong to no part" in text) == ((True, True) if name == SD15 else (False, False))
    assert "1.x" in text if name == SD15 else "2.x" in text
    before = {path: path.stat().st_mtime_ns for path in found.path.rglob("*")}
    again = fetched(file)
    assert (again.path, again.fingerprint, again.notes) == (found.path, found.fingerprint, found.notes)
    assert before == {path: path.stat().st_mtime_ns for path in found.path.rglob("*")}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (torch.bfloat16, torch.bfloat16),
        (torch.float8_e4m3fn, torch.float16),
        pytest.param(torch.float64, torch.float32, marks=pytest.mark.slow),
    ],
)
def test_the_precision_of_the_weights_stays(
    published: Callable[..., Path], own_world: Path, given: torch.dtype, kept: torch.dtype
) -> None:
    def change(tensors: Tensors) -> None:
        tensors.update({name: tensor.to(given) for name, tensor in tensors.items() if tensor.is_floating_point()})

    found = fetched(write_checkpoint(published(SD15), own_world / "half.safetensors", change, EPSILON))
    for part in ("unet", "vae", "text_encoder"):
        before, after = (load_part(folder / part) for folder in (published(SD15), found.path))
        assert {tensor.dtype for tensor in after.values()} == {kept}
        for name in before.keys() & after.keys():
            assert torch.equal(after[name], before[name].to(given).to(kept))


def test_a_file_is_held_to_its_content(sd15_file: Path, own_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoes.model.single.place._SURE_AFTER_NS", -(10**18))  # as if it lay there for long
    file = own_world / "mine.safetensors"
    shutil.copy(sd15_file, file)
    wanted, settings = diffusion_files(str(file), None, None), load_settings()
    assert "not converted yet" in check(wanted, settings).problems[0]
    first = fetched(file)
    with monkeypatch.context() as patch:
        patch.setattr("shoes.model.single.place.sha256", lambda file: pytest.fail("it was read again"))
        assert [one.status for one in check(wanted, settings).files] == ["OK"] * 13
    other = own_world / "under another name.safetensors"
    shutil.copy(file, other)
    assert fetched(other).path == first.path, "a folder is known by the content that it was made of"
    weights = first.path / "unet/diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="`shoes model fetch` converts the file again"):
        fetched(file)
    assert repair(wanted, settings).fingerprint == first.fingerprint
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    second = fetched(file)
    assert (second.path == first.path, second.fingerprint == first.fingerprint) == (False, False)
    file.unlink()
    with pytest.raises(ModelError, match="there is no such file"):
        fetched(file)


def test_a_conversion_that_dies_leaves_nothing(
    sd15_file: Path, own_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoes.model.single.conversion._notes", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fetched(sd15_file)
    assert [path for path in (own_world / "data/models").iterdir() if path.is_dir() and path.name != "manifests"] == []


# ---- what is refused ------------------------------------------------------------------------------------------------

WHOLE = {f"{UNET}input_blocks.0.0.weight": (8, 4, 3, 3), f"{VAE}encoder.conv_in.weight": (8, 3, 3, 3), f"{CLIP}x": (1,)}
REFUSED: dict[str, tuple[Mapping[str, tuple[int, ...]], str]] = {
    "SDXL": (WHOLE | {"conditioner.embedders.0.x": (1,)}, "is Stable Diffusion XL"),
    "SDXL's UNet": ({f"{UNET}input_blocks.4.1.attn2.to_k.weight": (640, 2048)}, "is Stable Diffusion XL"),
    "SD 3": ({f"{UNET}joint_blocks.0.x": (1,)}, "is Stable Diffusion 3"),
    "Flux": ({"double_blocks.0.img_attn.norm.key_norm.scale": (1,)}, "is Flux"),
    "inpainting": (WHOLE | {f"{UNET}input_blocks.0.0.weight": (8, 9, 3, 3)}, "is an inpainting model"),
    "pix2pix": (WHOLE | {f"{UNET}input_blocks.0.0.weight": (8, 8, 3, 3)}, "is InstructPix2Pix"),
    "upscaler": (WHOLE | {f"{UNET}input_blocks.0.0.weight": (8, 7, 3, 3)}, "is an upscaler"),
    "depth": (WHOLE | {f"{UNET}input_blocks.0.0.weight": (8, 5, 3, 3)}, "is a depth-to-image model"),
    "LCM": (WHOLE | {f"{UNET}time_embed.cond_proj.weight": (1, 1)}, "is a latent consistency model"),
    "unCLIP": (WHOLE | {f"{UNET}label_emb.0.0.weight": (1, 1)}, "unCLIP"),
    "LoRA of kohya": ({"lora_unet_down_blocks_0.lora_down.weight": (8, 320)}, "is a LoRA"),
    "LoRA of PEFT": ({"unet.down_blocks.0.to_q.lora_A.weight": (8, 320)}, "is a LoRA"),
    "textual inversion": ({"emb_params": (4, 768)}, "is a textual inversion"),
    "ControlNet": ({"control_model.input_blocks.0.0.weight": (1,)}, "is a ControlNet"),
    "motion module": ({"down_blocks.0.motion_modules.0.x": (1,)}, "is a motion module"),
    "VAE": ({"encoder.down.0.block.0.conv1.weight": (1,)}, "is a VAE"),
    "UNet": ({"input_blocks.0.0.weight": (8, 4, 3, 3)}, "is a UNet"),
    "UNet of diffusers": (
        {"down_blocks.0.resnets.0.conv1.weight": (1,)},
        "is one part of a model in diffusers' format",
    ),
    "EMA only": ({"model_ema.diffusion_modelout2bias": (1,)}, "holds EMA weights only"),
    "another model": ({"layers.0.weight": (1,)}, "is no Stable Diffusion 1.x or 2.x"),
    "no text encoder": ({k: v for k, v in WHOLE.items() if TEXT not in k}, "holds no text encoder"),
    "no VAE": ({k: v for k, v in WHOLE.items() if VAE not in k}, "holds no VAE"),
    "scaled eight bits": (WHOLE | {f"{UNET}out.2.scale_weight": (1,)}, "is quantised"),
    "nothing": ({}, "holds no tensors"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_can_not_be_trained_is_told_from_the_header(own_world: Path, kind: str) -> None:
    shapes, words = REFUSED[kind]
    file = own_world / "model.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, file)
    with pytest.raises(ModelError) as caught:
        fetched(file)
    (problem,) = caught.value.problems
    assert words in problem.what
    assert problem.where == str(file)
    assert not (own_world / "data").exists(), "nothing was hashed or written"


def test_all_parts_that_a_file_lacks_are_told_at_once() -> None:
    found = refusals(Header({f"{UNET}input_blocks.0.0.weight": Tensor((8, 4, 3, 3), "F16")}), "x")
    assert [problem.what.partition(" (")[0] for problem in found] == ["holds no VAE", "holds no text encoder"]
    whole = {name: Tensor(shape, "I8") for name, shape in WHOLE.items()}
    assert "is quantised: 3 tensors are I8" in refusals(Header(whole), "x")[0].what


CONTENTS = {
    "cut off": (lambda whole: whole[:-1], "was cut off or damaged"),
    "cut off in its header": (lambda whole: whole[:60], "was cut off or damaged"),
    "empty": (lambda whole: b"", "is empty"),
    "a pickle": (lambda whole: b"PK\x03\x04" + whole, "is a pickle"),
    "GGUF": (lambda whole: b"GGUF" + whole, "is a GGUF file"),
    "a pointer": (lambda whole: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    "a web page": (lambda whole: b"\n<!DOCTYPE html>", "is a web page"),
}


@pytest.mark.parametrize("case", CONTENTS)
@pytest.mark.parametrize("ending", ["safetensors", "ckpt"])
def test_what_is_no_safetensors_file_is_told_as_what_it_is(own_world: Path, case: str, ending: str) -> None:
    change, words = CONTENTS[case]
    file = own_world / f"model.{ending}"
    file.write_bytes(change(save({"a": torch.zeros(100)})))
    with pytest.raises(ModelError) as caught:
        fetched(file)
    what = caught.value.problems[0].what
    assert words in what or (ending == "ckpt" and "is a pickle" in what)


@pytest.fixture(scope="module")
def narrow(sd15_file: Path) -> Header:
    return read_header(sd15_file)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda t: t.pop(f"{UNET}middle_block.1.proj_in.weight"),
            "the UNet lacks 1 tensor: mid_block.attentions.0.proj",
        ),
        (lambda t: t.pop(f"{VAE}decoder.mid.attn_1.q.weight"), "the VAE lacks 1 tensor: decoder.mid_block"),
        (lambda t: t.pop(f"{CLIP}final_layer_norm.bias"), "the text encoder lacks 1 tensor: final_layer_norm.bias"),
        (
            lambda t: t.update({f"{CLIP}final_layer_norm.bias": Tensor((63,), "F32")}),
            "the text encoder has other shapes than it should in 1 tensor: final_layer_norm.bias (63,) for (64,)",
        ),
        (
            lambda t: t.update({f"{UNET}text_proj.weight": Tensor((1,), "F32")}),
            f"the UNet does not know 1 tensor: {UNET}text_proj.weight",
        ),
        (
            lambda t: t.update({f"{CLIP}embeddings.token_embedding.weight": Tensor((49409, 64), "F32")}),
            "token_embedding.weight (49409, 64) for (49408, 64)",
        ),
        (lambda t: t.pop(f"{UNET}input_blocks.1.0.out_layers.3.weight"), "UNet"),
    ],
)
def test_tensors_that_are_missing_misshapen_or_unknown_are_named(
    narrow: Header, change: Callable[[dict[str, Tensor]], object], expected: str
) -> None:
    tensors = dict(narrow.tensors)
    assert misfits(narrow, plan_parts(narrow, layout_of(narrow)), "x") == []
    change(tensors)
    spoilt = replace(narrow, tensors=tensors)
    found = misfits(spoilt, plan_parts(spoilt, layout_of(spoilt)), "x")
    assert expected in " ".join(problem.what for problem in found)


@pytest.mark.parametrize("name", [SD15, SD21])
def test_a_file_of_the_published_size_gets_the_published_configs(name: str) -> None:
    header = published_header(name)
    layout = layout_of(header)
    assert layout.unet == read_config(name, "unet")
    assert layout.vae == read_config(name, "vae")
    assert layout.text_encoder == read_config(name, "text_encoder")
    assert misfits(header, plan_parts(header, layout), "x") == []
    last = f"{CLIP}encoder.layers.11." if name == SD15 else f"{TEXT}model.transformer.resblocks.22."
    lacking = replace(header, tensors={n: t for n, t in header.tensors.items() if not n.startswith(last)})
    assert "the text encoder lacks 16 tensors" in misfits(lacking, plan_parts(lacking, layout_of(lacking)), "x")[0].what


def test_the_shapes_of_a_model_are_asked_for_without_touching_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate's context would change how every network is made in this process meanwhile."""
    from diffusers import AutoencoderKL

    header = published_header(SD15)
    plain, make, seen = torch.nn.Module.register_parameter, AutoencoderKL.from_config, []

    def watched(config: object) -> AutoencoderKL:
        seen.append(torch.nn.Module.register_parameter is plain)
        return make(config)

    monkeypatch.setattr(AutoencoderKL, "from_config", watched)
    assert misfits(header, plan_parts(header, layout_of(header)), "x") == []
    assert seen == [True]


def published_header(name: str) -> Header:
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with init_empty_weights():
        unet = UNet2DConditionModel.from_config(read_config(name, "unet")).state_dict()
        vae = AutoencoderKL.from_config(read_config(name, "vae")).state_dict()
        text = CLIPTextModel(CLIPTextConfig(**read_config(name, "text_encoder"))).state_dict()
    return Header({n: Tensor(tuple(t.shape), "F16") for n, t in named(unet, vae, text).items()})


# ---- ε or v ---------------------------------------------------------------------------------------------------------

YAML = "model:\n  params:\n    parameterization: {}\n"


@pytest.mark.parametrize(
    ("metadata", "beside", "expected"),
    [
        ({"modelspec.prediction_type": "v"}, None, "v_prediction"),
        ({"modelspec.prediction_type": "epsilon"}, YAML.format("v"), "epsilon"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, None, "v_prediction"),
        ({"ss_v_parameterization": "True", "ss_base_model_version": "sd_v1"}, None, "v_prediction"),
        ({"ss_base_model_version": "sd_v2_v"}, None, "v_prediction"),
        ({}, YAML.format('"v"'), "v_prediction"),
        ({}, "model:\n  params: {linear_start: 0.00085}\n", "epsilon"),
        ({}, "- a list", None),
        ({}, "model: [", None),
        ({"modelspec.architecture": "stable-diffusion-v1"}, None, None),
    ],
)
def test_metadata_or_a_yaml_beside_the_file_say_what_it_predicts(
    own_world: Path, metadata: dict[str, str], beside: str | None, expected: str | None
) -> None:
    if beside is not None:
        (own_world / "x.yaml").write_text(beside)
    found = said(own_world / "x.safetensors", Header({}, metadata))
    assert (found.prediction if found else None) == expected


def test_what_a_trained_unet_predicts_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = PROJECT_ROOT / "data/demo/model"
    unet = load_unet(folder, device="cpu", dtype=torch.float32)
    alphas = load_noise_schedule(folder).alphas_cumprod.sqrt()
    seen: list[torch.Tensor] = []

    class OfV:
        """The same model, asked for v."""

        config = unet.config

        def __call__(self, x: torch.Tensor, t: int, text: torch.Tensor) -> object:
            alpha, answer = alphas[t], unet(x, t, text)
            sigma = (1 - alpha**2).sqrt()
            clean = (x - sigma * answer.sample) / alpha
            answer.sample = alpha * answer.sample - sigma * clean
            return answer

    def keep(unet: object, latents: torch.Tensor, alpha: float) -> str | None:
        seen.append(latents)
        return measure(unet, latents, alpha)

    monkeypatch.setattr("shoes.model.single.prediction.measure", keep)
    assert measured(folder) == "epsilon"
    alpha = float(alphas[500])
    assert measure(OfV(), seen[0], alpha) == "v_prediction"
    torch.manual_seed(0)
    assert measure(type(unet).from_config(unet.config), seen[0], alpha) is None


def test_a_file_that_says_v_is_trained_on_v(published: Callable[..., Path], own_world: Path) -> None:
    metadata = {"modelspec.prediction_type": "v", "modelspec.resolution": "768x768"}
    found = fetched(write_checkpoint(published(SD21), own_world / "v.safetensors", metadata=metadata))
    assert load_noise_schedule(found.path).config.prediction_type == "v_prediction"
    assert json.loads((found.path / "unet/config.json").read_text())["sample_size"] == 96
    assert "predicts v: its metadata say so (modelspec.prediction_type)" in found.notes[0]
    (own_world / "e.yaml").write_text(YAML.format("eps"))
    shutil.copy(own_world / "v.safetensors", own_world / "e.safetensors")
    assert fetched(own_world / "e.safetensors").fingerprint == found.fingerprint, (
        "the file goes before what is beside it"
    )

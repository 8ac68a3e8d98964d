"""The smallest models of each kind, whole, in the layouts in which people have them, and damaged."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from shoes.settings import PROJECT_ROOT

TOKENIZER = PROJECT_ROOT / "data/demo/model/tokenizer"
SCHEDULER = PROJECT_ROOT / "data/demo/model/scheduler"
PROCESSOR = PROJECT_ROOT / "data/demo/clip/processor_config.json"
State = dict[str, torch.Tensor]
PLACES = 48
OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
WEIGHTS = {
    "unet": "base/unet/diffusion_pytorch_model.safetensors",
    "vae": "base/vae/diffusion_pytorch_model.safetensors",
    "text encoder": "base/text_encoder/model.safetensors",
    "CLIP": "clip/model.safetensors",
    "second CLIP": "second/model.safetensors",
    "DINOv2": "dino/model.safetensors",
}
"""Where each network's weights lie in the folder that `make` fills."""


def make(folder: Path) -> None:
    """A base model and three judges, with random weights: base, clip, second, dino."""
    torch.manual_seed(0)
    base = folder / "base"
    _unet().save_pretrained(base / "unet")
    _vae().save_pretrained(base / "vae")
    _text_encoder().save_pretrained(base / "text_encoder")
    shutil.copytree(TOKENIZER, base / "tokenizer")
    shutil.copytree(SCHEDULER, base / "scheduler")
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0"}
    (base / "model_index.json").write_text(json.dumps(index))
    for name in ("clip", "second"):
        _clip().save_pretrained(folder / name)
        shutil.copytree(TOKENIZER, folder / name, dirs_exist_ok=True)
        shutil.copy(PROCESSOR, folder / name / "processor_config.json")
    _dino().save_pretrained(folder / "dino")
    (folder / "dino/preprocessor_config.json").write_text('{"size": {"height": 28, "width": 28}}')


def change(file: Path, edit: Callable[[State], State | None]) -> None:
    """Write a safetensors file again, with its tensors edited."""
    tensors = load_file(file)
    save_file({name: t.contiguous() for name, t in (edit(tensors) or tensors).items()}, file, {"format": "pt"})


def victim(tensors: Mapping[str, Any]) -> str:
    """A tensor of every network, in the middle of its weights: a matrix, with a name that no library changes."""
    names = sorted(name for name, tensor in tensors.items() if tensor.ndim > 1 and "attention" not in name)
    return names[len(names) // 2]


def missing(file: Path) -> None:
    change(file, lambda tensors: {name: t for name, t in tensors.items() if name != victim(tensors)})


def renamed(file: Path) -> None:
    change(file, lambda tensors: {name + "_" * (name == victim(tensors)): t for name, t in tensors.items()})


def misshapen(file: Path) -> None:
    change(file, lambda tensors: {**tensors, victim(tensors): tensors[victim(tensors)][:-1].clone()})


def left_over(file: Path) -> None:
    change(file, lambda tensors: {**tensors, "one.too.many": torch.zeros(2)})


def _with(value: float) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        def edit(tensors: State) -> None:
            tensors[victim(tensors)].view(-1)[-1] = value

        change(file, edit)

    return spoil


def whole_numbers(file: Path) -> None:
    change(file, lambda tensors: {**tensors, victim(tensors): tensors[victim(tensors)].to(torch.int8)})


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def pointer(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


DAMAGES: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "missing": (missing, "1 of {total} tensors is missing: {name}"),
    "renamed": (renamed, "1 of {total} tensors is missing: {name}"),
    "misshapen": (misshapen, "1 tensor of another shape than the config asks for: {name}"),
    "left over": (left_over, "1 tensor that the config has no place for: one.too.many"),
    "NaN": (_with(float("nan")), "NaN or infinity in 1 of {total} tensors: {name}"),
    "infinity": (_with(float("-inf")), "NaN or infinity in 1 of {total} tensors: {name}"),
    "whole numbers": (whole_numbers, "1 tensor of whole numbers, as quantised weights are: {name}"),
    "truncated": (truncated, "is cut off: it has"),
    "a pointer": (pointer, "is Git LFS's pointer to a file"),
}
"""What is done to a file, and what is said then."""


def published(folder: Path) -> None:
    """The names of 2022: what Stable Diffusion 1.5's own files have."""

    def text(tensors: State) -> State:
        names = {f"text_model.{name.removeprefix('text_model.')}": t for name, t in tensors.items()}
        return names | {"text_model.embeddings.position_ids": torch.arange(PLACES)[None]}

    def vae(tensors: State) -> State:
        for new, old in OLD_ATTENTION.items():
            tensors = {k.replace(f".{new}.", f".{old}.") if ".attentions." in k else k: t for k, t in tensors.items()}
        return tensors

    change(folder / WEIGHTS["text encoder"], text)
    change(folder / WEIGHTS["vae"], vae)
    for judge in ("CLIP", "second CLIP"):
        change(folder / WEIGHTS[judge], _with_positions)


def _with_positions(tensors: State) -> State:
    positions = {f"{half}.embeddings.position_ids": torch.arange(9)[None] for half in ("text_model", "vision_model")}
    return tensors | positions


def without_prefix(folder: Path) -> None:
    """As transformers 5 names a text encoder's tensors, with the positions that older ones counted."""
    change(
        folder / WEIGHTS["text encoder"],
        lambda tensors: {
            **{name.removeprefix("text_model."): t for name, t in tensors.items()},
            "embeddings.position_ids": torch.arange(PLACES)[None],
        },
    )


def whole_clip(folder: Path) -> None:
    """A text encoder whose file holds the other half of CLIP as well; a DINOv2 with a head, and without its mask."""

    def text(tensors: State) -> State:
        names = {f"text_model.{name.removeprefix('text_model.')}": t for name, t in tensors.items()}
        other = {n: t for n, t in load_file(folder / WEIGHTS["CLIP"]).items() if not n.startswith("text_model.")}
        return names | other

    def dino(tensors: State) -> State:
        names = {f"dinov2.{name}": t for name, t in tensors.items() if "mask_token" not in name}
        return names | {"classifier.weight": torch.zeros(2, 64), "classifier.bias": torch.zeros(2)}

    change(folder / WEIGHTS["text encoder"], text)
    change(folder / WEIGHTS["DINOv2"], dino)


def in_half_precision(folder: Path) -> None:
    """Every file of the base in fp16 under the name of that variant; the judges in bf16."""
    for name, path in WEIGHTS.items():
        file, is_base = folder / path, path.startswith("base")
        kind = torch.float16 if is_base else torch.bfloat16
        change(file, lambda tensors, kind=kind: {key: t.to(kind) for key, t in tensors.items()})
        if is_base:
            file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))
        assert name


def sharded(folder: Path) -> None:
    """Every network in several files with an index."""
    for path in WEIGHTS.values():
        shard(folder / path)


def shard(file: Path, variant: str = "") -> list[Path]:
    """The same tensors in three files and an index, as the libraries write them."""
    tensors = load_file(file)
    names, stem = sorted(tensors), file.name.partition(".")[0] + variant
    files = [file.with_name(f"{stem}-{number:05d}-of-00003.safetensors") for number in (1, 2, 3)]
    for number, one in enumerate(files):
        save_file({name: tensors[name] for name in names[number::3]}, one, {"format": "pt"})
    shards = {name: files[place % 3].name for place, name in enumerate(names)}
    index = file.with_name(f"{file.name.partition('.')[0]}.safetensors.index{variant}.json")
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": shards}))
    file.unlink()
    return files


def beside_non_ema(folder: Path) -> None:
    """The weights before they were averaged lie beside those that are loaded."""
    file = folder / WEIGHTS["unet"]
    shutil.copy(file, file.with_name("diffusion_pytorch_model.non_ema.safetensors"))


def without_a_length(folder: Path) -> None:
    """Tokenizers whose config says nothing about how much they read."""
    for place in ("base/tokenizer", "clip", "second"):
        file = folder / place / "tokenizer_config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps({key: value for key, value in config.items() if key != "model_max_length"}))


def as_saved(folder: Path) -> None:
    """As today's libraries save them."""
    del folder


GOOD: tuple[Callable[[Path], None], ...] = (
    as_saved,
    published,
    without_prefix,
    whole_clip,
    in_half_precision,
    sharded,
    beside_non_ema,
    without_a_length,
)
"""Layouts that are fine."""


def _unet() -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        sample_size=16,
    )


TEXT: dict[str, Any] = {
    "vocab_size": 640,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": PLACES,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 16,
}


def _text_encoder() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**TEXT))


def _clip() -> Any:
    from transformers import CLIPConfig, CLIPModel

    return CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=32))


def _dino() -> Any:
    from transformers import Dinov2Config, Dinov2Model

    return Dinov2Model(Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28))

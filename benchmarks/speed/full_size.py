"""Stable Diffusion 1.5 as it is published, with random weights, as a folder in diffusers' format."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoes.settings import PROJECT_ROOT

if TYPE_CHECKING:
    import torch

DEMO = PROJECT_ROOT / "data/demo/model"
PUBLISHED = PROJECT_ROOT / "shoes/model/published/stable-diffusion-v1-5"
NUM_UNET_PARAMETERS = 859_520_964
EMBEDDING_SPREAD = 0.02
NARROW_TEXT = 64
POOL = 2**21 - 9
"""Random numbers that are drawn; odd, so that no row of a matrix is like the next."""


def full_size_model(folder: Path, *, narrow: int = 1) -> Path:
    """The model in `folder`, made first where it is not there: 2.1 GB in fp16, in some 10 seconds.

    Configs and tokenizer are those of Stable Diffusion 1.5. Speed and memory do not depend on what the weights are,
    as long as everything stays finite.

    Args:
        narrow: divides the widths of UNet and VAE and the layers of the text encoder, which is NARROW_TEXT wide then;
            1 is the real size.
    """
    from safetensors.torch import save_file

    if folder.is_dir():
        return folder
    with _appearing(folder) as partial:
        shutil.copytree(PUBLISHED, partial, dirs_exist_ok=True)
        for number, (part, file) in enumerate(PARTS.items()):
            if narrow > 1:
                _narrow(partial / part / "config.json", narrow)
            model = _on_meta(partial, part)
            if part == "unet" and narrow == 1:
                assert model.num_parameters() == NUM_UNET_PARAMETERS, "this is not the UNet of Stable Diffusion 1.5"
            save_file(dict(_random_weights(model, seed=number)), partial / part / file, {"format": "pt"})
    return folder


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder that is there when the block has ended. Neither hashed nor synced, which would take longer than making
    it: it can be made again."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        partial = Path(place) / folder.name
        partial.mkdir()
        yield partial
        partial.rename(folder)


PARTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
"""The parts that have weights, and the file that holds them."""


def _on_meta(folder: Path, part: str) -> Any:
    """The part as its config says, without memory for its weights."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        if part == "text_encoder":
            return CLIPTextModel(CLIPTextConfig.from_pretrained(folder / part))
        kind = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[part]
        return kind.from_config(kind.load_config(folder / part))


def _random_weights(model: Any, *, seed: int) -> "Iterator[tuple[str, torch.Tensor]]":
    """Weights in fp16 that keep a signal at its size, as PyTorch's own first weights roughly do.

    They are cut out of one pool of random numbers, over and over: drawing a billion takes a minute.
    """
    import torch

    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(seed))
    start = 0
    for name, shape in {name: tensor.shape for name, tensor in model.state_dict().items()}.items():
        is_scale = name.endswith("weight") and len(shape) == 1
        if len(shape) < 2:
            yield name, torch.full(shape, float(is_scale), dtype=torch.float16)
            continue
        spread = EMBEDDING_SPREAD if name.endswith("embedding.weight") else (3 * shape[1:].numel()) ** -0.5
        start = (start + shape.numel()) % POOL
        values = (pool.roll(-start) * spread).half()
        yield name, values.repeat(-(-shape.numel() // POOL))[: shape.numel()].view(shape).clone()


def _narrow(file: Path, by: int) -> None:
    config = json.loads(file.read_text(encoding="utf-8"))
    if "block_out_channels" in config:
        groups = config.get("norm_num_groups", 32)
        widths = [max(groups, width // by // groups * groups) for width in config["block_out_channels"]]
        config["block_out_channels"] = widths
    if "cross_attention_dim" in config:
        config["cross_attention_dim"] = NARROW_TEXT
    if "num_hidden_layers" in config:
        config |= {"hidden_size": NARROW_TEXT, "intermediate_size": 4 * NARROW_TEXT, "num_attention_heads": 4}
        config["num_hidden_layers"] = max(2, config["num_hidden_layers"] // by)
    file.write_text(json.dumps(config, indent=2), encoding="utf-8")

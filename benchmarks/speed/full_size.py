"""Stable Diffusion 1.5 in its full size, with random weights, as a folder in diffusers' format."""

import shutil
from pathlib import Path
from typing import Any

from shoes.settings import PROJECT_ROOT
from shoes.storage import new_folder

DEMO = PROJECT_ROOT / "data/demo/model"
NUM_UNET_PARAMETERS = 859_520_964
VAE_BLOCKS = 4


def full_size_model(folder: Path) -> Path:
    """The model in `folder`, made first where it is not there: 2.1 GB, in about a minute.

    Geometry is that of Stable Diffusion 1.5; tokenizer and noise schedule are the demo's. Speed and memory do not
    depend on what the weights are, as long as everything stays finite.
    """
    import torch

    if folder.is_dir():
        return folder
    with new_folder(folder) as partial, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for part, make in (("unet", _unet), ("vae", _vae), ("text_encoder", _text_encoder)):
            make().half().save_pretrained(partial / part)
        for part in ("tokenizer", "scheduler"):
            shutil.copytree(DEMO / part, partial / part)
        shutil.copy(DEMO / "model_index.json", partial)
    return folder


def _unet() -> Any:
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    assert unet.num_parameters() == NUM_UNET_PARAMETERS, "this is not the UNet of Stable Diffusion 1.5"
    return unet


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * VAE_BLOCKS,
        up_block_types=("UpDecoderBlock2D",) * VAE_BLOCKS,
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
    )


def _text_encoder() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    small = CLIPTextConfig.from_pretrained(DEMO / "text_encoder")
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=small.vocab_size,
            bos_token_id=small.bos_token_id,
            eos_token_id=small.eos_token_id,
            pad_token_id=small.pad_token_id,
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=77,
        )
    )

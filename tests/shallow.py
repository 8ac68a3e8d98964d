"""The demo's base with a smaller UNet, for tests that go through it many times."""

import shutil
from pathlib import Path

from shoes.settings import PROJECT_ROOT


def make_shallow_model(folder: Path) -> Path:
    """The demo's base with another UNet, of one level with attention and one without: it computes little."""
    import torch
    from diffusers import UNet2DConditionModel

    base = PROJECT_ROOT / "data/demo/model"
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("manifest.json", "unet"))
    config = UNet2DConditionModel.load_config(base / "unet")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel.from_config(
            {
                **config,
                "block_out_channels": (32, 64),
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
                "layers_per_block": 1,
                "mid_block_type": "UNetMidBlock2D",
            }
        )
    unet.save_pretrained(folder / "unet")
    return folder

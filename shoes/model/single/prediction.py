"""What a checkpoint predicts, ε or v: said by its metadata, by the YAML beside it, or measured on its UNet.

Nothing in the shapes tells. Stable Diffusion 2 exists in both kinds, and the published files of either say nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shoes.model.single.header import Header

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel

Prediction = Literal["epsilon", "v_prediction"]
_SAID: Mapping[str, Mapping[str, Prediction]] = {
    "modelspec.prediction_type": {"epsilon": "epsilon", "v": "v_prediction", "v_prediction": "v_prediction"},
    "ss_v_parameterization": {"true": "v_prediction", "false": "epsilon"},
    "modelspec.architecture": {"stable-diffusion-v2-768-v": "v_prediction", "stable-diffusion-v2-512": "epsilon"},
    "ss_base_model_version": {"sd_v2_v": "v_prediction", "sd_v2": "epsilon"},
}
"""Fields of the metadata and what their values mean, in the order in which they are believed: Stability AI's ModelSpec
and kohya's sd-scripts."""
_MARK = "v_pred"
"""An empty tensor of this name says v."""
TIMESTEP = 500
"""Where the two targets differ most, and noise and picture both can be told."""
_SIDE, _TOKENS = 32, 77
_LEAST_EXPLAINED = 0.3
"""Of a target, 1 being all. The demo's model: 0.96 of its own, and none when its weights are random."""


@dataclass(frozen=True)
class Said:
    """What a checkpoint predicts, and how that is known."""

    prediction: Prediction
    source: str


def said(file: Path, header: Header) -> Said | None:
    """What the file itself says of it, or the YAML that goes with it; None when neither does."""
    for key, meanings in _SAID.items():
        if (found := meanings.get(header.metadata.get(key, "").strip().lower())) is not None:
            return Said(found, f"its metadata say so ({key})")
    if _MARK in header.tensors:
        return Said("v_prediction", f"its tensor {_MARK} says so")
    return _said_beside(file)


def _said_beside(file: Path) -> Said | None:
    """The training configuration of Stability AI's code that lies beside the file under its name."""
    import yaml

    for beside in (file.with_suffix(".yaml"), file.with_suffix(".yml")):
        try:
            content: Any = yaml.safe_load(beside.read_text(encoding="utf-8"))
            parameters = content["model"]["params"]
            is_v = parameters.get("parameterization", "eps") == "v"
        except FileNotFoundError:
            continue
        except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
            continue  # another program's file
        return Said("v_prediction" if is_v else "epsilon", f"{beside.name} beside it says so")
    return None


def measure(unet: "UNet2DConditionModel", latents: "torch.Tensor", alpha: float) -> Prediction | None:
    """What a trained UNet predicts: of which of the two its answer explains more; None for one that explains neither.

    At a timestep x = α·latents + σ·ε; ε is the one target, v = α·ε − σ·latents the other (Salimans and Ho, 2022,
    appendix D). A model that has learned either leaves little of it over, and one that has not leaves all.

    Args:
        unet: in fp32, on the CPU.
        latents: 1×4×H×W of a plain picture.
        alpha: square root of the noise schedule's cumulative α at timestep 500.
    """
    import torch

    generator, sigma = torch.Generator().manual_seed(0), math.sqrt(1 - alpha**2)
    noise = torch.randn(latents.shape, generator=generator)
    text = torch.randn(1, _TOKENS, unet.config.cross_attention_dim, generator=generator)
    with torch.no_grad():
        answer = unet(alpha * latents + sigma * noise, TIMESTEP, text).sample
    targets: dict[Prediction, torch.Tensor] = {"epsilon": noise, "v_prediction": alpha * noise - sigma * latents}
    explained = {
        name: 1 - float((answer - target).square().sum() / target.square().sum()) for name, target in targets.items()
    }
    best = max(explained, key=lambda name: explained[name])
    return best if explained[best] > _LEAST_EXPLAINED else None


def measured(folder: Path) -> Prediction | None:
    """What the UNet in a folder in diffusers' format predicts, measured on a picture of a dark disc on white."""
    import torch

    from shoes.model.load import load_noise_schedule, load_unet, load_vae

    vae = load_vae(folder, device="cpu")
    side = _SIDE * 2 ** (len(vae.config.block_out_channels) - 1)
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    disc = torch.sigmoid(20 * (0.5 - torch.hypot(x, y)))
    with torch.no_grad():
        encoded = vae.encode((1 - 1.2 * disc).expand(1, 3, side, side)).latent_dist.mean
    latents = encoded * vae.config.scaling_factor
    del vae
    alpha = math.sqrt(float(load_noise_schedule(folder).alphas_cumprod[TIMESTEP]))
    return measure(load_unet(folder, device="cpu", dtype=torch.float32), latents, alpha)

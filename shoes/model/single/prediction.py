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
_TIMESTEP, _SIDE = 500, 32
_LEAST_CORRELATION = 0.7


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


def measure(unet: "UNet2DConditionModel", alpha: float) -> Prediction | None:
    """What a trained UNet predicts, by one look at noise on a plain picture; None for one that predicts neither.

    With latents of 0, x = σ·ε at a timestep, and v = α·ε − σ·0. So a model of ε answers with 1·ε and a model of v with
    α·ε (Salimans and Ho, 2022, appendix D); one that has not learned answers with something else.

    Args:
        unet: in fp32, on the CPU.
        alpha: square root of the noise schedule's cumulative α at timestep 500.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, unet.config.in_channels, _SIDE, _SIDE, generator=generator)
    text = torch.randn(2, 77, unet.config.cross_attention_dim, generator=generator)
    with torch.no_grad():
        answer = unet(math.sqrt(1 - alpha**2) * noise, _TIMESTEP, text).sample
    correlation = float((answer * noise).sum() / (answer.norm() * noise.norm()))
    if not correlation > _LEAST_CORRELATION:
        return None
    slope = float((answer * noise).sum() / (noise * noise).sum())
    return "epsilon" if slope > (1 + alpha) / 2 else "v_prediction"


def measured(folder: Path) -> Prediction | None:
    """What the UNet in a folder in diffusers' format predicts."""
    import torch

    from shoes.model.load import load_noise_schedule, load_unet

    alpha = math.sqrt(float(load_noise_schedule(folder).alphas_cumprod[_TIMESTEP]))
    return measure(load_unet(folder, device="cpu", dtype=torch.float32), alpha)

"""Stable Diffusion's parts, built small and run on the device."""

from typing import TYPE_CHECKING, Any

from shoes.environment.check import Finding, Situation
from shoes.language import gettext as _

if TYPE_CHECKING:
    import torch

TOLERANCE = 2e-2
"""Relative to the largest value; fp32 with TF32 stays well below, a wrong kernel far above."""


def components(situation: Situation) -> Finding:
    """One forward pass each on the device: finite, and what the CPU computes."""
    import torch
    from transformers import CLIPTokenizer

    from shoes.model.load import quiet_libraries

    quiet_libraries()
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        errors = {
            "UNet2DConditionModel": device_error(_unet(), _unet_input(), situation.device),
            "AutoencoderKL": device_error(_vae(), {"sample": torch.randn(1, 3, 16, 16)}, situation.device),
            "CLIPTextModel": device_error(_text_encoder(), {"input_ids": torch.arange(8)[None]}, situation.device),
        }
    wrong = [name for name, error in errors.items() if not error < TOLERANCE]
    if wrong:
        detail = _("wrong or non-finite values on {device}: {names}")
        fix = _("train with --train.device cpu, and update PyTorch and the system")
        return Finding("ERROR", detail.format(device=situation.device, names=", ".join(wrong)), fix)
    detail = _("{names} ran on {device}; {tokenizer} available")
    names = ", ".join(errors)
    return Finding("OK", detail.format(names=names, device=situation.device, tokenizer=CLIPTokenizer.__name__))


def device_error(model: "torch.nn.Module", given: "dict[str, torch.Tensor]", device: str) -> float:
    """Largest error of a forward pass on the device, relative to the CPU's largest value; NaN where one is NaN."""
    expected = model(**given, return_dict=False)[0]
    found = model.to(device)(**{k: v.to(device) for k, v in given.items()}, return_dict=False)[0].cpu()
    return float((found - expected).abs().max() / expected.abs().max())


def _unet() -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=8,
        norm_num_groups=8,
    ).eval()


def _unet_input() -> "dict[str, torch.Tensor]":
    import torch

    return {
        "sample": torch.randn(1, 4, 8, 8),
        "timestep": torch.tensor([500]),
        "encoder_hidden_states": torch.randn(1, 8, 16),
    }


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
        sample_size=16,
    ).eval()


def _text_encoder() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=7,
    )
    return CLIPTextModel(config).eval()

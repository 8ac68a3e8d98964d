"""How pictures are drawn on a device: which of the recipe's options are applied, and why the others are refused."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from shoes.errors import ConfigurationError, Problem
from shoes.reports import Report
from shoes.spec import InferenceSpec

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, StableDiffusionPipeline

SMALL_PICTURE = 128
"""Side in pixels up to which a whole batch is decoded at once."""


class Inference(Report):
    """The options that are applied. The defaults are what every device can do at every size."""

    attention: Literal["sdpa", "sliced", "xformers"] = "sdpa"
    vae_slicing: bool = True
    vae_tiling: bool = False
    offload: Literal["none", "model"] = "none"
    reasons: Mapping[str, str] = {}
    """Why each is as it is."""


PLAIN = Inference()


def choose_inference(
    spec: InferenceSpec, device: str, *, resolution: int, has_xformers: bool | None = None
) -> Inference:
    """The options for a device (cpu, mps or cuda) and pictures of `resolution` pixels, each with its reason.

    Raises:
        ConfigurationError: options that this device can't do, or where they do harm; all of them.
    """
    refused = inference_problems(spec, device, has_xformers=has_xformers)
    if refused:
        raise ConfigurationError(list(refused.values()))
    slicing = resolution > SMALL_PICTURE if spec.vae_slicing == "auto" else spec.vae_slicing
    size = f"at {resolution} px one picture is as much as is decoded well at once"
    small = f"pictures of {resolution} px are small: a batch is decoded at once"
    reasons = {
        "attention": "asked for" if spec.attention != "auto" else "PyTorch's own is the fastest, and saves memory",
        "vae_slicing": "asked for" if spec.vae_slicing != "auto" else size if slicing else small,
        "vae_tiling": f"asked for: tiles of {resolution // 2} px" if spec.vae_tiling else "pictures stay exact",
        "offload": "asked for" if spec.offload != "none" else "every part stays on the device",
    }
    return Inference(
        attention="sdpa" if spec.attention == "auto" else spec.attention,
        vae_slicing=slicing,
        vae_tiling=spec.vae_tiling,
        offload=spec.offload,
        reasons=reasons,
    )


def inference_problems(spec: InferenceSpec, device: str, *, has_xformers: bool | None = None) -> dict[str, Problem]:
    """The options that are refused on a device, by their names."""
    found: dict[str, Problem] = {}
    where = "inference.attention"
    if spec.attention == "sliced" and device == "mps":
        text = (
            "sliced attention gives NaN and black pictures on MPS, even in fp32: it reads uninitialised memory "
            "through baddbmm (diffusers#11229, #14438)"
        )
        found["attention"] = Problem(where, text, "use auto; where memory is short, inference.vae_tiling true")
    if spec.attention == "xformers":
        is_here = installed("xformers") if has_xformers is None else has_xformers
        if device != "cuda":
            text = f"xformers computes on CUDA only, and this is {device}"
            found["attention"] = Problem(where, text, "use auto: PyTorch's own attention saves as much")
        elif not is_here:
            fix = "use auto, which saves as much; or `pip install xformers` in the build for this PyTorch"
            found["attention"] = Problem(where, "xformers is not installed", fix)
    if spec.offload == "model" and device != "cuda":
        shared = "on Apple Silicon CPU and GPU share one memory" if device == "mps" else "the model is in it already"
        text = f"offloading to the CPU's memory saves nothing on {device}: {shared}"
        found["offload"] = Problem("inference.offload", text, "use none")
    return found


def admissible(spec: InferenceSpec, device: str) -> tuple[InferenceSpec, list[str]]:
    """The options without those that are refused on a device, and why each of these is left out.

    For a device that was not the recipe's choice: a run that went on on the CPU, or another person's machine.
    """
    refused = inference_problems(spec, device)
    defaults = InferenceSpec()
    changes = {name: getattr(defaults, name) for name in refused}
    return spec.model_copy(update=changes), [f"{p.where} is left out: {p.what}" for p in refused.values()]


def vae_inference(spec: InferenceSpec, device: str, *, resolution: int) -> Inference:
    """The VAE's options alone: what may be applied around a UNet that is being trained."""
    vae = InferenceSpec(vae_slicing=spec.vae_slicing, vae_tiling=spec.vae_tiling)
    return choose_inference(vae, device, resolution=resolution)


def installed(package: str) -> bool:
    """A package can be imported."""
    from importlib.util import find_spec

    return find_spec(package) is not None


def apply_inference(pipeline: "StableDiffusionPipeline", inference: Inference, *, device: str, resolution: int) -> None:
    """Switch the options on in a pipeline whose parts are on `device`."""
    if inference.attention == "sliced":
        pipeline.enable_attention_slicing()
    elif inference.attention == "xformers":
        pipeline.enable_xformers_memory_efficient_attention()
    set_up_vae(pipeline.vae, inference, resolution=resolution)
    if inference.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)


def set_up_vae(vae: "AutoencoderKL", inference: Inference, *, resolution: int) -> None:
    """Switch the VAE's options on or off.

    diffusers' tiles have the size that the VAE was trained at, which for pictures of that size is one tile and
    saves nothing; ours are at most half a picture.
    """
    vae.use_slicing = inference.vae_slicing
    vae.use_tiling = inference.vae_tiling
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    tile = min(resolution // 2, vae.config.sample_size) // scale
    vae.tile_latent_min_size, vae.tile_sample_min_size = tile, tile * scale

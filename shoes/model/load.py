"""The model's parts in memory, from local safetensors files only."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoes.errors import ModelError
from shoes.model import configs
from shoes.model.contents.adapters import draw_with_all, require_applied
from shoes.model.contents.parts import TEXT_ENCODER, UNET, VAE, Part
from shoes.model.inference import PLAIN, Inference, apply_inference
from shoes.spec import SchedulerName

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer


_ADAPTER, _ADAPTER_NAME = "pytorch_lora_weights.safetensors", "default_0"
"""The file in a folder of an exported adapter, and what diffusers itself calls a first adapter."""


@dataclass(frozen=True)
class TextParts:
    """What turns captions into the UNet's conditioning."""

    tokenizer: "CLIPTokenizer"
    encoder: "CLIPTextModel"


def quiet_libraries() -> None:
    """Keep the libraries' own progress bars and advice out of ours.

    Their warnings go with them: what they only warn of when they load weights, `load_part` looks at.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()  # first: importing diffusers makes transformers talk
    transformers.utils.logging.disable_progress_bar()
    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()


def load_libraries() -> None:
    """Load every library class that training and drawing use: some hundred megabytes of code, whoever comes first."""
    quiet_libraries()
    import peft
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

    del peft, AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel, CLIPModel, CLIPTextModel, CLIPTokenizer


def load_part(path: Path, part: Part, dtype: "torch.dtype") -> Any:
    """A network of the model in `path`, on the CPU, frozen, in eval mode, every tensor of it from the files.

    Raises:
        ModelError: tensors are missing, left over or of another shape, or a file can't be read.
    """
    quiet_libraries()
    import diffusers
    import transformers

    network = getattr(diffusers if part.library == "diffusers" else transformers, part.network)
    options: dict[str, Any] = {
        "torch_dtype" if part.library == "diffusers" else "dtype": dtype,
        "subfolder": part.name,
        "variant": part.loaded_variant(part.files_in(path)),
        "use_safetensors": True,
        "local_files_only": True,
        "output_loading_info": True,
    }
    return _checked(path, part, lambda: network.from_pretrained(path, **options)).requires_grad_(False).eval()


def _checked(path: Path, part: Part, load: Callable[[], tuple[Any, dict[str, Any]]]) -> Any:
    """The network that `load` gives, when all that it needs was in the files."""
    from shoes.device import is_out_of_memory
    from shoes.model.contents.loading import lost, unloadable

    try:
        model, info = load()
    except Exception as error:  # the libraries' readers raise many classes, down to the bare one
        if is_out_of_memory(error):
            raise
        raise ModelError(unloadable(path, part, error)) from error
    if problems := lost(path, part, info, len(model.state_dict())):
        raise ModelError(problems)
    return model


def load_unet(path: Path, *, device: str, dtype: "torch.dtype") -> "UNet2DConditionModel":
    """The UNet, frozen, in eval mode."""
    unet: UNet2DConditionModel = load_part(path, UNET, dtype)
    return unet.to(device)


def load_vae(path: Path, *, device: str) -> "AutoencoderKL":
    """The VAE, frozen, in fp32: in fp16 it overflows (diffusers#7563)."""
    import torch

    vae: AutoencoderKL = load_part(path, VAE, torch.float32)
    return vae.to(device)


def load_text(path: Path, *, device: str) -> TextParts:
    """Tokenizer and text encoder, frozen, in fp32.

    The tokenizer cuts and pads to the encoder's places: not every published tokenizer says a length of its own.
    """
    import torch
    from transformers import CLIPTokenizer

    encoder: CLIPTextModel = load_part(path, TEXT_ENCODER, torch.float32)
    tokenizer = CLIPTokenizer.from_pretrained(path, subfolder="tokenizer", local_files_only=True)
    tokenizer.model_max_length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    return TextParts(tokenizer, encoder.to(device))


def load_pipeline(
    path: Path,
    *,
    device: str,
    dtype: "torch.dtype",
    scheduler: SchedulerName,
    adapter_dir: Path | None = None,
    inference: Inference = PLAIN,
    resolution: int = 512,
) -> "StableDiffusionPipeline":
    """A pipeline that draws, with an exported adapter if one is given.

    The VAE stays in fp32, whatever `dtype` the UNet is in.

    Args:
        inference: options that were chosen for `device`.
        resolution: side of the pictures in pixels; decides the VAE's tiles.
    """
    pipeline = assemble_pipeline(path, load_unet(path, device=device, dtype=dtype), scheduler, device=device)
    if adapter_dir is not None:
        pipeline.load_lora_weights(adapter_dir, weight_name=_ADAPTER, adapter_name=_ADAPTER_NAME)
        require_applied(pipeline, adapter_dir / _ADAPTER, _ADAPTER_NAME)
        draw_with_all(pipeline)
    apply_inference(pipeline, inference, device=device, resolution=resolution)
    return pipeline


def assemble_pipeline(
    path: Path, unet: "UNet2DConditionModel", scheduler: SchedulerName, *, device: str
) -> "StableDiffusionPipeline":
    """A pipeline around a UNet that is already in memory, with its adapter if it has one."""
    from diffusers import StableDiffusionPipeline

    text = load_text(path, device=device)
    pipeline = StableDiffusionPipeline(
        vae=load_vae(path, device=device),
        text_encoder=text.encoder.to(unet.dtype),  # the pipeline computes in its text encoder's precision
        tokenizer=text.tokenizer,
        unet=unet,
        scheduler=load_scheduler(path, scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_scheduler(path: Path, name: SchedulerName) -> Any:
    """A sampler by its usual name, with the model's own noise schedule.

    Published configs are of many schedulers. What one says of its own method is not taken where it is none of the
    sampler's: DEIS has an `algorithm_type`, too.
    """
    import diffusers

    classes = {
        "dpm-solver": diffusers.DPMSolverMultistepScheduler,
        "ddim": diffusers.DDIMScheduler,
        "euler": diffusers.EulerDiscreteScheduler,
        "pndm": diffusers.PNDMScheduler,
    }
    method = _dpm_solver_method(path) if name == "dpm-solver" else {}
    return classes[name].from_pretrained(path, subfolder="scheduler", local_files_only=True, **method)


def _dpm_solver_method(path: Path) -> dict[str, str]:
    """DPM-Solver++, where the config has another method, which can't end at a sigma of zero as ours does."""
    config = configs.read_config(path / "scheduler/scheduler_config.json", configs.DPM_SOLVER)
    is_plus = config["algorithm_type"] in ("dpmsolver++", "sde-dpmsolver++")
    return {} if is_plus or config["final_sigmas_type"] != "zero" else {"algorithm_type": "dpmsolver++"}


def scheduler_for(scheduler: Any, num_inference_steps: int) -> Any:
    """A sampler that draws in so few steps: the one that is given, or one like it.

    PNDM with a Runge-Kutta start needs four steps for it; with fewer it starts as PLMS does, and as Stable Diffusion's
    own configuration says. Euler's only step would be the schedule's last one, which takes no noise away: it is the
    first instead.
    """
    import diffusers

    config = scheduler.config
    if isinstance(scheduler, diffusers.PNDMScheduler) and not config.skip_prk_steps and num_inference_steps < 4:
        return diffusers.PNDMScheduler.from_config(config, skip_prk_steps=True)
    is_euler = isinstance(scheduler, diffusers.EulerDiscreteScheduler)
    if is_euler and config.timestep_spacing == "linspace" and num_inference_steps == 1:
        return diffusers.EulerDiscreteScheduler.from_config(config, timestep_spacing="trailing")
    return scheduler


def load_noise_schedule(path: Path) -> Any:
    """The DDPM noise schedule that the model was trained with."""
    from diffusers import DDPMScheduler

    return DDPMScheduler.from_pretrained(path, subfolder="scheduler", local_files_only=True)

"""How pictures are drawn, scored and compared, and what it takes to become the champion."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from shoes.spec.base import Fraction, Metric, SchedulerName, Spec
from shoes.spec.names import ModelName


class EvalSpec(Spec, title="Evaluation"):
    """How base and adapter are drawn, scored and compared."""

    clip_model_name_or_path: ModelName = "openai/clip-vit-base-patch32"
    """CLIP that scores the images; not the one inside the base model, which would be partly circular."""
    clip_revision: str | None = "c237dc49a33fc61debc9276459120b7eac67e7ef"
    """Commit of the CLIP model on the Hub: the first one that holds safetensors, main has only a pickle."""
    second_clip_model_name_or_path: ModelName | None = "openai/clip-vit-large-patch14"
    """A second opinion; none: there is none. This one is the base's own text encoder, and so partly circular."""
    second_clip_revision: str | None = "32bd64288804d66eefd0ccbe215aa642df71cc41"
    """Commit of the second CLIP model on the Hub."""
    dino_model_name_or_path: ModelName | None = "facebook/dinov2-base"
    """DINOv2, which compares pictures without words: likeness to the photo, diversity, memorisation; none: the CLIP
    that scores does it."""
    dino_revision: str | None = "f9e44c814b77203eaa57a6bdbbd535f21ede1415"
    """Commit of the DINOv2 model on the Hub."""
    num_images: Annotated[int, Field(ge=2)] | None = None
    """Test photos whose captions are drawn; nothing means all of the test split."""
    images_per_caption: Annotated[int, Field(ge=1)] = 2
    """Images drawn for each of these photos, with different seeds."""
    half_width: Annotated[float, Field(gt=0)] | None = None
    """Precision wanted of the CLIP difference, as half of its interval in points; decides num_images and
    images_per_caption in their place."""
    choice_images: Annotated[int, Field(ge=2)] = 64
    """Validation photos whose captions each shortlisted checkpoint draws, once, to choose one of them."""
    scheduler: SchedulerName = "dpm-solver"
    """Sampler, by its usual name."""
    num_inference_steps: Annotated[int, Field(ge=1)] = 25
    """Sampling steps per image."""
    guidance_scale: Annotated[float, Field(ge=0)] = 7.5
    """Classifier-free guidance."""
    negative_prompt: str = ""
    """What not to draw."""
    confidence_level: Fraction = 0.95
    """Level of all intervals."""
    num_resamples: Annotated[int, Field(ge=100)] = 5000
    """Bootstrap resamples of the captions."""
    seed: Annotated[int, Field(ge=0)] = 1234
    """First seed of the drawn images; the same for base and adapter."""


def _switch_or_auto(value: object) -> object:
    """A switch that may be `auto`: one message instead of one for each of the two types."""
    if value == "auto":
        return value
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError as error:
        raise ValueError("must be true, false or auto") from error


class GateSpec(Spec, title="Gate: what a champion must show"):
    """What an adapter must show to become the champion."""

    metric: Metric = "clip_score"
    """What is compared with the base and the champion: fidelity to the caption, or likeness to the real photo by CLIP
    or DINOv2."""
    min_difference: float = 0.0
    """The whole interval of that difference must lie above this, in points (100 × cosine)."""
    max_memorisation_z: Annotated[float, Field(gt=0)] = 3.0
    """The memorisation alarm fires when drawn pictures are closer to training photos than held-out photos are, by
    this many standard errors."""
    min_memorisation_p: Fraction = 0.001
    """It fires as well when too many of the closest pictures are drawn ones: at a probability below this."""


class InferenceSpec(Spec, title="Drawing with little memory"):
    """How pictures are drawn where memory is scarce: each option trades time, or exactness, for memory.

    `shoes model try --compare` measures what each saves and costs on this machine. None of them touches training.
    """

    attention: Literal["auto", "sdpa", "sliced", "xformers"] = "auto"
    """How the UNet's attention is computed; `auto` is sdpa, PyTorch's own, which is the fastest and needs little
    memory. sliced takes it in parts (refused on MPS, where it gives NaN); xformers needs CUDA and the package."""
    vae_slicing: bool | Literal["auto"] = "auto"
    """Decode a batch one picture at a time; `auto`: above 128 px, where a picture fills the device by itself."""
    vae_tiling: bool = False
    """Decode a picture in overlapping tiles of half its side: less memory, and slightly other pictures."""
    offload: Literal["none", "model"] = "none"
    """model: keep only the part at work (text encoder, UNet, VAE) on the GPU. CUDA only: elsewhere CPU and GPU
    share their memory and nothing is saved."""

    @field_validator("vae_slicing", mode="before")
    @classmethod
    def _slice_or_leave_it(cls, value: object) -> object:
        return _switch_or_auto(value)

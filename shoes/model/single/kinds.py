"""What else a safetensors file may be than a checkpoint that can be trained, told from its tensors' names and shapes.

Names of Stability AI's own code: `model.diffusion_model.` is the UNet, `first_stage_model.` the VAE,
`cond_stage_model.` the text encoder.
"""

from collections.abc import Callable, Iterator, Sequence

from shoes.errors import Problem
from shoes.model.architecture import OTHER_PIPELINES
from shoes.model.single.header import Header

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."
EMA = "model_ema."
FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}
"""Types of weights that are read; eight bits are widened to sixteen."""
EXAMPLE = "v1-5-pruned-emaonly.safetensors"
_FIX = f"Stable Diffusion 1.x and 2.x checkpoints are fine, for example {EXAMPLE}"
_WHOLE = "give a file that holds UNet, VAE and text encoder, or a folder in diffusers' format"
_ADAPTER = "give the checkpoint that it was made for; `shoes generate --adapter FILE` draws with a LoRA"
_ADAPTER_PARTS = ("lora_", ".lora", "hada_w", "lokr_w", "oft_diag", "dora_scale", "lycoris_")
_QUANTISED = (".scale_weight", "scaled_fp8", ".absmax", ".quant_state", ".quant_map", ".qweight", ".weight_scale")
_PREFIX_OF = {"UNet": f"{UNET}input_blocks.", "VAE": VAE, "text encoder": TEXT}
Test = Callable[[Header], bool]


def refusals(header: Header, where: str) -> list[Problem]:
    """Why a file can't be a base model: the one kind that it is, or all parts that it lacks. None when it can."""
    for is_kind, what, fix in _KINDS:
        if is_kind(header):
            return [Problem(where, what, fix)]
    lacking = [Problem(where, what, fix) for what, fix in _lacking(header)]
    return lacking or [Problem(where, what, _FIX) for what in _other_types(header)]


def _lacking(header: Header) -> Iterator[tuple[str, str]]:
    for part, prefix in _PREFIX_OF.items():
        if not header.has(prefix):
            yield f"holds no {part} (no tensor is named {prefix}…)", _WHOLE


def _other_types(header: Header) -> Iterator[str]:
    """Weights in types that nothing here computes with."""
    weights = [name for name in header.below(UNET, VAE, TEXT) if not name.endswith("position_ids")]
    found = sorted({header.tensors[name].dtype for name in weights} - FLOATS)
    if found:
        count = sum(header.tensors[name].dtype in found for name in weights)
        yield f"is quantised: {count} tensors are {', '.join(found)}, which can't be trained on"


def _named(*parts: str) -> Test:
    """A part of a name that occurs anywhere."""
    return lambda header: any(part in name for name in header.tensors for part in parts)


def _begins(*prefixes: str) -> Test:
    return lambda header: header.has(*prefixes)


def _only(*prefixes: str) -> Test:
    """There is such a name, and nothing of a checkpoint."""
    return lambda header: header.has(*prefixes) and not header.has(*_PREFIX_OF.values())


def _is_adapter(header: Header) -> bool:
    return _named(*_ADAPTER_PARTS)(header) and not header.has(f"{UNET}input_blocks.")


def _is_embedding(header: Header) -> bool:
    """One or two tables of vectors as long as a text encoder's."""
    shapes = [tensor.shape for tensor in header.tensors.values()]
    return 0 < len(shapes) <= 2 and all(1 <= len(s) <= 2 and s[-1] in {768, 1024, 1280} for s in shapes)


def _has_inputs(*channels: int) -> Test:
    return lambda header: header.shape(f"{UNET}input_blocks.0.0.weight")[1:2] in {(count,) for count in channels}


def _has_wide_context(header: Header) -> bool:
    """SDXL's UNet alone: its texts are 2,048 wide."""
    return any(name.endswith("attn2.to_k.weight") and t.shape[1:] == (2048,) for name, t in header.tensors.items())


def _is_other(start: str) -> str:
    return OTHER_PIPELINES[start]


_KINDS: Sequence[tuple[Test, str, str]] = (
    (lambda header: not header.tensors, "holds no tensors", _FIX),
    (_is_adapter, "is a LoRA or another adapter, not a model", _ADAPTER),
    (_is_embedding, "is a textual inversion: words for a text encoder, not a model", _FIX),
    (_named(*_QUANTISED), "is quantised, with scales beside its weights: it can't be trained on", _FIX),
    (_named("joint_blocks."), _is_other("StableDiffusion3"), _FIX),
    (_named("double_blocks.", "double_stream_blocks."), "is Flux or a relative of it, without a UNet", _FIX),
    (_begins("conditioner."), _is_other("StableDiffusionXL"), _FIX),
    (_has_wide_context, _is_other("StableDiffusionXL"), _FIX),
    (_named("motion_modules."), "is a motion module of AnimateDiff, not a model", _FIX),
    (_only("control_model.", "controlnet_cond_embedding.", "zero_convs."), "is a ControlNet, not a model", _FIX),
    (_only(EMA), "holds EMA weights only, under names that no program reads as a model", _WHOLE),
    (
        _only("down_blocks.", "up_blocks.", "mid_block.", "encoder.down_blocks.", "text_model.", "unet.", "vae."),
        "is one part of a model in diffusers' format",
        "give the folder that holds unet/, vae/, text_encoder/ and model_index.json",
    ),
    (_only("encoder.down.", "decoder.up."), "is a VAE, not a whole model", _WHOLE),
    (_only("input_blocks.", "middle_block."), "is a UNet, not a whole model", _WHOLE),
    (_has_inputs(9), _is_other("StableDiffusionInpaint"), _FIX),
    (_has_inputs(8), _is_other("StableDiffusionInstructPix2Pix"), _FIX),
    (_has_inputs(7), _is_other("StableDiffusionUpscale"), _FIX),
    (_has_inputs(5), _is_other("StableDiffusionDepth2Img"), _FIX),
    (_begins(f"{UNET}time_embed.cond_proj."), _is_other("LatentConsistencyModel"), _FIX),
    (_begins(f"{UNET}label_emb."), "takes a class or a picture as well as a caption (unCLIP)", _FIX),
    (
        lambda header: not header.has(f"{UNET}input_blocks.", VAE, TEXT),
        "is no Stable Diffusion 1.x or 2.x: none of its tensors has a name of theirs",
        _FIX,
    ),
)
"""Kinds of files by what tells them, in the order in which they are asked for."""

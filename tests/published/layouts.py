"""What published models have in their configs, as differences from those that are here as files.

Which fields a config has depends on the release of the library that wrote it, and no two are alike. Every value here is
from a published config; README.md says from which copy. A file that is not named is that of the model it is `like`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import shoes.model

SHIPPED = Path(shoes.model.__file__).parent / "published"
JUDGES = Path(__file__).parent / "configs"
LACKS = object()
"""In place of a field that the config does not have."""
Fields = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """A published model by what its configs have that those of another have not."""

    like: str
    changes: Mapping[str, Fields] = field(default_factory=dict)
    """Other fields by file; a field of a field stands behind a dot."""


def configs(name: str) -> dict[str, Fields]:
    """The configs of a model, by their POSIX paths in its folder."""
    layout = LAYOUTS.get(name)
    if layout is None:
        folder = SHIPPED / name if (SHIPPED / name).is_dir() else JUDGES / name
        files = sorted(file for file in folder.rglob("*.json") if file.name != "vocab.json")
        return {file.relative_to(folder).as_posix(): json.loads(file.read_text(encoding="utf-8")) for file in files}
    found = configs(layout.like)
    for file, fields in layout.changes.items():
        _change(found.setdefault(file, {}), fields)
    return found


def _change(config: Fields, fields: Fields) -> None:
    for path, value in fields.items():
        *parents, name = path.split(".") if not path.startswith("_") else [path]
        place = config
        for parent in parents:
            place = place[parent]
        if value is LACKS:
            del place[name]
        else:
            place[name] = value


INDEX, UNET, VAE, TEXT = "model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json"
SCHEDULER, TOKENIZER = "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"
SINCE_0_10: Fields = {
    "dual_cross_attention": False,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "upcast_attention": False,
    "use_linear_projection": False,
}
"""What diffusers 0.10 and 0.11 wrote of a UNet beside what 0.6 did."""
SOLVER: Fields = {
    "dynamic_thresholding_ratio": 0.995,
    "lower_order_final": True,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "solver_order": 2,
    "thresholding": False,
}
"""What multistep solvers have in common."""


def scheduler(kind: str, version: str, **fields: Any) -> dict[str, Fields]:
    return {
        INDEX: {"_diffusers_version": version, "scheduler": ["diffusers", kind]},
        SCHEDULER: {"_class_name": kind, "_diffusers_version": version, **fields},
    }


def written_by(version: str, *files: str, **fields: Any) -> dict[str, Fields]:
    return {file: {"_diffusers_version": version, **fields} for file in files}


BASES = {
    "CompVis/stable-diffusion-v1-4": Layout(
        "stable-diffusion-v1-5",
        {
            **written_by("0.2.2", INDEX, UNET),
            VAE: {"_diffusers_version": "0.2.2", "norm_num_groups": LACKS},
            TEXT: {"projection_dim": LACKS, "transformers_version": "4.23.1"},
            SCHEDULER: {
                "_diffusers_version": "0.2.2",
                "clip_sample": LACKS,
                "set_alpha_to_one": LACKS,
                "trained_betas": LACKS,
            },
        },
    ),
    "hakurei/waifu-diffusion": Layout(
        "stable-diffusion-v1-5",
        {
            **scheduler(
                "LMSDiscreteScheduler",
                "0.4.1",
                clip_sample=LACKS,
                set_alpha_to_one=LACKS,
                skip_prk_steps=LACKS,
                steps_offset=LACKS,
            ),
            UNET: {"_diffusers_version": "0.4.1", "sample_size": 32},
            VAE: {"_diffusers_version": "0.4.1", "sample_size": 256},
            TEXT: {
                "_name_or_path": "waifu-diffusion/text_encoder",
                "torch_dtype": "float16",
                "transformers_version": "4.22.2",
            },
        },
    ),
    "prompthero/openjourney": Layout(
        "stable-diffusion-v1-5",
        {**written_by("0.7.2", UNET, SCHEDULER), VAE: {"_diffusers_version": "0.7.2", "sample_size": 256}},
    ),
    "Guizmus/Tardisfusion": Layout(
        "stable-diffusion-v1-5",
        {
            INDEX: {
                "_diffusers_version": "0.7.0.dev0",
                "safety_checker": LACKS,
                "scheduler": ["diffusers", "DDIMScheduler"],
            },
            SCHEDULER: {"_class_name": "DDIMScheduler", "_diffusers_version": "0.7.0.dev0", "skip_prk_steps": LACKS},
            TEXT: {"transformers_version": "4.24.0"},
        },
    ),
    "gsdf/Counterfeit-V2.5": Layout(
        "stable-diffusion-v1-5",
        {
            UNET: {"_diffusers_version": "0.10.2", "sample_size": 32, **SINCE_0_10},
            TOKENIZER: {"name_or_path": "CompVis/stable-diffusion-v1-4"},
        },
    ),
    "dreamlike-art/dreamlike-diffusion-1.0": Layout(
        "stable-diffusion-v1-5",
        scheduler(
            "DPMSolverMultistepScheduler", "0.10.0", algorithm_type="dpmsolver++", solver_type="midpoint", **SOLVER
        ),
    ),
    "wavymulder/portraitplus": Layout(
        "stable-diffusion-v1-5",
        {
            INDEX: {"_diffusers_version": "0.11.0.dev0", "requires_safety_checker": True},
            SCHEDULER: {"_diffusers_version": "0.11.0.dev0", "prediction_type": "epsilon"},
            UNET: {"_diffusers_version": "0.11.0.dev0", **SINCE_0_10},
            VAE: {"_diffusers_version": "0.11.0.dev0", "scaling_factor": 0.18215},
        },
    ),
    "jartemio/The_Owl_Characters_V2": Layout(
        "stable-diffusion-v1-5",
        scheduler(
            "DDPMScheduler",
            "0.13.0",
            clip_sample_range=1.0,
            prediction_type="epsilon",
            skip_prk_steps=LACKS,
            variance_type="fixed_small",
        ),
    ),
    "johnowhitaker/rainbowdiffusion": Layout(
        "stable-diffusion-v1-5",
        scheduler(
            "UniPCMultistepScheduler",
            "0.14.0",
            disable_corrector=[],
            predict_x0=True,
            solver_p=None,
            solver_type="bh2",
            **SOLVER,
        ),
    ),
    "SG161222/Realistic_Vision_V5.1_noVAE": Layout(
        "stable-diffusion-v1-5",
        {
            INDEX: {"_diffusers_version": "0.21.2", "requires_safety_checker": True},
            SCHEDULER: {
                "_diffusers_version": "0.21.2",
                "prediction_type": "epsilon",
                "timestep_spacing": "leading",
            },
            TEXT: {"_name_or_path": LACKS, "torch_dtype": "float16", "transformers_version": "4.33.1"},
            VAE: {"_diffusers_version": "0.21.2", "force_upcast": True, "scaling_factor": 0.18215},
        },
    ),
    "Lykon/dreamshaper-8": Layout(
        "stable-diffusion-v1-5",
        {
            INDEX: {
                "_diffusers_version": "0.21.0.dev0",
                "_name_or_path": "lykon-models/dreamshaper-8",
                "requires_safety_checker": True,
                "scheduler": ["diffusers", "DEISMultistepScheduler"],
            },
            SCHEDULER: {
                "_class_name": "DEISMultistepScheduler",
                "_diffusers_version": "0.21.0.dev0",
                "algorithm_type": "deis",
                "solver_type": "logrho",
                "timestep_spacing": "leading",
                "use_karras_sigmas": False,
                **SOLVER,
            },
        },
    ),
    "scenario-labs/epiCRealism_Natural_Sin_RC1_VAE": Layout(
        "stable-diffusion-v1-5",
        scheduler(
            "DPMSolverMultistepScheduler",
            "0.27.2",
            algorithm_type="dpmsolver++",
            euler_at_final=False,
            final_sigmas_type="zero",
            lambda_min_clipped=float("-inf"),
            rescale_betas_zero_snr=False,
            skip_prk_steps=LACKS,
            solver_type="midpoint",
            timestep_spacing="linspace",
            use_karras_sigmas=True,
            use_lu_lambdas=False,
            variance_type=None,
            **SOLVER,
        ),
    ),
    "hsuwill000/AingDiffusion9.2": Layout(
        "stable-diffusion-v1-5",
        {
            **scheduler(
                "EulerDiscreteScheduler",
                "0.31.0",
                final_sigmas_type="zero",
                interpolation_type="linear",
                prediction_type="epsilon",
                rescale_betas_zero_snr=False,
                sigma_max=None,
                sigma_min=None,
                skip_prk_steps=LACKS,
                timestep_spacing="linspace",
                timestep_type="discrete",
                use_beta_sigmas=False,
                use_exponential_sigmas=False,
                use_karras_sigmas=False,
            ),
            TOKENIZER: {
                "added_tokens_decoder": {
                    number: {
                        "content": token,
                        "lstrip": False,
                        "normalized": True,
                        "rstrip": False,
                        "single_word": False,
                        "special": True,
                    }
                    for number, token in (("49406", "<|startoftext|>"), ("49407", "<|endoftext|>"))
                },
                "bos_token": "<|startoftext|>",
                "clean_up_tokenization_spaces": True,
                "eos_token": "<|endoftext|>",
                "name_or_path": LACKS,
                "special_tokens_map_file": LACKS,
                "unk_token": "<|endoftext|>",
            },
        },
    ),
    "stabilityai/stable-diffusion-2-1": Layout(
        "stable-diffusion-2-1-base",
        {
            INDEX: {"scheduler": ["diffusers", "DDIMScheduler"]},
            UNET: {"sample_size": 96, "upcast_attention": True},
            VAE: {"_diffusers_version": "0.9.0.dev0", "_name_or_path": "hf-models/stable-diffusion-v2-768x768/vae"},
            SCHEDULER: {
                "_class_name": "DDIMScheduler",
                "_diffusers_version": "0.9.0.dev0",
                "prediction_type": "v_prediction",
            },
        },
    ),
}
"""Base models of the community, by their names on the Hub."""

SMALL_TEXT: Fields = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "projection_dim": 512}
BASE_VISION: Fields = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "projection_dim": 512}
PUBLISHED_JUDGES = {
    "openai/clip-vit-base-patch32": Layout(
        "clip-vit-large-patch14",
        {
            "config.json": {
                "_name_or_path": "openai/clip-vit-base-patch32",
                "projection_dim": 512,
                "text_config_dict": None,
                "torch_dtype": LACKS,
                "vision_config_dict": None,
                "vision_config.num_hidden_layers": 12,
                "vision_config.patch_size": 32,
                **{f"text_config.{name}": value for name, value in SMALL_TEXT.items()},
                **{f"vision_config.{name}": value for name, value in BASE_VISION.items()},
            }
        },
    ),
    "openai/clip-vit-large-patch14": Layout("clip-vit-large-patch14"),
    "facebook/dinov2-base": Layout(
        "nothing",
        {
            "config.json": {
                "architectures": ["Dinov2Model"],
                "attention_probs_dropout_prob": 0.0,
                "drop_path_rate": 0.0,
                "hidden_act": "gelu",
                "hidden_dropout_prob": 0.0,
                "hidden_size": 768,
                "image_size": 518,
                "initializer_range": 0.02,
                "layer_norm_eps": 1e-06,
                "layerscale_value": 1.0,
                "mlp_ratio": 4,
                "model_type": "dinov2",
                "num_attention_heads": 12,
                "num_channels": 3,
                "num_hidden_layers": 12,
                "patch_size": 14,
                "qkv_bias": True,
                "torch_dtype": "float32",
                "transformers_version": "4.31.0.dev0",
                "use_swiglu_ffn": False,
            },
            "preprocessor_config.json": {
                "crop_size": {"height": 224, "width": 224},
                "do_center_crop": True,
                "do_convert_rgb": True,
                "do_normalize": True,
                "do_rescale": True,
                "do_resize": True,
                "image_mean": [0.485, 0.456, 0.406],
                "image_processor_type": "BitImageProcessor",
                "image_std": [0.229, 0.224, 0.225],
                "resample": 3,
                "rescale_factor": 0.00392156862745098,
                "size": {"shortest_edge": 256},
            },
        },
    ),
}
LAYOUTS = {**BASES, **PUBLISHED_JUDGES}
EVERY_BASE = ("stable-diffusion-v1-5", "stable-diffusion-2-1-base", *BASES)

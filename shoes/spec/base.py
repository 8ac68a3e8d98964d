"""What all specs share: frozen, checked when made, and the words that TOML lacks."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import ComputedFieldInfo, FieldInfo

Fraction = Annotated[float, Field(gt=0, lt=1)]
Precision = Literal["auto", "no", "fp16", "bf16"]
DeviceChoice = Literal["auto", "cpu", "mps", "cuda"]
Checkpointing = Literal["off", "attention", "full"]
Metric = Literal["clip_score", "clip_image_similarity", "dino_similarity"]
"""What a gate can compare."""
SchedulerName = Literal["dpm-solver", "ddim", "euler", "pndm"]


_WORDS = {
    "lr": "learning rate", "num": "number of", "dir": "folder", "val": "validation", "adam": "Adam", "lora": "LoRA",
    "loraplus": "LoRA+", "rslora": "rank-stabilised LoRA", "8bit": "8-bit", "ema": "EMA", "snr": "SNR", "clip": "CLIP",
    "dino": "DINOv2", "vae": "VAE", "beta1": "β₁", "beta2": "β₂", "epsilon": "ε", "gamma": "γ", "z": "z", "p": "p",
}  # fmt: skip
"""How parts of field names are written; others are words already."""


def title(name: str, field: FieldInfo | ComputedFieldInfo) -> str:
    """What a form calls a field: a section by its spec's title; lr_warmup_steps is Learning rate warmup steps."""
    of_section = getattr(getattr(field, "annotation", None), "model_config", {}).get("title")
    words = " ".join(_WORDS.get(part, part) for part in name.split("_"))
    return of_section or words[:1].upper() + words[1:]


class Spec(BaseModel):
    """A frozen value without unknown fields; the text below each field is its documentation."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        field_title_generator=title,
        protected_namespaces=(),
        allow_inf_nan=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, values: object) -> object:
        """TOML and flags have no null: the word `none` stands for it where a field may be empty."""
        if not isinstance(values, dict):
            return values
        return {k: None if cls._is_none(k, v) else v for k, v in values.items()}

    @classmethod
    def _is_none(cls, name: str, value: object) -> bool:
        field = cls.model_fields.get(name)
        may_be_empty = field is not None and type(None) in getattr(field.annotation, "__args__", ())
        return may_be_empty and isinstance(value, str) and value.lower() in {"none", "null", ""}

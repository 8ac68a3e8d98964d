"""The licence that an adapter inherits from its base model."""

from dataclasses import dataclass
from pathlib import PurePath, PureWindowsPath

from shoes.spec.names import is_path, names_weights

_HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Licence:
    """A licence as model cards name it."""

    id: str
    """The Hub's id; `other` where the base's licence is not known here."""
    name: str
    link: str | None
    """Where its text is."""
    restricts_use: bool = False
    """It has use restrictions that pass on to whatever is made of the model."""


OPENRAIL_M = Licence(
    "creativeml-openrail-m", "CreativeML OpenRAIL-M", f"{_HUB}/spaces/CompVis/stable-diffusion-license", True
)
OPENRAIL_PP_M = Licence(
    "openrail++",
    "CreativeML Open RAIL++-M",
    f"{_HUB}/stabilityai/stable-diffusion-2/blob/main/LICENSE-MODEL",
    True,
)
DEMO = Licence("other", "terms of the demo's assets", None)
"""data/demo/README.md says what they may be used for."""

_KNOWN = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": OPENRAIL_M,
    "compvis/stable-diffusion-v1-": OPENRAIL_M,
    "stabilityai/stable-diffusion-2": OPENRAIL_PP_M,
    "data/demo/model": DEMO,
}


def licence_of(base_model: str) -> Licence:
    """The licence of a base model, by its name on the Hub or its folder; `other` for one that is not known."""
    for beginning, licence in _KNOWN.items():
        if base_model.lower().startswith(beginning):
            return licence
    link = f"{_HUB}/{base_model}" if is_on_hub(base_model) else None
    return Licence("other", f"the licence of {public_name(base_model)}", link)


def is_on_hub(name: str) -> bool:
    """The name can only be a model id on the Hub: owner/name."""
    return not is_path(name)


def public_name(base_model: str) -> str:
    """A model's name without the folders of the machine that it is on."""
    is_place = PurePath(base_model).is_absolute() or base_model[:1] in "~." or names_weights(base_model)
    return PureWindowsPath(base_model).name if is_place else base_model  # takes slashes of both kinds

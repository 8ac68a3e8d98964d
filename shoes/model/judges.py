"""All models of a recipe, and what is done without the judges that can't be had."""

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from shoes.errors import ModelError, Problem, TransientError
from shoes.model.files import check, fetch, inspect, repair, require_path
from shoes.model.record import read_record, record_file
from shoes.model.wanted import Wanted, all_models, clip_files, further_judges, is_local, wanted_models
from shoes.reports import ModelCheck, ModelReport, ModelsReport
from shoes.settings import Settings
from shoes.spec import Recipe

log = logging.getLogger(__name__)
STAND_IN = "data/demo/clip"
"""The tiny CLIP that ships with the project."""
ROLES = {"base": "Base", "clip": "CLIP", "second_clip": "Second CLIP", "dino": "DINOv2"}
"""What a person calls them, by their names in `ModelsReport`."""
Done = TypeVar("Done")


def fetch_models(recipe: Recipe, settings: Settings) -> ModelsReport:
    """The base model and its judges, here and verified.

    A night does not wait for a judge: where the Hub is away, the demo's tiny CLIP stands in for the first one, and the
    others are left out. The report says so.

    Raises:
        ModelError, NotReady: as `files.fetch`.
        TransientError: the base model can't be had.
    """
    base, clip = wanted_models(recipe)
    found = {"base": fetch(base, settings)}
    stand_in, left_out = "", []
    try:
        found["clip"] = _or_away(clip, settings)
    except _Away as away:
        stand_in = f"{clip.name} could not be had ({away}), so the demo's tiny CLIP judges"
        found["clip"] = fetch(clip_files(STAND_IN, None), settings)
    for role, wanted in further_judges(recipe).items():
        try:
            found[role] = _or_away(wanted, settings)
        except _Away as away:
            left_out.append(f"{ROLES[role]} ({wanted.name}) could not be had and is left out: {away}")
    for line in (*([stand_in] if stand_in else []), *left_out):
        log.warning("%s", line)
    return ModelsReport(**found, stand_in=stand_in, left_out=tuple(left_out))


def repair_models(recipe: Recipe, settings: Settings) -> ModelsReport:
    """All models here and whole; what was downloaded and is damaged is downloaded again first. Nothing stands in."""
    models = _by_role(recipe)
    _all_of(models, lambda wanted: require_path(wanted, settings))
    return ModelsReport(**_all_of(models, lambda wanted: repair(wanted, settings)))


def _all_of(models: Mapping[str, Wanted], do: Callable[[Wanted], Done]) -> dict[str, Done]:
    """What was done with each model; what is wrong with any is said at once."""
    found: dict[str, Done] = {}
    problems: list[Problem] = []
    for role, wanted in models.items():
        try:
            found[role] = do(wanted)
        except ModelError as error:
            problems += error.problems
    if problems:
        raise ModelError(problems)
    return found


def check_models(recipe: Recipe, settings: Settings) -> dict[str, ModelCheck]:
    """Every file of every model as it is now, and its content, by its name in `ModelsReport`; nothing is downloaded."""
    return {role: inspect(check(model, settings), model, settings) for role, model in _by_role(recipe).items()}


def _by_role(recipe: Recipe) -> dict[str, Wanted]:
    """Every model of a recipe by its name in `ModelsReport`."""
    roles = ("base", "clip", *further_judges(recipe))
    return dict(zip(roles, all_models(recipe), strict=True))


class _Away(Exception):  # noqa: N818
    """A model of the Hub that is not here, and can't be had now."""


def _or_away(wanted: Wanted, settings: Settings) -> ModelReport:
    from huggingface_hub import constants

    try:
        return fetch(wanted, settings)
    except TransientError as error:
        raise _Away(str(error).partition(". ")[0]) from error
    except ModelError as error:
        is_here = is_local(wanted, settings) or read_record(record_file(wanted, settings)) is not None
        if is_here or not constants.HF_HUB_OFFLINE:
            raise
        raise _Away("it is not here, and HF_HUB_OFFLINE forbids to download it") from error

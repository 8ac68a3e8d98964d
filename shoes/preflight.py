"""What can be known to be wrong before any long work: all of it in one error."""

from pathlib import Path

from shoes import dataset
from shoes.dataset.own_splits import own_split_problems
from shoes.errors import ConfigurationError, DataError, Problem, ProblemsError
from shoes.model.architecture import layer_problems, target_problems
from shoes.model.contents.memory import only_in_memory
from shoes.model.files import fetch, is_local
from shoes.model.single import place as single
from shoes.model.single.conversion import require_plan
from shoes.model.single.parts import converted_shapes
from shoes.model.wanted import all_models, is_single_file
from shoes.settings import load_settings
from shoes.spec import Recipe


def preflight(recipe: Recipe) -> None:
    """Everything about a recipe that can be known to be wrong before any work: all of it at once.

    Raises:
        ConfigurationError: with the problems of the device, local models and data set together.
    """
    problems: list[Problem] = []
    for look in (_look_at_device, _look_at_inference, _look_at_models, _look_at_data):
        try:
            with only_in_memory():
                look(recipe)
        except ProblemsError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)


def _look_at_device(recipe: Recipe) -> None:
    """What the recipe wants of the device; its memory is limited before anything is put on it."""
    from shoes import device

    facts = device.measure()
    device.limit_memory(facts)
    device.decide(recipe.train, facts)


def _look_at_inference(recipe: Recipe) -> None:
    """Options for drawing that the device can't do."""
    from shoes.device import choose_device, measure
    from shoes.model.inference import choose_inference

    try:
        device = choose_device(recipe.train.device, measure()).value
    except ConfigurationError:
        return  # the device itself is the problem
    choose_inference(recipe.inference, device, resolution=recipe.train.resolution)


def _look_at_models(recipe: Recipe) -> None:
    """Models that are folders here; those on the Hub are fetched later."""
    settings = load_settings()
    base, *judges = all_models(recipe)
    if is_single_file(base, settings) and single.place_of(base, settings).source is None:
        _require_convertible(recipe, settings.locate(base.name))
    elif is_local(base, settings):
        require_targets(recipe, fetch(base, settings).path)
    for judge in judges:
        if is_local(judge, settings):
            fetch(judge, settings)


def _require_convertible(recipe: Recipe, file: Path) -> None:
    """A single file that is converted later, by what its header says."""
    header, plan = require_plan(file)
    if problems := layer_problems(converted_shapes(header, plan)["unet"], recipe.train.lora_target_modules):
        raise ConfigurationError(problems)


def _look_at_data(recipe: Recipe) -> None:
    """The splits that the recipe names, and the data set; where that is not there, its source."""
    problems = own_split_problems(recipe.train)
    try:
        _look_at_data_set(recipe)
    except ProblemsError as error:
        problems += error.problems
    if problems:
        raise DataError(problems)


def _look_at_data_set(recipe: Recipe) -> None:
    folder = load_settings().locate(recipe.data.dataset_dir)
    if recipe.data.source and not folder.exists():
        dataset.require_source(recipe.data.source)
    else:
        dataset.verify(folder, resolution=recipe.train.resolution)


def require_targets(recipe: Recipe, model: Path) -> None:
    """The layers that are to get an adapter are in the model, a folder in diffusers' format.

    Raises:
        ConfigurationError: with the layers that are not.
    """
    if problems := target_problems(model, recipe.train.lora_target_modules):
        raise ConfigurationError(problems)

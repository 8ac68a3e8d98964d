"""Which adapters are meant: the registered champion, the recipe's own training, or files."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shoes import dataset
from shoes.errors import ConfigurationError, ModelError, Problem, ProblemsError
from shoes.generation.formats import AdapterFile, find_adapter
from shoes.generation.request import CHAMPION, NONE, TRAINED
from shoes.publishing.champion import files_of
from shoes.publishing.export import is_exported
from shoes.reports import ModelReport
from shoes.settings import Settings
from shoes.spec import Recipe
from shoes.tracking.registry import Champion, Registry

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """One --adapter: a name or a path, and its weight."""

    source: str
    weight: float = 1.0


def parse_adapters(words: Sequence[str], settings: Settings) -> tuple[Wanted, ...]:
    """What --adapter says, each time it is given: SOURCE or SOURCE=WEIGHT; `none` alone means no adapter.

    Raises:
        ConfigurationError: with all that can't be understood.
    """
    wanted: list[Wanted] = []
    problems: list[Problem] = []
    for word in words:
        try:
            wanted.append(_parse(word, settings))
        except ConfigurationError as error:
            problems += error.problems
    if len(words) > 1 and any(one.source == NONE for one in wanted):
        problems.append(Problem("--adapter none", "stands beside other adapters", "leave it out, or the others"))
    if problems:
        raise ConfigurationError(problems)
    return tuple(one for one in wanted if one.source != NONE)


def _parse(word: str, settings: Settings) -> Wanted:
    source, has_weight, text = word.rpartition("=")
    if not has_weight or settings.locate(word).exists():  # a path may hold the sign itself
        source, text = word, "1"
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight) or not source:
        fix = "write for example --adapter champion=0.8"
        raise ConfigurationError([Problem(f"--adapter {word}", f"{text!r} is no weight", fix)])
    return Wanted(source, weight)


def resolve_adapters(
    wanted: Sequence[Wanted], recipe: Recipe, base: ModelReport, settings: Settings
) -> tuple[AdapterFile, ...]:
    """The adapters' files on this machine, for a base model.

    Raises:
        ModelError: some can't be had, or belong to another base model; with all of them.
        TrackingUnavailable: the champion is wanted, and MLflow does not answer.
    """
    found: list[AdapterFile] = []
    problems: list[Problem] = []
    for one in wanted:
        try:
            found.append(_resolve(one, recipe, base, settings))
        except ProblemsError as error:
            problems += error.problems
    if problems:
        raise ModelError(problems)
    return tuple(found)


def _resolve(one: Wanted, recipe: Recipe, base: ModelReport, settings: Settings) -> AdapterFile:
    if one.source == CHAMPION:
        return _champion(one, recipe, base, settings)
    if one.source == TRAINED:
        return _trained(one, recipe, base, settings)
    return find_adapter(settings.locate(one.source), weight=one.weight)


def _champion(one: Wanted, recipe: Recipe, base: ModelReport, settings: Settings) -> AdapterFile:
    model = recipe.publish.registered_model
    registry = Registry(settings.tracking_uri, model)
    champion = registry.champion() if has_store(settings) else None
    if champion is None:
        fix = (
            f"make one with `shoes run --recipe {recipe.name}`; or draw with the last training (--adapter trained) or "
            "with the base model (--adapter none)"
        )
        raise ModelError([Problem("--adapter champion", f"the registered model {model} has no champion yet", fix)])
    name = f"{model} version {champion.version}"
    if champion.base_fingerprint != base.fingerprint:
        what = (
            f"{name} was trained on another base model (fingerprint {champion.base_fingerprint[:16]}) than "
            f"{base.name} ({base.fingerprint[:16]})"
        )
        raise ModelError([Problem("--adapter champion", what, "draw with the recipe of its base, or --adapter none")])
    folder = _folder_of(champion, registry, settings)
    found = find_adapter(folder, name=name, weight=one.weight)
    if found.sha256 != champion.adapter_sha256:
        what = f"the files of {name} in {folder} have other bytes than those that were registered"
        raise ModelError([Problem("--adapter champion", what, f"remove {folder}: MLflow has a copy")])
    return found


def _folder_of(champion: Champion, registry: Registry, settings: Settings) -> Path:
    """Where its files are: on the machine that trained it where it was exported to, else a copy out of MLflow."""
    return files_of(champion, registry, settings.cache / "adapters") or champion.adapter_dir


def _trained(one: Wanted, recipe: Recipe, base: ModelReport, settings: Settings) -> AdapterFile:
    from shoes.training.run import finished, make_job

    data = dataset.verify(settings.locate(recipe.data.dataset_dir), resolution=recipe.train.resolution)
    job = make_job(recipe, base, data, runs=settings.runs, cache=settings.cache)
    report = finished(job)
    if report is None:
        what = f"the recipe {recipe.name} is not trained yet"
        fix = f"run `shoes train --recipe {recipe.name}` first, with the same options"
        raise ModelError([Problem("--adapter trained", what, fix)])
    return find_adapter(report.adapter_dir, name=f"trained {recipe.name}", weight=one.weight)


def known_adapters(recipe: Recipe, settings: Settings) -> list[Path]:
    """Folders of adapters that this machine knows: registered ones, and those of its trainings."""
    folders = Registry(settings.tracking_uri, recipe.publish.registered_model).folders() if has_store(settings) else []
    folders += sorted(path for path in settings.runs.glob("*/adapter") if is_exported(path))
    folders += sorted(path for path in settings.runs.glob("*/candidates/step-*") if is_exported(path))
    folders += sorted(path for path in settings.cache.glob("adapters/*/adapter") if is_exported(path))
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def has_store(settings: Settings) -> bool:
    """There is a tracking store to ask; asking a database that is not there yet would make it."""
    uri = settings.tracking_uri
    return not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).is_file()

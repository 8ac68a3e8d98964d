"""An adapter to publish, and what is known of it: found again from a recipe, or from the registered model."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shoes import dataset, recipes
from shoes.errors import ConfigurationError, DataError, ModelError, Problem
from shoes.evaluation.suite import REPORT, read_report
from shoes.model.files import fetch, is_local
from shoes.model.record import read_record, record_file
from shoes.model.wanted import wanted_models
from shoes.publishing.export import adapter_sha256, is_exported
from shoes.reports import DataReport, EvaluationReport, ModelReport, TrainReport
from shoes.settings import Settings
from shoes.spec import Recipe
from shoes.tracking.registry import Champion, Registry
from shoes.training.run import finished, make_job

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """An adapter with its history."""

    source: Literal["training", "champion"]
    recipe: Recipe
    """What it was trained with."""
    base: ModelReport
    data: DataReport | None
    """Nothing where the data set is not here any more as it was."""
    training: TrainReport
    evaluation: EvaluationReport | None
    """Nothing where it was not evaluated."""
    version: str | None = None
    """Of the registered model."""

    @property
    def adapter_dir(self) -> Path:
        """Its folder in the run."""
        return self.training.adapter_dir

    @property
    def adapter_sha256(self) -> str:
        """Its identity."""
        return self.training.adapter_sha256


def trained_adapter(recipe: Recipe, settings: Settings) -> Subject:
    """The adapter of a recipe's finished training. Nothing is downloaded or imported.

    Raises:
        ConfigurationError: there is none, with what to do first.
        ModelError, DataError: the base or the data set is not what it was.
    """
    base, data = _base(recipe, settings), _data(recipe, settings)
    training = finished(make_job(recipe, base, data, runs=settings.runs, cache=settings.cache))
    if training is None:
        fix = "run `shoes train` with the same recipe and options first"
        raise ConfigurationError([Problem(f"the recipe {recipe.name}", "is not trained yet", fix)])
    evaluation = latest_evaluation(training.run_dir, training.adapter_sha256)
    return Subject("training", recipe, base, data, training, evaluation)


def champion_adapter(recipe: Recipe, settings: Settings) -> Subject:
    """The adapter of the registered model's champion, with the recipe that it was trained with.

    Raises:
        ConfigurationError: there is none, or its files are gone.
        TrackingUnavailable: MLflow does not answer.
    """
    name = recipe.publish.registered_model
    champion = Registry(settings.tracking_uri, name).champion()
    if champion is None:
        fix = "`shoes run` promotes an adapter that is better than the base; without --champion the last one is taken"
        raise ConfigurationError([Problem(f"the registered model {name}", "has no champion", fix)])
    own, training = _kept_recipe(champion), _kept_report(champion)
    base = _base(own, settings)
    if base.fingerprint != champion.base_fingerprint:
        fix = "restore the files of the base that it was trained on"
        raise ConfigurationError([Problem(f"{base.path}", "is not the base that the champion belongs to", fix)])
    return Subject(
        source="champion",
        recipe=own,
        base=base,
        data=_data_as_it_was(own, base, training, settings),
        training=training,
        evaluation=latest_evaluation(training.run_dir, training.adapter_sha256),
        version=champion.version,
    )


def latest_evaluation(run_dir: Path, adapter: str) -> EvaluationReport | None:
    """The last whole evaluation of an adapter in its run's folder, with its paths where it lies now."""
    found = sorted(run_dir.glob(f"evaluation/*/{REPORT}"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in found:
        report = read_report(file.parent)
        if report is not None and report.adapter_sha256 == adapter:
            return report
    return None


def _base(recipe: Recipe, settings: Settings) -> ModelReport:
    wanted, _ = wanted_models(recipe)
    if not is_local(wanted, settings) and read_record(record_file(wanted, settings)) is None:
        fix = "run `shoes train` with the recipe first"
        raise ConfigurationError([Problem(wanted.name, "was never downloaded, so nothing is trained on it", fix)])
    return fetch(wanted, settings)


def _data(recipe: Recipe, settings: Settings) -> DataReport:
    return dataset.verify(settings.locate(recipe.data.dataset_dir), resolution=recipe.train.resolution)


def _data_as_it_was(recipe: Recipe, base: ModelReport, training: TrainReport, settings: Settings) -> DataReport | None:
    """The data set, if the training is still the one that it and the recipe name."""
    try:
        data = _data(recipe, settings)
    except (DataError, ModelError) as error:
        log.warning("the card says nothing of the data set: %s", error)
        return None
    job = make_job(recipe, base, data, runs=settings.runs, cache=settings.cache)
    if job.fingerprint != training.fingerprint:
        log.warning("the card says nothing of the data set: %s is not what the champion was trained on", data.path)
        return None
    return data


def _kept_recipe(champion: Champion) -> Recipe:
    file = champion.adapter_dir.parent / "spec.toml"
    if not file.is_file():
        raise ConfigurationError([_gone(champion, file)])
    return recipes.load(str(file))


def _kept_report(champion: Champion) -> TrainReport:
    """The report of the champion's training, with its paths where it lies now."""
    folder, file = champion.adapter_dir, champion.adapter_dir.parent / "report.json"
    is_here = file.is_file() and is_exported(folder) and adapter_sha256(folder) == champion.adapter_sha256
    if not is_here:
        raise ConfigurationError([_gone(champion, folder)])
    report = TrainReport.model_validate_json(file.read_bytes())
    return report.model_copy(update={"adapter_dir": folder, "run_dir": folder.parent})


def _gone(champion: Champion, place: Path) -> Problem:
    text = f"is not here any more as version {champion.version} was registered"
    return Problem(str(place), text, "restore the run's folder, or export on the machine that trained it")

"""The last stage: what the night did, in one report."""

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from shoes import stages, verdict
from shoes.environment.addresses import without_secrets
from shoes.forecast import outcome
from shoes.publishing import page
from shoes.publishing.page import nights
from shoes.reports import (
    DataReport,
    EnvironmentReport,
    EvaluationReport,
    ModelsReport,
    NightReport,
    PromotionReport,
    StageRun,
    StageTime,
    TrainReport,
)
from shoes.settings import Settings, load_settings
from shoes.spec import Recipe
from shoes.storage import pretty_json, write_text
from shoes.tracking.pages import RunPages

log = logging.getLogger(__name__)


def report(  # noqa: PLR0913 - what all stages found
    recipe: Recipe,
    environment: EnvironmentReport,
    models: ModelsReport,
    data: DataReport,
    training: TrainReport,
    evaluation: EvaluationReport,
    promotion: PromotionReport,
    *,
    timeline: Sequence[StageRun] = (),
) -> NightReport:
    """Put the stages' reports together, as a page and as night.json in the run's folder.

    A night that is told again, because all was done already, keeps its time and its timeline.

    Args:
        timeline: when each stage ran; none given: only how long each took is known.
    """
    settings = load_settings()
    pages = stages.pages(recipe, models, data)
    told = _told_before(recipe, training, evaluation, promotion)
    times = told.stages if told else _times(environment, models, data, training, evaluation, promotion)
    forecast = outcome.outcome(outcome.kept(training.run_dir), training)
    where = _where_to_look(settings, training, evaluation, promotion, pages)
    night = NightReport(
        recipe=recipe.name,
        verdict=verdict.sentence(evaluation, promotion),
        text=verdict.text(recipe, training, evaluation, promotion, times, where, forecast),
        promoted=promotion.promoted,
        run_id=pages.run_id if pages else None,
        experiment_id=pages.experiment_id if pages else None,
        tracking_uri=without_secrets(settings.tracking_uri),
        train=training,
        evaluation=evaluation,
        promotion=told.promotion if told else promotion,
        stages=times,
        forecast=forecast,
        finished=told.finished if told else datetime.now(UTC),
        page=training.run_dir / page.PAGE,
        timeline=(told.timeline if told else ()) or tuple(timeline) or _by_the_stages(times),
    )
    keep(night)
    _show(night, recipe, models, data)
    return night


def _told_before(
    recipe: Recipe, training: TrainReport, evaluation: EvaluationReport, promotion: PromotionReport
) -> NightReport | None:
    """The night as it is kept, if it came to the same."""
    kept = nights.kept(training.run_dir)
    if kept is None or (kept.recipe, kept.train, kept.promoted) != (recipe.name, training, promotion.promoted):
        return None
    return kept if kept.evaluation.fingerprint == evaluation.fingerprint else None


def _times(
    environment: EnvironmentReport,
    models: ModelsReport,
    data: DataReport,
    training: TrainReport,
    evaluation: EvaluationReport,
    promotion: PromotionReport,
) -> tuple[StageTime, ...]:
    said = outcome.kept(training.run_dir)
    seconds = {
        "verify-environment": environment.seconds,
        "fetch-model": models.seconds,
        "prepare-data": data.seconds,
        **({"forecast": said.measuring_seconds} if said else {}),
        "train-lora": training.seconds,
        **({"choose-checkpoint": training.choice.seconds} if training.choice else {}),
        **({"prove-export": training.proof.seconds} if training.proof else {}),
        "evaluate": evaluation.seconds,
        "promote": promotion.seconds,
    }
    return tuple(StageTime(name=name, seconds=value) for name, value in seconds.items())


def _show(night: NightReport, recipe: Recipe, models: ModelsReport, data: DataReport) -> None:
    """The page, here and in MLflow. A verdict is one without a page, too: `shoes report` makes it later."""
    try:
        stages.record_page(recipe, models, data, page.write(night))
    except OSError as error:
        log.warning("the report's page could not be written: %s; `shoes report` tries again", error)


def keep(night: NightReport) -> None:
    """Write night.json into the run's folder."""
    write_text(night.train.run_dir / nights.FILE, pretty_json(json.loads(night.model_dump_json())))


def _by_the_stages(times: Sequence[StageTime]) -> tuple[StageRun, ...]:
    """Without a clock: the stages in their order, and how long each took."""
    return tuple(
        StageRun(name=stage.name, started=None, ended=None, seconds=stage.seconds, state="Completed") for stage in times
    )


def _where_to_look(
    settings: Settings,
    training: TrainReport,
    evaluation: EvaluationReport,
    promotion: PromotionReport,
    pages: RunPages | None,
) -> list[str]:
    lines = [
        f"report    {training.run_dir / page.PAGE}",
        f"pictures  {evaluation.grid}",
        f"adapter   {training.adapter_dir}",
    ]
    if promotion.model_uri:
        lines.append(f"champion  {promotion.model_uri} (version {promotion.champion_version})")
    if pages is None:
        return [*lines, "MLflow was not reached: the journal is kept and is sent at the next run"]
    served = settings.tracking_uri.startswith("http")
    return [*lines, f"curves    {pages.run}", *([] if served else ["          while `shoes up` runs"])]

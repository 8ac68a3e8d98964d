"""The last stage: what the night did, in one report."""

import json
from datetime import UTC, datetime

from shoes import stages, verdict
from shoes.forecast import outcome
from shoes.reports import (
    DataReport,
    EnvironmentReport,
    EvaluationReport,
    ModelsReport,
    NightReport,
    PromotionReport,
    StageTime,
    TrainReport,
)
from shoes.settings import Settings, load_settings
from shoes.spec import Recipe
from shoes.storage import pretty_json, write_text


def report(
    recipe: Recipe,
    environment: EnvironmentReport,
    models: ModelsReport,
    data: DataReport,
    training: TrainReport,
    evaluation: EvaluationReport,
    promotion: PromotionReport,
) -> NightReport:
    """Put the stages' reports together and keep them in the run's folder."""
    settings = load_settings()
    run_id = stages.run_id(recipe, models, data)
    said = outcome.kept(training.run_dir)
    times = (
        StageTime(name="verify-environment", seconds=environment.seconds),
        StageTime(name="fetch-model", seconds=models.seconds),
        StageTime(name="prepare-data", seconds=data.seconds),
        *([StageTime(name="forecast", seconds=said.measuring_seconds)] if said else []),
        StageTime(name="train-lora", seconds=training.seconds),
        StageTime(name="evaluate", seconds=evaluation.seconds),
        StageTime(name="promote", seconds=promotion.seconds),
    )
    forecast = outcome.outcome(said, training)
    where = _where_to_look(recipe, settings, training, evaluation, promotion, run_id)
    night = NightReport(
        recipe=recipe.name,
        verdict=verdict.sentence(evaluation, promotion),
        text=verdict.text(recipe, training, evaluation, promotion, times, where, forecast),
        promoted=promotion.promoted,
        run_id=run_id,
        tracking_uri=settings.tracking_uri,
        train=training,
        evaluation=evaluation,
        promotion=promotion,
        stages=times,
        forecast=forecast,
        finished=datetime.now(UTC),
    )
    write_text(training.run_dir / "night.json", pretty_json(json.loads(night.model_dump_json())))
    return night


def _where_to_look(
    recipe: Recipe,
    settings: Settings,
    training: TrainReport,
    evaluation: EvaluationReport,
    promotion: PromotionReport,
    run_id: str | None,
) -> list[str]:
    lines = [f"pictures  {evaluation.grid}", f"adapter   {training.adapter_dir}"]
    if promotion.model_uri:
        lines.append(f"champion  {promotion.model_uri} (version {promotion.champion_version})")
    if run_id is None:
        lines.append("MLflow was not reached: the journal is kept and is sent at the next run")
    elif settings.tracking_uri.startswith("sqlite:"):
        lines.append(f"curves    run {run_id} of {recipe.publish.experiment}; to see it:")
        lines.append(f"          mlflow server --port 5001 --workers 1 --backend-store-uri {settings.tracking_uri}")
    else:
        lines.append(f"curves    run {run_id} of {recipe.publish.experiment} at {settings.tracking_uri}")
    return lines

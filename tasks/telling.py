"""Events that say how a night ended, which notifications wait for."""

from typing import Any

from prefect.events import emit_event

from shoes import verdict
from shoes.publishing.page import message
from shoes.reports import NightReport, PausedTraining
from shoes.settings import load_settings
from shoes.spec import Recipe
from tasks.links import flow_run_page

PROMOTED, REFUSED, PAUSED = "shoes.night.promoted", "shoes.night.refused", "shoes.night.paused"
"""The adapter is the champion now; it was not good enough; the training goes on another time."""


def tell_night(recipe: Recipe, night: NightReport) -> None:
    """Tell Prefect of a verdict, with all that a message needs."""
    viewer = load_settings().mlflow_url
    payload = {
        "title": message.subject(night),
        "text": message.body(night, viewer),
        "verdict": night.verdict,
        "promoted": night.promoted,
        "links": message.mlflow_links(night, viewer),
    }
    _emit(PROMOTED if night.promoted else REFUSED, recipe, night.train.fingerprint, payload)


def tell_pause(recipe: Recipe, training: PausedTraining) -> None:
    """Tell Prefect of a training that goes on another time."""
    payload = {"title": f"Paused: {recipe.title}", "text": verdict.paused_sentence(training), "step": training.step}
    _emit(PAUSED, recipe, training.fingerprint, payload)


def _emit(event: str, recipe: Recipe, fingerprint: str, payload: dict[str, Any]) -> None:
    """Leave an event for Prefect's own thread, which sends it. It names the flow run beside the night."""
    resource = {"prefect.resource.id": f"shoes.night.{fingerprint}", "prefect.resource.name": recipe.title}
    if page := flow_run_page():
        payload = payload | {"flow_run": page}
    emit_event(event, resource=resource, payload=payload)

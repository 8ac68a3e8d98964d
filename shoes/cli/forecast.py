"""What `shoes forecast` says; the command itself stands beside `shoes run`, whose process it forecasts."""

from typing import TYPE_CHECKING

from shoes.cli.command import Outcome

if TYPE_CHECKING:
    from shoes.spec import Recipe


def tonight(recipe: "Recipe") -> Outcome:
    """The forecast of a recipe; not good when the night does not fit."""
    from shoes import stages
    from shoes.forecast import text
    from shoes.preflight import preflight

    preflight(recipe)
    found = stages.forecast(recipe, stages.fetch_model(recipe), stages.prepare_data(recipe))
    if found is None:
        return Outcome("This training is done: tonight there is nothing left to train.", {"done": True})
    data = {"done": False, "fits": found.fits, **found.model_dump(mode="json")}
    return Outcome(text.text(found), data, is_good=found.fits)


def compare(recipe: "Recipe") -> Outcome:
    """All choices side by side; the best one is kept."""
    from shoes import stages
    from shoes.forecast import text
    from shoes.preflight import preflight

    preflight(recipe)
    found, night = stages.compare(recipe, stages.fetch_model(recipe), stages.prepare_data(recipe))
    return Outcome(text.comparison(found), {**found.model_dump(mode="json"), "forecast": night.model_dump(mode="json")})

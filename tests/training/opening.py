"""Sessions for tests, opened as the training opens them."""

from shoes import stages
from shoes.settings import load_settings
from shoes.spec import Recipe
from shoes.training import checkpoint
from shoes.training.run import Job, make_job, pin_decisions
from shoes.training.session import Session, open_session


def job_of(recipe: Recipe) -> Job:
    settings = load_settings()
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    return make_job(recipe, models.base, data, runs=settings.runs, cache=settings.cache)


def session_of(recipe: Recipe) -> Session:
    job = job_of(recipe)
    return open_session(job, pin_decisions(job), checkpoint.latest(job.checkpoints))


def train(recipe: Recipe):
    """The training stage by itself, with everything before it."""
    return stages.train(recipe, stages.fetch_model(recipe), stages.prepare_data(recipe))

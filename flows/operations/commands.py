"""`shoes up`, `shoes down` and `shoes status`."""

import json
import sys
from typing import TYPE_CHECKING

import click

from shoes.cli.command import JSON, Outcome, run

if TYPE_CHECKING:
    from shoes.servers.record import Running


@click.command(params=[JSON])
def up(as_json: bool) -> None:
    """Run everything in this terminal: Prefect's server and worker, the deployments, MLflow's pages.

    Each listens on 127.0.0.1, keeps its data below the data folder, and is started again when it dies. Ctrl-C stops
    all of it in order: what trains saves its state first. A server of a team is used instead of an own one when
    PREFECT_API_URL or MLFLOW_TRACKING_URI names it. With --json, one object is printed once all is ready.
    """
    run(as_json, lambda: _up(as_json))


def _up(as_json: bool) -> Outcome:
    from flows.operations.environment import prepare_prefect
    from shoes.settings import load_settings

    settings = load_settings()
    prepare_prefect()
    from flows.operations import text
    from flows.operations.up import run as run_all

    def tell(found: "Running") -> None:
        said = found.model_dump_json(indent=2) if as_json else text.ready(found, settings)
        click.echo(said)
        sys.stdout.flush()

    run_all(settings, tell)
    if as_json:  # the one object was printed when all was ready
        sys.exit(0)
    return Outcome("Everything has stopped.", {})


@click.command(params=[JSON])
def down(as_json: bool) -> None:
    """Stop `shoes up` in order, wherever it runs: what trains saves its state first."""
    run(as_json, _down)


def _down() -> Outcome:
    from shoes.servers.ending import stop
    from shoes.settings import load_settings

    stopped = stop(load_settings())
    text = f"Stopped: {', '.join(stopped)}." if stopped else "Nothing was running."
    return Outcome(text, {"stopped": stopped})


@click.command(params=[JSON])
def status(as_json: bool) -> None:
    """Say what runs: servers, worker, the training and how far it is, and the next nights.

    Exit code 1 if something that should run does not, or nothing does.
    """
    run(as_json, _status)


def _status() -> Outcome:
    from flows.operations.environment import prepare_prefect
    from shoes.settings import load_settings

    settings = load_settings()
    prepare_prefect()
    from flows.operations import text
    from flows.operations.state import look

    found = look(settings)
    return Outcome(text.status(found), json.loads(found.model_dump_json()), found.is_good)

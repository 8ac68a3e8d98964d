"""`shoes report`: open last night's page, and send its verdict."""

from pathlib import Path

import click

from shoes.cli import report as last
from shoes.cli.command import JSON, Outcome
from shoes.cli.command import run as run_command


@click.command(params=[JSON])
@click.option("--recipe", help="Of this recipe only: a shipped one or a TOML file. [the last night of any]")
@click.option("--open/--no-open", "opens", default=True, help="Open it in the browser. [with --json not]")
@click.option("--out", type=click.Path(path_type=Path), help="Copy the page, one file with all in it, to here.")
@click.option("--notify", "notify", multiple=True, metavar="TYPE/NAME", help="Send the verdict by a Prefect block.")
@click.option("--email", "emails", multiple=True, metavar="NAME", help="Short for --notify sendgrid-email/NAME.")
@click.option("--webhook", "webhooks", multiple=True, metavar="NAME", help="Short for --notify custom-webhook/NAME.")
def report(
    recipe: str | None,
    opens: bool,
    out: Path | None,
    notify: tuple[str, ...],
    emails: tuple[str, ...],
    webhooks: tuple[str, ...],
    as_json: bool,
) -> None:
    """Open last night's report in the browser, and print its verdict.

    --notify takes any notification block of Prefect, such as slack-webhook/team or ms-teams-webhook/shop, and may be
    repeated. Exit code 1 if no night has finished.
    """
    blocks = (*notify, *(f"sendgrid-email/{name}" for name in emails), *(f"custom-webhook/{name}" for name in webhooks))
    run_command(as_json, lambda: _report(recipe, out, blocks, opens=opens and not as_json))


def _report(recipe: str | None, out: Path | None, blocks: tuple[str, ...], *, opens: bool) -> Outcome:
    found = last.last_night(recipe)
    page = last.copy_page(found.page, out) if out else found.page
    if blocks:
        from flows.operations.environment import prepare_server

        prepare_server()
        from shoes.publishing.page import message
        from tasks.notifying import notify

        notify(blocks, message.subject(found.night), message.body(found.night))
    opened = opens and last.show(page)
    return last.outcome(found, page, opened=opened, notified=blocks)

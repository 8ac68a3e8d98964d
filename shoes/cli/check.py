"""`shoes check`: is this machine ready?"""

from typing import TYPE_CHECKING

import click

from shoes.cli.command import Outcome, RecipeCommand, run_with_recipe

if TYPE_CHECKING:
    from shoes.spec import Recipe


@click.command(cls=RecipeCommand)
@click.pass_context
def check(context: click.Context, recipe: str, as_json: bool) -> None:
    """Verify the environment: is this machine ready to train?

    Exit code 1 if something critical fails.
    """
    run_with_recipe(context, recipe, as_json, _check)


def _check(recipe: "Recipe") -> Outcome:
    import logging

    from shoes import environment
    from shoes.settings import load_settings

    logging.getLogger("shoes.environment").setLevel(logging.WARNING)  # the lines are the output here
    report = environment.verify(recipe, load_settings())
    lines = [f"[{c.status}] {c.name}: {c.detail}" + (f"\n       fix: {c.fix}" * bool(c.fix)) for c in report.checks]
    end = f"Ready for training on {report.device}." if report.ready else "Not ready: mend the lines marked ERROR."
    data = {"ready": report.ready, "checks": [c.model_dump() for c in report.checks]}
    return Outcome("\n".join([*lines, "", end]), data, report.ready)

"""`shoes generate`: pictures with an adapter."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shoes.cli.command import Outcome, RecipeCommand, run_with_recipe

if TYPE_CHECKING:
    from shoes.generation.request import Request
    from shoes.spec import Recipe


# Options have no type here: their values are checked together, so that one error names all that is wrong.
@click.command(cls=RecipeCommand)
@click.argument("prompts", nargs=-1, metavar="[PROMPT]...")
@click.option(
    "--prompts",
    "prompts_file",
    metavar="FILE",
    help='Prompts one a line, without blank lines and # comments; or .json, .jsonl with {"prompt", "seed"}.',
)
@click.option("--captions", metavar="SPLIT", help="Draw the captions of train, val or test of the recipe's data set.")
@click.option("--count", metavar="N", help="With --captions: so many of them, spread evenly. [all]")
@click.option(
    "--adapter",
    multiple=True,
    metavar="WHICH[=WEIGHT]",
    help="champion, trained (by this recipe), none, or a folder or .safetensors file of diffusers, PEFT or kohya; "
    "several are combined. [champion]",
)
@click.option("--seed", metavar="N", help="Of the first picture; each further one has the next. [the recipe's]")
@click.option("--images-per-prompt", metavar="N", help="Pictures of each prompt, with different seeds. [1]")
@click.option("--steps", metavar="N", help="Sampling steps. [the recipe's]")
@click.option("--guidance", metavar="X", help="Classifier-free guidance. [the recipe's]")
@click.option("--scheduler", metavar="NAME", help="dpm-solver, ddim, euler or pndm. [the recipe's]")
@click.option("--negative-prompt", metavar="TEXT", help="What not to draw. [the recipe's]")
@click.option("--batch", metavar="N", help="Pictures drawn at once. [the recipe's eval_batch_size]")
@click.option("--resolution", metavar="N", help="Side in pixels. [the recipe's]")
@click.option("--out", metavar="DIR", help="Folder of the pictures. [generated/<recipe>-… in the data folder]")
@click.option("--from", "image", metavar="IMAGE", help="Make a picture of this command again, from itself alone.")
@click.pass_context
def generate(context: click.Context, /, recipe: str, as_json: bool, **given: Any) -> None:
    """Draw pictures with the best adapter so far, or another one.

    Each picture says inside its PNG how it was made. An interrupted run goes on where it stopped: pictures that are
    there and whole are not drawn again. Pictures that were made otherwise are never mixed into one folder.

    Exit code 1 if a picture is blank or not finite even in fp32, or if --from does not give the same pixels.
    """
    asked = {name: value for name, value in given.items() if value not in (None, ())}
    run_with_recipe(context, recipe, as_json, lambda loaded: _generate(loaded, asked))


def _generate(recipe: "Recipe", asked: dict[str, Any]) -> Outcome:
    from shoes.generation.plan import understand
    from shoes.settings import load_settings

    request = understand(asked, recipe, load_settings())
    return _remake(recipe, request, request.image, asked) if request.image else _draw(recipe, request)


def _draw(recipe: "Recipe", request: "Request") -> Outcome:
    from shoes.generation import text
    from shoes.generation.run import generate as run

    report = run(recipe, request)
    data = {**report.model_dump(mode="json"), "good": report.is_good}
    return Outcome(text.generated(report), data, report.is_good)


def _remake(recipe: "Recipe", request: "Request", image: Path, asked: dict[str, Any]) -> Outcome:
    from shoes.generation import text
    from shoes.generation.remake import remake

    report = remake(recipe, image, request.out, asked.get("adapter", ()))
    data = {**report.model_dump(mode="json"), "good": report.is_good}
    return Outcome(text.remade(report), data, report.is_good)

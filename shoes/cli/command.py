"""What all commands share: the recipe and its overrides, --json, logging, exit codes.

Exit codes: 0 done, 1 the thing checked is not good or a stage failed, 2 bad usage, configuration or input,
130 interrupted with the state saved.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from shoes.spec import Recipe

INTERRUPTED = 130
_FIELDS = "shoes.fields"
"""Where options that are short for fields of the recipe are kept, with their values."""


@dataclass(frozen=True)
class Outcome:
    """What a command found: a text for people, an object for machines, and whether it is good."""

    text: str
    data: Any
    is_good: bool = True


class RecipeCommand(click.Command):
    """A command with --recipe, --json, and every field of the recipe as an option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["context_settings"] = {
            "ignore_unknown_options": True,
            "allow_extra_args": True,
            "max_content_width": 110,
        }
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(["--recipe"], default="demo", show_default=True, help="A shipped recipe or a TOML file.")
        )
        self.params.append(JSON)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the recipe's fields out first: click would take their values for arguments of the command."""
        fields, others = _split_fields(args)
        rest = super().parse_args(ctx, others)
        ctx.args = [*fields, *ctx.meta.get(_FIELDS, []), *ctx.args]
        return rest

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List every field, its meaning and its default."""
        del ctx
        from shoes import recipes

        for section, options in _by_section(recipes).items():
            title = f"Fields of [{section}]" if section else "Fields of the recipe"
            with formatter.section(f"{title}, and their values where a recipe says nothing"):
                formatter.write_dl(options)


class TrainingCommand(RecipeCommand):
    """A command that trains: it takes --devices, and `accelerate launch` may start it in several processes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--devices"],
                metavar="N",
                expose_value=False,
                callback=_keep_devices,
                help="Share each step among N processes, one per GPU; short for --train.devices.",
            )
        )


def _keep_devices(context: click.Context, option: click.Parameter, value: str | None) -> None:
    del option
    if value is not None:
        context.meta[_FIELDS] = ["--train.devices", value]


def _split_fields(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words that set fields of the recipe, which have a dot in their name, and all others."""
    fields: list[str] = []
    others: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        name, has_value, _ = word.partition("=")
        is_field = word.startswith("--") and "." in name
        (fields if is_field else others).append(word)
        if is_field and not has_value and left and not left[0].startswith("--"):
            fields.append(left.pop(0))
    return fields, others


JSON = click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object for machines.")


def _by_section(recipes: Any) -> dict[str, list[tuple[str, str]]]:
    sections: dict[str, list[tuple[str, str]]] = {}
    for name, field in recipes.fields().items():
        default = recipes.default_text(field)
        choices = recipes.choices(field)
        told = f" One of {', '.join(choices)}." if choices else ""
        text = f"{field.description}{told} [{default}]"
        sections.setdefault(name.rpartition(".")[0], []).append((f"--{name}", " ".join(text.split())))
    return sections


def run_with_recipe(context: click.Context, recipe: str, as_json: bool, body: Callable[["Recipe"], Outcome]) -> None:
    """Load the recipe with the overrides that stand behind the command, and run `body` with it."""

    def with_recipe() -> Outcome:
        from shoes import recipes

        loaded = recipes.load(recipe, overrides(context.args))
        if isinstance(context.command, TrainingCommand) and os.environ.get("RANK", "0") != "0":
            return _follow(loaded)
        return body(loaded)

    run(as_json, with_recipe)


def _follow(recipe: "Recipe") -> Outcome:
    """Started by `accelerate launch` beside the process of rank 0, which does everything but its share of the steps."""
    from shoes.device import choose_device, measure
    from shoes.training.workers import follow

    follow(choose_device(recipe.train.device, measure()).value)
    sys.exit(0)  # what is printed is for rank 0 to print


def run(as_json: bool, body: Callable[[], Outcome]) -> None:
    """Run a command's body, print what it found, and leave with the right code."""
    from shoes.errors import ConfigurationError, DataError, ModelError, ShoesError

    start_logging()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        outcome = body()
    except ShoesError as error:
        is_input = isinstance(error, ConfigurationError | DataError | ModelError)
        _fail(error, as_json, 2 if is_input else 1)
    except ImportError as error:
        _fail(ShoesError(f"A library can't be loaded: {error}. `shoes check` says what to install."), as_json, 1)
    except KeyboardInterrupt:
        click.echo("Interrupted. What was done is saved: the same command goes on from there.", err=True)
        sys.exit(INTERRUPTED)
    click.echo(json.dumps(outcome.data, indent=2, ensure_ascii=False) if as_json else outcome.text)
    sys.exit(0 if outcome.is_good else 1)


def _fail(error: Exception, as_json: bool, code: int) -> None:
    from shoes.errors import ProblemsError

    click.echo(click.style("error: ", fg="red", bold=True) + str(error), err=True)
    if as_json:
        problems = [p.__dict__ for p in error.problems] if isinstance(error, ProblemsError) else []
        click.echo(json.dumps({"error": str(error), "problems": problems}, indent=2, ensure_ascii=False))
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends a command as Ctrl-C does."""
    del number, frame
    raise KeyboardInterrupt


def overrides(arguments: Sequence[str]) -> dict[str, str]:
    """Dotted options with their values: `--train.rank 4` or `--train.rank=4`.

    Raises:
        ConfigurationError: words that are no options, or options without a value.
    """
    from shoes.errors import ConfigurationError, Problem

    found: dict[str, str] = {}
    problems: list[Problem] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        name, has_value, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            problems.append(Problem(word, "is not an option", "options begin with --, for example --train.rank 8"))
        elif has_value:
            found[name] = value
        elif not words or words[0].startswith("--"):
            problems.append(Problem(word, "has no value", f"write {word} VALUE"))
        else:
            found[name] = words.pop(0)
    if problems:
        raise ConfigurationError(problems)
    return found


def start_logging() -> None:
    """The library's messages on standard error, with the time of day."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("shoes")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False

"""What a person asks `shoes generate` for: one frozen value, checked when it is made."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shoes.errors import ConfigurationError, Problem
from shoes.spec import SchedulerName

MAX_SEED = 2**62
"""Seeds count up from the first one; this leaves room below PyTorch's limit of 2⁶³."""
Count = Annotated[int, Field(ge=1)]
SOURCES = {"prompts": "prompts on the line", "prompts_file": "--prompts", "captions": "--captions"}


class Request(BaseModel):
    """A wish for pictures. What is None is as the recipe says."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    prompts: tuple[str, ...] = ()
    prompts_file: Path | None = None
    """One prompt a line, or a list of {"prompt", "seed"} in JSON."""
    captions: Literal["train", "val", "test"] | None = None
    """The split whose unique captions are drawn."""
    count: Count | None = None
    """How many of them, spread evenly; None: all."""
    adapter: tuple[str, ...] = ("champion",)
    """champion, trained, none, or paths; each may end in =WEIGHT."""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    images_per_prompt: Count = 1
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    guidance: Annotated[float, Field(ge=0)] | None = None
    scheduler: SchedulerName | None = None
    negative_prompt: str | None = None
    batch: Count | None = None
    resolution: Annotated[int, Field(ge=64, le=2048, multiple_of=8)] | None = None
    out: Path | None = None
    image: Path | None = None
    """A picture to make again; then it says all the rest itself."""


CHAMPION, TRAINED, NONE = "champion", "trained", "none"
"""Adapters that have a name instead of a path."""
REMAKE_OPTIONS = {"image", "out", "adapter"}


def parse(given: Mapping[str, Any]) -> Request:
    """The request of the options that were given, by the names of its fields.

    Raises:
        ConfigurationError: with everything that is wrong with them.
    """
    problems = [*_stray_options(given.get("prompts", ())), *_source_problems(given)]
    try:
        request = Request.model_validate(given)
    except ValidationError as error:
        found = [_explain(e["loc"], e["msg"], e.get("input")) for e in error.errors()]
        raise ConfigurationError([*problems, *found]) from error
    if problems:
        raise ConfigurationError(problems)
    return request


def option(field: str) -> str:
    """A field's name on the command line."""
    special = {"prompts_file": "--prompts", "prompts": "PROMPT", "image": "--from"}
    return special.get(field, f"--{field.replace('_', '-')}")


def _stray_options(words: tuple[str, ...]) -> Iterator[Problem]:
    for word in words:
        if word.startswith("-"):
            yield Problem(word, "is not an option", "`shoes generate --help` lists them; a prompt begins otherwise")
        elif not word.strip():
            yield Problem("PROMPT", "is empty", "say what to draw")


def _source_problems(given: Mapping[str, Any]) -> Iterator[Problem]:
    sources = [words for name, words in SOURCES.items() if given.get(name)]
    if given.get("image"):
        if others := [option(name) for name in given if name not in REMAKE_OPTIONS]:
            fix = "leave them out; only --out and --adapter (where to find the files) go with it"
            yield Problem("--from", f"takes everything from the picture, not from {', '.join(others)}", fix)
        for name in {CHAMPION, TRAINED, NONE}.intersection(given.get("adapter", ())):
            fix = "leave it out: those of this machine are found; give the file or folder of any other"
            yield Problem(f"--adapter {name}", "means nothing beside --from", fix)
        return
    if not sources:
        fix = 'give a prompt ("a red canvas shoe"), --prompts FILE, --captions test, or --from IMAGE.png'
        yield Problem("prompts", "there is nothing to draw", fix)
    if len(sources) > 1:
        yield Problem("prompts", f"come from {' and '.join(sources)} at once", "give one of them")
    if given.get("count") and not given.get("captions"):
        yield Problem("--count", "says how many captions of a split to draw", "give --captions test with it")


def _explain(where: tuple[str | int, ...], message: str, value: Any) -> Problem:
    name = option(str(where[0]))
    return Problem(name, f"{message.removeprefix('Value error, ')} (given: {value!r})", f"correct {name}")

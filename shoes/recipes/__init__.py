"""Named recipes, and how one is put together from its layers.

Layers, the later winning: defaults of the specs, `SHOES_TRAIN__…` variables and `.env`, the recipe's TOML
file (after the one that it `extends`), flags with dotted names.
"""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from shoes.errors import ConfigurationError, Problem
from shoes.settings import section_variables
from shoes.spec import Recipe
from shoes.spec.names import is_address, without_secrets

FOLDER = Path(__file__).parent
Layer = dict[str, Any]


def names() -> tuple[str, ...]:
    """Recipes that ship with the project."""
    return tuple(sorted(file.stem for file in FOLDER.glob("[!.]*.toml")))


def load(name_or_file: str = "overnight", overrides: Mapping[str, str] | None = None) -> Recipe:
    """A checked recipe.

    Args:
        name_or_file: a shipped name, or the path of a TOML file.
        overrides: dotted field names to values as text, for example {"train.learning_rate": "5e-5"}.

    Raises:
        ConfigurationError: with all the problems of all layers, each with its fix.
    """
    problems: list[Problem] = []
    layer = _from_text(section_variables(), "variable", problems)
    layer = merge(layer, _read(name_or_file, problems))
    layer = merge(layer, _from_text(dict(overrides or {}), "flag", problems))
    try:
        recipe = Recipe.model_validate(layer)
    except ValidationError as error:
        raise ConfigurationError([*problems, *explain(error)]) from error
    if problems:
        raise ConfigurationError(problems)
    return recipe


def fields(model: type[BaseModel] = Recipe, prefix: str = "") -> dict[str, FieldInfo]:
    """Every field of a recipe by its dotted name."""
    found: dict[str, FieldInfo] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= fields(field.annotation, f"{prefix}{name}.")
        else:
            found[prefix + name] = field
    return found


def merge(below: Layer, above: Layer) -> Layer:
    """`above` laid over `below`, table by table."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def explain(error: ValidationError) -> list[Problem]:
    """Pydantic's findings as problems that name the field and the fix."""
    return [_explain_one(e["loc"], e["type"], e["msg"], e.get("input")) for e in error.errors()]


def _explain_one(loc: tuple[str | int, ...], kind: str, message: str, value: Any) -> Problem:
    where = ".".join(str(part) for part in loc) or "recipe"
    if kind == "extra_forbidden":
        return Problem(where, "there is no such field", _nearest(where))
    text = message.removeprefix("Value error, ")
    given = "" if isinstance(value, dict | BaseModel) or value is None else f" (given: {_shown(value)!r})"
    field = fields().get(where)
    if field is None:
        return Problem(where, text + given, "correct the fields that it names")
    return Problem(where, text + given, f"for example {default_text(field)}: {field.description}")


def _shown(value: Any) -> Any:
    """A value as it is told: addresses of models may hold a token."""
    return without_secrets(value) if isinstance(value, str) and is_address(value) else value


def default_text(field: FieldInfo) -> str:
    """A field's default as one would write it."""
    value = field.get_default(call_default_factory=True)
    return "none" if value is None else ",".join(value) if isinstance(value, tuple) else str(value)


def choices(field: FieldInfo) -> tuple[str, ...]:
    """The words that a field takes, where it takes only some."""
    kinds = get_args(field.annotation) if get_origin(field.annotation) is not Literal else (field.annotation,)
    words = [str(word) for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if bool in kinds:
        words = ["true", "false", *words]
    return tuple(words)


def _nearest(where: str) -> str:
    known = fields()
    by_leaf = [name for name in known if name.rpartition(".")[2] == where.rpartition(".")[2]]
    close = by_leaf or difflib.get_close_matches(where, known, n=1, cutoff=0.75)
    return f"did you mean {close[0]}?" if close else "`shoes run --help` lists all fields"


def _read(name_or_file: str, problems: list[Problem], seen: tuple[Path, ...] = ()) -> Layer:
    """A TOML file over the one that it extends."""
    file = FOLDER / f"{name_or_file}.toml"
    if not file.is_file():
        file = Path(name_or_file).expanduser().absolute()
    if file in seen:
        problems.append(Problem(str(file), "extends itself", "remove `extends` from one of the files"))
        return {}
    layer = _parse(file, name_or_file, problems)
    below = layer.pop("extends", None)
    if below is None:
        return layer
    beside = file.parent / str(below)
    base = str(beside) if beside.is_file() else str(below)
    return merge(_read(base, problems, (*seen, file)), layer)


def _parse(file: Path, asked: str, problems: list[Problem]) -> Layer:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        close = difflib.get_close_matches(asked, names(), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        fix = f"{hint}shipped recipes: {', '.join(names())}; or give the path of a TOML file"
        problems.append(Problem("recipe", f"there is no recipe {asked!r}", fix))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problems.append(Problem(str(file), f"can't be read: {error}", "make it a valid TOML file"))
    return {}


def _from_text(values: dict[str, str], source: str, problems: list[Problem]) -> Layer:
    """Dotted names with text values as a layer; lists are given with commas."""
    layer: Layer = {}
    known = fields()
    for name, text in values.items():
        parent = name.rpartition(".")[0]
        if name in known:
            layer = merge(layer, _nest(name, _value(text, known[name])))
        elif parent in known and get_origin(known[parent].annotation) is dict:
            layer = merge(layer, _nest(name, text))
        else:
            problems.append(Problem(_spelled(name, source), "there is no such field", _nearest(name)))
    return layer


def _spelled(name: str, source: str) -> str:
    return f"--{name}" if source == "flag" else f"SHOES_{name.upper().replace('.', '__')}"


def _nest(name: str, value: Any) -> Layer:
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def _value(text: str, field: FieldInfo) -> Any:
    """Text as the field wants it; pydantic makes numbers, booleans and none of text by itself."""
    if get_origin(field.annotation) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text

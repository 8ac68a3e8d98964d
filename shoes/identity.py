"""What names a result: the fields of what it was made of, apart from those that did not exist yet when it was made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True)
class Later:
    """Marks a field that is newer than results which people have: `use_dora: Annotated[bool, Later(before=False)]`.

    A result is named by the fingerprint of its whole spec. Without this mark a new field would rename every result:
    a paused training would begin anew.
    """

    before: Any
    """The value that says what was done when there was no such field. At this value the field is no part of the
    identity, whatever its default becomes."""


def identity(value: Any) -> Any:
    """A model as the JSON that names it, at any depth: without each later field that has the value from before it."""
    if isinstance(value, BaseModel):
        known = value.model_dump(mode="json")
        for name, field in type(value).model_fields.items():
            found = getattr(value, name)
            if any(isinstance(mark, Later) and mark.before == found for mark in field.metadata):
                del known[name]
            elif name in known and _holds_models(found):
                known[name] = identity(found)
        return known
    if isinstance(value, Mapping):
        return {key: identity(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [identity(item) for item in value]
    return value


def _holds_models(value: Any) -> bool:
    """Anything else is already JSON by the model's own rules."""
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else (value,)
    return any(isinstance(item, BaseModel) for item in items)

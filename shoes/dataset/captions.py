"""Captions: a template filled with what is known of a product. Light, because `shoes.spec` imports it."""

import re
from collections.abc import Mapping
from string import Formatter

PLACEHOLDERS = ("article", "colour", "gender", "name", "season", "usage", "year")
"""What a template may ask for: the attributes of a product."""

_UNKNOWN = {"", "-", "?", "na", "n/a", "nan", "none", "null", "unknown"}
_SAID_OTHERWISE = {"multi": "multicolored"}


def check_template(template: str) -> str:
    """Return the template, or raise ValueError that names what is wrong and the known placeholders."""
    known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    if not template.strip():
        raise ValueError(f"a caption template can't be empty; write a sentence, known placeholders: {known}")
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(
            f"the caption template has an unpaired brace ({error}); known placeholders: {known}"
        ) from error
    for _, name, format_spec, conversion in parts:
        if name is not None and name not in PLACEHOLDERS:
            raise ValueError(f"unknown placeholder {{{name}}} in the caption template; known ones: {known}")
        if format_spec or conversion:
            raise ValueError(f"{{{name}}} in the caption template takes no format; known placeholders: {known}")
    return template


def is_known(value: str) -> bool:
    """Whether a catalogue's value says anything: not empty, "NA" or the like."""
    return value.strip().casefold() not in _UNKNOWN


def render(template: str, attributes: Mapping[str, str]) -> str:
    """Fill a checked template with a product's attributes, in lower case except for its name.

    A phrase between commas that is only about unknown values is left out; elsewhere an unknown value's
    word is.
    """
    words = {name: _word(name, attributes.get(name, "")) for name in PLACEHOLDERS}
    first, *others = template.split(",")
    phrases = [first, *(phrase for phrase in others if _says_something(phrase, words))]
    filled = (_tidy(phrase.format(**words)) for phrase in phrases)
    return ", ".join(phrase for phrase in filled if phrase) or "A product photo"


def _word(name: str, value: str) -> str:
    if not is_known(value):
        return ""
    text = " ".join(value.split())
    return text if name == "name" else _SAID_OTHERWISE.get(text.lower(), text.lower())


def _says_something(phrase: str, words: Mapping[str, str]) -> bool:
    asked = [name for _, name, _, _ in Formatter().parse(phrase) if name is not None]
    return not asked or any(words[name] for name in asked)


def _tidy(phrase: str) -> str:
    return re.sub(r"\s+([.;:!?)])", r"\1", " ".join(phrase.split()))

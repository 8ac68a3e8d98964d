"""The language of what people read: English in the source, Portuguese from the catalogue in `shoes/locale`.

A text is looked up when it is used, in the language of the context that asks (`use`); the default is English,
so logs, MLflow and JSON stay English. Write

    from shoes.language import gettext as _

    _("{free} GB free at {place}").format(free=number(free), place=place)

and never an f-string inside `_()`: the placeholders are part of the text that is translated. Where a text is
only named at import, mark it for the translators with `mark` and look it up later. After a change run
`make translations`.
"""

import gettext as catalogues
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, get_args

Language = Literal["en", "pt"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)
FOLDER = Path(__file__).parent / "locale"
DOMAIN = "shoes"

_current: ContextVar[Language] = ContextVar("language", default="en")


def gettext(text: str) -> str:
    """The text in the language in use; the text itself where it has no translation."""
    return _catalogue(_current.get()).gettext(text)


def ngettext(one: str, many: str, count: int) -> str:
    """`one` or `many`, as the language in use counts."""
    return _catalogue(_current.get()).ngettext(one, many, count)


def mark(text: str) -> str:
    """Put a text into the catalogue and return it unchanged: `gettext` looks it up where it is shown."""
    return text


def number(value: float, digits: int = 1) -> str:
    """A number with so many decimals, with a comma where the language writes one: 1,234.5 or 1.234,5."""
    text = f"{value:,.{digits}f}"
    return text.translate(str.maketrans(",.", ".,")) if _current.get() == "pt" else text


@contextmanager
def use(language: Language) -> Iterator[None]:
    """Use a language in this context; a thread takes part when it runs in a copy of the context."""
    token = _current.set(language)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Language:
    """The language in use."""
    return _current.get()


def parse(name: str) -> Language | None:
    """The language that a name stands for, such as `pt`, `pt_BR.UTF-8` or `en-US`; None for all others."""
    stem = name.replace("-", "_").partition(".")[0].partition("_")[0].lower()
    return next((language for language in LANGUAGES if language == stem), None)


def from_locale(environment: Mapping[str, str] = os.environ) -> Language:
    """The language of the person's locale, by the first of LC_ALL, LC_MESSAGES and LANG that is set."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environment.get(name):
            return parse(value) or "en"
    return "en"


@lru_cache
def _catalogue(language: Language) -> catalogues.NullTranslations:
    names = {"en": (), "pt": ("pt_BR",)}[language]
    return catalogues.translation(DOMAIN, FOLDER, languages=names, fallback=not names)

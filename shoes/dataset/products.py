"""A product with a photo, wherever the photo is."""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from shoes.dataset.captions import is_known
from shoes.errors import Problem

if TYPE_CHECKING:
    from PIL.Image import Image

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True)
class Product:
    """One product: its id, its attributes (gender, colour, season, …) and a way to its photo."""

    id: str
    """Letters, digits, - and _; the photo's file name in the data set."""
    attributes: Mapping[str, str]
    """colour decides the stratum; the others go into captions.json and may be asked for by the template."""
    load: Callable[[], "Image"] = field(repr=False)
    """Decode the photo; may raise what `photos.DAMAGE` lists, then the photo counts as damaged."""
    origin: str = ""
    """Where the photo is, for people; nothing means the id."""
    caption: str | None = None
    """Its own caption; nothing means that the template makes one of the attributes."""
    digest: Callable[[], str] | None = field(default=None, repr=False)
    """SHA-256 of the photo's bytes; without it an interrupted import does this photo again."""


@dataclass(frozen=True)
class Holdings:
    """What a source holds: the products that were asked for, and what happened when it was read."""

    products: tuple[Product, ...]
    provenance: dict[str, Any]
    """For the manifest: JSON without clocks and absolute paths."""
    notes: tuple[str, ...] = ()
    """For people."""
    listings: Mapping[str, str] = field(default_factory=dict)
    """Text files to put beside the data set, by name."""


def is_id(text: str) -> bool:
    """Whether a product id can be a file name on every system."""
    return _ID.fullmatch(text) is not None


def ids_of(paths: Iterable[str]) -> dict[str, str]:
    """An id for each photo by its path: the file's name made safe, with its folders where two share it.

    The same paths give the same ids, in whatever order they come.
    """
    paths = sorted(paths)
    short = {path: _slug(PurePosixPath(path).stem) for path in paths}
    taken = Counter(name.casefold() for name in short.values())
    ids = {
        path: name if taken[name.casefold()] == 1 else _slug(str(PurePosixPath(path).with_suffix("")))
        for path, name in short.items()
    }
    taken = Counter(name.casefold() for name in ids.values())
    return {path: name if name and taken[name.casefold()] == 1 else _unique(path, name) for path, name in ids.items()}


def printable(path: str) -> str:
    """A file's name as text of one line, whatever bytes it is made of."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def colours_of(products: Sequence[Product]) -> dict[str, str]:
    """Each product's colour by its id; all ways of not knowing it are one colour, "unknown"."""
    colours = {product.id: product.attributes.get("colour", "").strip() for product in products}
    return {name: colour if is_known(colour) else "unknown" for name, colour in colours.items()}


def identity_problems(products: Sequence[Product]) -> list[Problem]:
    """Ids that can't be file names, or that two products share (upper and lower case are one on a Mac)."""
    seen: set[str] = set()
    problems = []
    for product in products:
        if not is_id(product.id):
            problems.append(
                Problem(f"product {product.id!r}", "its id can't be a file name", "use letters, digits, - and _")
            )
        elif product.id.casefold() in seen:
            problems.append(
                Problem(f"product {product.id}", "two products have this id", "give each product its own id")
            )
        seen.add(product.id.casefold())
    return problems


def _slug(text: str) -> str:
    """Letters without their accents, digits, - and _: a name that every file system takes; may be empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_]+", "-", plain).strip("-_")[:80].rstrip("-_")


def _unique(path: str, name: str) -> str:
    mark = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    return f"{name or 'photo'}-{mark}"

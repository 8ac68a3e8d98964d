"""A product with a photo, wherever the photo is."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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


def is_id(text: str) -> bool:
    """Whether a product id can be a file name on every system."""
    return _ID.fullmatch(text) is not None


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

"""The downloaded catalogue: its products that have a photo, their captions, and small square photos."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shoes.dataset import photos as pictures
from shoes.dataset import render
from shoes.dataset.styles import STYLES, attributes, read_styles

CASUAL_SHOES = "Casual Shoes"
TEMPLATE = (
    "A professional product photo of {colour} {article}, {season} collection, {gender}, centered on white background"
)
"""What `shoes` says of casual shoes by default, for every article."""
OTHER_TEMPLATES = (
    "a photo of {colour} {article}",
    "{colour} {article} for {gender}, white background",
    "product photography of {colour} {article}, {season} collection, high quality",
    "{article}",
)
"""Less formal ways to say the same, so that the text encoder is not bound to one sentence."""
TEMPLATES = (TEMPLATE, *OTHER_TEMPLATES)
EXTRA_WORDS = "blurry low quality dark text watermark modern design clean studio leather canvas sneakers"
"""Words that people put into prompts; without them they would be spelt letter by letter."""


@dataclass(frozen=True)
class Item:
    """A product with a photo, its values as the catalogue writes them."""

    id: str
    colour: str
    article: str
    season: str
    gender: str

    def caption(self, template: str = TEMPLATE) -> str:
        """The item in words, as `shoes` would say it."""
        return render(template, self.attributes())

    def attributes(self) -> dict[str, str]:
        """What a data set keeps of it."""
        return {
            "article": self.article,
            "colour": self.colour,
            "season": self.season,
            "gender": self.gender,
        }


def read_items(catalogue: Path) -> list[Item]:
    """The products of styles.csv that have a photo, in the order of their numbers."""
    with_photo = {path.stem for path in (catalogue / "images").glob("*.jpg")}
    rows = [row for row in read_styles(catalogue / STYLES).rows if row["id"] in with_photo]
    return sorted((_item(row["id"], attributes(row)) for row in rows), key=lambda i: (len(i.id), i.id))


def _item(name: str, values: dict[str, str]) -> Item:
    return Item(name, values["colour"], values["article"], values["season"], values["gender"])


def split_off_casual_shoes(items: list[Item]) -> tuple[list[Item], list[Item]]:
    """Everything else, and the casual shoes: the first is what the base model may see."""
    others = [item for item in items if item.article != CASUAL_SHOES]
    return others, [item for item in items if item.article == CASUAL_SHOES]


def read_photos(catalogue: Path, items: list[Item], resolution: int) -> tuple[list[Item], np.ndarray]:
    """The items whose photo can be read, and their photos as uint8 [n, resolution, resolution, 3]."""
    readable, squares = [], []
    for item in items:
        try:
            photo = pictures.read_photo(catalogue / "images" / f"{item.id}.jpg")
            squares.append(np.asarray(pictures.square(photo, resolution)))
        except pictures.DAMAGE:
            continue
        readable.append(item)
    return readable, np.stack(squares)

"""Sample photos of a data set, by colour. Imports Pillow: import it where pictures are made."""

import base64
import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from shoes.dataset.description import Tally, colour_of
from shoes.dataset.records import Record

PER_COLOUR = 8
THUMBNAIL = 128
_LABEL_WIDTH, _GAP = 190, 6


@dataclass(frozen=True)
class Row:
    """A few photos of one colour."""

    tally: Tally
    images: tuple[Path, ...]


def rows_by_colour(records: Iterable[Record], colours: Sequence[Tally]) -> list[Row]:
    """For each colour the same few photos every time, as if drawn by lot."""
    by_colour: defaultdict[str, list[Path]] = defaultdict(list)
    for record in records:
        by_colour[colour_of(record)].append(record.image)
    return [Row(tally, tuple(sorted(by_colour[tally.value], key=_lot)[:PER_COLOUR])) for tally in colours]


def thumbnail(path: Path, side: int = THUMBNAIL) -> Image.Image:
    """A photo of the data set, small."""
    with Image.open(path) as image:
        return image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)


def data_uri(image: Image.Image) -> str:
    """A picture as an address that holds it."""
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()


def grid(rows: Sequence[Row]) -> Image.Image:
    """One picture of all rows, each with its colour and number in front."""
    step = THUMBNAIL + _GAP
    sheet = Image.new("RGB", (_LABEL_WIDTH + PER_COLOUR * step + _GAP, max(1, len(rows)) * step + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(18), ImageFont.load_default(14)
    for number, row in enumerate(rows):
        top = _GAP + number * step
        pen.text((2 * _GAP, top + THUMBNAIL // 2 - 20), _fitted(pen, row.tally.value, large), "#1c1c1a", font=large)
        pen.text((2 * _GAP, top + THUMBNAIL // 2 + 4), f"{row.tally.total:,}", "#6b6a64", font=small)
        for column, path in enumerate(row.images):
            sheet.paste(thumbnail(path), (_LABEL_WIDTH + column * step, top))
    return sheet


def _lot(path: Path) -> str:
    return hashlib.sha256(path.stem.encode()).hexdigest()


def _fitted(pen: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """The text, or as much of it as fits into the label."""
    room = _LABEL_WIDTH - 3 * _GAP
    if pen.textlength(text, font=font) <= room:
        return text
    while text and pen.textlength(text + "…", font=font) > room:
        text = text[:-1]
    return text + "…"

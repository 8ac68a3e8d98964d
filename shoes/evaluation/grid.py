"""The picture that a person opens in the morning: rows are captions, columns who drew them."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

CELL = 176
"""Side of each picture as shown, in pixels."""
_GAP, _MARGIN, _LABEL_WIDTH = 12, 32, 190
_INK, _GREY, _LINE, _PAPER = "#1a1a1a", "#757575", "#e4e4e4", "#ffffff"
_TITLE, _TEXT, _SMALL = 19, 17, 14  # font sizes in pixels
_WORTH_CUTTING = 3
"""Words that captions must share at one end for a label to leave them out: "step 100" keeps its "step"."""


@dataclass(frozen=True)
class Row:
    """One caption and what each column shows for it."""

    label: str
    images: "Sequence[Image]"


def comparison_grid(titles: Sequence[str], rows: Sequence[Row], note: str = "") -> "Image":
    """A table of pictures on white: column titles above, labels at the left, a note below.

    Pictures are scaled to squares of `CELL` pixels. A label may hold several lines; long ones are wrapped.
    """
    from PIL import Image, ImageDraw

    top, left = _MARGIN + _TITLE + _GAP + 6, _MARGIN + _LABEL_WIDTH + _GAP
    width = left + len(titles) * (CELL + _GAP) - _GAP + _MARGIN
    bottom = top + len(rows) * (CELL + _GAP) - _GAP
    footer = _SMALL + 2 * _GAP if note else 0
    sheet = Image.new("RGB", (width, bottom + footer + _MARGIN), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        centre = left + column * (CELL + _GAP) + CELL // 2
        pen.text((centre, _MARGIN), title, fill=_INK, font=font(_TITLE), anchor="ma")
    for number, row in enumerate(rows):
        y = top + number * (CELL + _GAP)
        _write_label(pen, row.label, y)
        for column, image in enumerate(row.images):
            _place(sheet, pen, image, (left + column * (CELL + _GAP), y))
    if note:
        pen.text((_MARGIN, bottom + 2 * _GAP), note, fill=_GREY, font=font(_SMALL), anchor="la")
    return sheet


def base_and_now(base: "Sequence[Image]", now: "Sequence[Image]", prompts: Sequence[str], step: int) -> "Image":
    """The trainer's validation samples: for each prompt the base's picture beside the one at a step.

    The picture has the same size at every step. Prompts are shortened by `short_labels`.
    """
    rows = [Row(label, pair) for label, *pair in zip(short_labels(prompts), base, now, strict=True)]
    return comparison_grid(["base", f"step {step:,}"], rows)


def sample_grid(images: "Sequence[Image]", titles: Sequence[str], *, columns: int = 4) -> "Image":
    """Captioned pictures, `columns` a row, each with its title below.

    Titles are shortened by `short_labels`.
    """
    from PIL import Image, ImageDraw

    assert images, "nothing to show"
    assert len(images) == len(titles), "one title per image"
    columns = min(columns, len(images))
    lines = [_wrap(title, CELL, font(_SMALL)) for title in short_labels(titles)]
    line_height = _SMALL + 4
    height = CELL + _GAP + max(map(len, lines)) * line_height + _GAP
    num_rows = -(-len(images) // columns)
    size = (2 * _MARGIN + columns * (CELL + _GAP) - _GAP, 2 * _MARGIN + num_rows * height - _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (image, text) in enumerate(zip(images, lines, strict=True)):
        x, y = _MARGIN + number % columns * (CELL + _GAP), _MARGIN + number // columns * height
        _place(sheet, pen, image, (x, y))
        for index, line in enumerate(text):
            place = (x + CELL // 2, y + CELL + _GAP + index * line_height)
            pen.text(place, line, fill=_GREY, font=font(_SMALL), anchor="ma")
    return sheet


def short_labels(captions: Sequence[str]) -> list[str]:
    """Captions without the three or more words that all of them begin, or end, with.

    One caption alone, or equal ones, are kept as they are.
    """
    if len(set(captions)) < 2:
        return list(captions)
    words = [caption.split() for caption in captions]
    start = _shared(words)
    rests = [caption[start:] for caption in words]
    end = _shared([rest[::-1] for rest in rests])
    cut = [" ".join(rest[: len(rest) - end]).strip(" ,;") for rest in rests]
    return [short or caption for short, caption in zip(cut, captions, strict=True)]


def _shared(captions: Sequence[Sequence[str]]) -> int:
    """How many words all captions begin with, if they are worth cutting."""
    count = sum(1 for _ in takewhile(lambda words: len(set(words)) == 1, zip(*captions, strict=False)))
    return count if count >= _WORTH_CUTTING else 0


def pick_rows(captions: Sequence[str], count: int) -> list[int]:
    """Indices of up to `count` different captions, spread evenly over all of them in sorted order."""
    first = {caption: index for index, caption in reversed(list(enumerate(captions)))}
    different = sorted(first)
    count = min(count, len(different))
    return [first[different[(2 * k + 1) * len(different) // (2 * count)]] for k in range(count)]


def _place(sheet: "Image", pen: "ImageDraw", image: "Image", corner: tuple[int, int]) -> None:
    from PIL.Image import Resampling

    scaled = image.convert("RGB").resize((CELL, CELL), Resampling.LANCZOS)
    sheet.paste(scaled, corner)
    # Catalogue photos are white to the edge: a hairline shows where each one ends.
    x, y = corner
    pen.rectangle((x, y, x + CELL - 1, y + CELL - 1), outline=_LINE)


def _write_label(pen: "ImageDraw", label: str, y: int) -> None:
    """The label's lines beside a row, centred on it, as many as it is high; the first part is darker."""
    lines: list[tuple[str, str]] = []
    for number, part in enumerate(label.split("\n")):
        lines += [(line, _GREY if number else _INK) for line in _wrap(part, _LABEL_WIDTH, font(_TEXT))]
    height = _TEXT + 7
    if len(lines) > CELL // height:
        lines = lines[: CELL // height]
        lines[-1] = (f"{lines[-1][0]} …", lines[-1][1])
    start = y + (CELL - len(lines) * height) // 2
    for index, (line, colour) in enumerate(lines):
        place = (_MARGIN, start + index * height + height // 2)
        pen.text(place, line, fill=colour, font=font(_TEXT), anchor="lm")


def _wrap(text: str, width: int, font: "FreeTypeFont") -> list[str]:
    # Pillow's own font has no accented letters: café is written cafe rather than with an empty box.
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    lines = [""]
    for word in plain.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def font(size: int) -> "FreeTypeFont":
    """Pillow's own font; the size in pixels."""
    from PIL.ImageFont import FreeTypeFont, load_default

    loaded = load_default(size)
    assert isinstance(loaded, FreeTypeFont), "Pillow was built without FreeType"
    return loaded

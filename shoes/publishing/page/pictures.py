"""Pictures inside the page, as data URIs."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from shoes.evaluation.pictures import open_picture

_QUALITY, _QUALITY_SMALL = 85, 95
_SMALL = 256
"""Up to this side a picture is shown enlarged, where losses show, and saves next to nothing."""


@dataclass(frozen=True)
class Picture:
    """A picture in full resolution; `uri` is empty where its file is gone."""

    title: str
    alt: str
    uri: str
    note: str = ""
    width: int = 0
    height: int = 0


def inline(path: Path, title: str, alt: str, note: str = "") -> Picture:
    """The picture of a file; a missing or damaged one becomes a gap that says so."""
    try:
        image = open_picture(path)
    except OSError:
        return Picture(title, alt, "", "the picture is gone")
    return Picture(
        title, alt, data_uri(_jpeg(path, _QUALITY if max(image.size) > _SMALL else _QUALITY_SMALL)), note, *image.size
    )


def data_uri(jpeg: bytes) -> str:
    """A JPEG as an address that holds all of it."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def within(path: Path, num_bytes: int) -> str | None:
    """The picture as a data URI of at most so many bytes, made smaller where needed; None where it is gone.

    Raises:
        ValueError: not even a thumbnail is that small.
    """
    try:
        image = open_picture(path)
    except OSError:
        return None
    for side in (max(image.size), 1200, 900, 640, 400, 200, 64):
        uri = data_uri(_jpeg(path, 80, side))
        if len(uri) <= num_bytes:
            return uri
    raise ValueError(f"{path} can't be shown in {num_bytes} bytes")


def _jpeg(path: Path, quality: int, side: int | None = None) -> bytes:
    image = open_picture(path)
    if side is not None:
        image.thumbnail((side, side))
    with io.BytesIO() as file:
        halved = 2 if max(image.size) > _SMALL else 0
        image.save(file, "JPEG", quality=quality, subsampling=halved, optimize=True)
        return file.getvalue()

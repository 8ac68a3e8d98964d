"""Product photos as RGB squares. Imports Pillow and NumPy: import it where a photo is handled."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"}
)
"""File names that are photos, in lower case."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
"""What is decoded, whatever the suffix says; formats that start other programs (EPS) are not. MPO is JPEG's."""

DAMAGE = (
    OSError,  # unknown formats, truncated data
    SyntaxError,  # broken PNG and TIFF structures
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow raises for photos that can't be decoded."""

MAX_PIXELS = 90_000_000
"""Photos with more are refused: about Pillow's own limit, which would only warn, and 270 MB decoded."""

MIN_SIDE = 16
"""Photos with a shorter side are no product photos."""


def reason(error: BaseException) -> str:
    """What is wrong with a photo, without the path that Pillow and the system put into some messages."""
    if isinstance(error, UnidentifiedImageError):
        return "is no photo in a known format, or its beginning is damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings about odd files off the terminal: such files are reported as damaged, or fine.

    Warning filters belong to the whole process: use it around a pool of threads, not inside one.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\..*")
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        yield


def read_photo(path: Path) -> Image.Image:
    """Decode a photo completely, turned upright; raises one of `DAMAGE` when it is not whole."""
    if not path.stat().st_size:
        raise ValueError("the file is empty")
    with Image.open(path, formats=FORMATS) as image:
        return _decoded(image)


def decode_photo(content: bytes) -> Image.Image:
    """The same of a photo's bytes."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        return _decoded(image)


def _decoded(image: Image.Image) -> Image.Image:
    """Of an animation, its first picture."""
    _check_size(image)
    image.load()
    return ImageOps.exif_transpose(image)


def square(photo: Image.Image, resolution: int) -> Image.Image:
    """Fit a photo of any mode into an RGB square, its aspect kept, padded with its own background."""
    _check_size(photo)
    rgb = _to_rgb(photo)
    scale = resolution / max(rgb.size)
    width, height = (max(1, round(side * scale)) for side in rgb.size)
    canvas = Image.new("RGB", (resolution, resolution), background(rgb))
    fitted = rgb.resize((width, height), Image.Resampling.LANCZOS)
    canvas.paste(fitted, ((resolution - width) // 2, (resolution - height) // 2))
    return canvas


def background(rgb: Image.Image) -> tuple[int, int, int]:
    """Median colour of a photo's border: what touches less than half of the border does not change it."""
    pixels = np.asarray(rgb)
    rim = max(1, min(rgb.size) // 100)
    sides = (pixels[:rim], pixels[-rim:], pixels[:, :rim], pixels[:, -rim:])
    red, green, blue = np.median(np.concatenate([side.reshape(-1, 3) for side in sides]), axis=0)
    return int(red), int(green), int(blue)


def _check_size(photo: Image.Image) -> None:
    width, height = photo.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} × {height} pixels are more than the {MAX_PIXELS:,} that are decoded")
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"{width} × {height} pixels are too few; {MIN_SIDE} is the shortest side that counts")


def _to_rgb(photo: Image.Image) -> Image.Image:
    if photo.mode.startswith("I;16") or photo.mode in ("I", "F"):
        return _eight_bit(photo).convert("RGB")
    if photo.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in photo.info:
        # What is transparent lies on white, as catalogue photos do.
        layer = photo.convert("RGBA")
        colours = _in_srgb(layer.convert("RGB"), photo.info.get("icc_profile"))
        return Image.composite(colours, Image.new("RGB", layer.size, "white"), layer.getchannel("A"))
    return _in_srgb(photo, photo.info.get("icc_profile"))


def _in_srgb(photo: Image.Image, profile: bytes | None) -> Image.Image:
    """Colours as they were meant: cameras and phones write other colour spaces than screens show.

    A profile that is damaged, or for another kind of photo, is left aside, as viewers do.
    """
    if not profile:
        return photo.convert("RGB")
    readable = photo if photo.mode in ("RGB", "CMYK", "L") else photo.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return photo.convert("RGB")
        converted = ImageCms.profileToProfile(readable, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, *DAMAGE):
        return photo.convert("RGB")
    return photo.convert("RGB") if converted is None else converted


def _eight_bit(photo: Image.Image) -> Image.Image:
    """Scale deep grey levels to 8 bits; Pillow would clip them to white."""
    levels = np.asarray(photo).astype(np.float64)
    if not np.isfinite(levels).all():
        raise ValueError("some pixels are not numbers")
    top = levels.max()
    # Modes I and F don't say how deep they are: 1, 255 or 65,535 is the nearest white above.
    white = 65535.0 if photo.mode.startswith("I;16") or top > 255 else 255.0 if top > 1 else 1.0
    return Image.fromarray(np.clip(levels / white * 255 + 0.5, 0, 255).astype(np.uint8))


def square_fault(path: Path, resolution: int | None, *, decode: bool) -> str | None:
    """Why a file is no RGB square of this resolution, or nothing; without `decode` by its header alone."""
    try:
        if not path.stat().st_size:
            return "the file is empty"
        with Image.open(path, formats=FORMATS) as image:
            size, mode = image.size, image.mode
            if decode:
                _check_size(image)
                image.load()
    except DAMAGE as error:
        return reason(error)
    if size[0] != size[1]:
        return f"is {size[0]} × {size[1]} pixels, not square"
    if resolution is not None and size[0] != resolution:
        return f"is {size[0]} × {size[1]} pixels, not {resolution} × {resolution}"
    return None if mode == "RGB" else f"is {mode}, not RGB"

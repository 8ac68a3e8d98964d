import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shoes.dataset.photos import DAMAGE, background, quiet_pillow, read_photo, square

Draw = Callable[..., Image.Image]


def test_the_aspect_is_kept_and_the_padding_is_the_photos_own_background() -> None:
    photo = Image.new("RGB", (100, 50), (240, 230, 220))
    photo.paste((200, 0, 0), (30, 10, 70, 40))
    photo.paste((0, 0, 255), (0, 0, 12, 12))  # a logo in the corner does not count
    fitted = square(photo, 64)
    pixels = np.asarray(fitted)
    assert fitted.size == (64, 64)
    assert fitted.mode == "RGB"
    assert (pixels[:14] == (240, 230, 220)).all()
    assert (pixels[-14:] == (240, 230, 220)).all()
    red = np.argwhere((pixels[..., 0] > 180) & (pixels[..., 1] < 60))
    height, width = red.max(axis=0) - red.min(axis=0) + 1
    assert abs(width / height - 40 / 30) < 0.15


def test_a_square_photo_of_the_resolution_is_not_touched(draw: Draw) -> None:
    photo = draw(1, (64, 64))
    assert np.array_equal(np.asarray(square(photo, 64)), np.asarray(photo))


def test_the_background_is_robust() -> None:
    photo = Image.new("RGB", (60, 60), (250, 250, 250))
    photo.paste((10, 10, 10), (0, 0, 60, 25))
    assert background(photo) == (250, 250, 250)


def test_the_camera_orientation_is_applied(tmp_path: Path) -> None:
    photo = Image.new("RGB", (80, 40), "white")
    photo.paste("black", (0, 0, 20, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise
    photo.save(tmp_path / "a.png", exif=exif)
    upright = read_photo(tmp_path / "a.png")
    assert upright.size == (40, 80)
    assert upright.getpixel((20, 5)) == (0, 0, 0)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_mode_shows_the_same_picture(mode: str, tmp_path: Path) -> None:
    """Left half black, right half white."""
    levels = np.repeat([[0] * 32 + [255] * 32], 64, axis=0)
    deep: dict[str, np.ndarray] = {
        "I;16": (levels * 257).astype(np.uint16),
        "I": (levels * 257).astype(np.int32),
    }
    if mode in deep:
        photo = Image.fromarray(deep[mode])
    elif mode == "F":
        photo = Image.fromarray((levels / 255).astype(np.float32))
    else:
        photo = Image.fromarray(levels.astype(np.uint8)).convert("RGB").convert(mode)
    assert photo.mode == mode
    pixels = np.asarray(square(photo, 64)).astype(int)
    assert pixels[:, :30].max() < 8
    assert pixels[:, 34:].min() > 247


def test_deep_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 32), 32768, np.uint16)).save(tmp_path / "deep.png")
    assert square(read_photo(tmp_path / "deep.png"), 32).getpixel((5, 5)) == (128, 128, 128)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(mode: str, tmp_path: Path) -> None:
    photo = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    photo.paste((0, 0, 0, 255), (10, 10, 30, 30))
    photo.convert(mode).save(tmp_path / "a.png")
    fitted = square(read_photo(tmp_path / "a.png"), 40)
    assert fitted.getpixel((2, 2)) == (255, 255, 255)
    assert fitted.getpixel((20, 20)) == (0, 0, 0)


def _png_header(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(10_000, 9_500), (20_000, 10_000), (4, 400), (1, 1)])
def test_bombs_and_specks_are_damage(size: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_png_header(*size))
    with quiet_pillow(), pytest.raises(DAMAGE):
        square(read_photo(tmp_path / "a.png"), 64)


def test_a_very_long_photo_keeps_a_line_of_pixels() -> None:
    assert square(Image.new("RGB", (4000, 16)), 32).size == (32, 32)

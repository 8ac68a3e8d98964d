import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from shoes.dataset.photos import DAMAGE, background, decode_photo, quiet_pillow, read_photo, reason, square

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


def _two_pictures(path: Path, **options: object) -> None:
    """An animation: red, then blue."""
    frames = [Image.new("RGB", (48, 32), colour) for colour in ("#ff0000", "#0000ff")]
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tiff", "a.avif", "a.mpo"])
def test_of_an_animation_the_first_picture_counts(name: str, tmp_path: Path) -> None:
    options = {"a.webp": {"lossless": True}, "a.gif": {"duration": 100}}.get(name, {})
    _two_pictures(tmp_path / name, **options)
    with Image.open(tmp_path / name) as image:
        assert getattr(image, "n_frames", 1) == 2
    red, green, blue = square(read_photo(tmp_path / name), 32).getpixel((16, 16))
    assert red > 245
    assert max(green, blue) < 12


def test_a_cmyk_jpeg_of_a_press_is_not_shown_inverted(tmp_path: Path) -> None:
    """Photoshop's way, which Pillow writes as well: all four inks inverted, with Adobe's marker."""
    rgb = Image.new("RGB", (48, 48), (250, 250, 250))
    rgb.paste((200, 30, 30), (8, 8, 40, 40))
    rgb.convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    content = (tmp_path / "a.jpg").read_bytes()
    assert b"Adobe" in content
    fitted = square(read_photo(tmp_path / "a.jpg"), 48)
    for place, colour in (((2, 2), (250, 250, 250)), ((24, 24), (200, 30, 30))):
        assert all(abs(a - b) < 12 for a, b in zip(fitted.getpixel(place), colour, strict=True))


def test_sixteen_bits_of_colour_and_transparency_are_scaled(tmp_path: Path) -> None:
    header = b"\x89PNG\r\n\x1a\n"
    rows = b"".join(b"\0" + struct.pack(">4H", 65535, 0, 32768, 65535) * 32 for _ in range(32))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 32, 32, 16, 6, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    (tmp_path / "a.png").write_bytes(header + body)
    assert square(read_photo(tmp_path / "a.png"), 32).getpixel((5, 5)) == (255, 0, 128)


def _swapped_profile() -> bytes:
    """sRGB with its red and green primaries exchanged: what it calls red is green."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    places = {bytes(profile[n : n + 4]): n for n in range(132, 132 + 12 * profile[131], 12)}
    red, green = places[b"rXYZ"], places[b"gXYZ"]
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile).replace(b"s\0R\0G\0B", b"o\0t\0h\0e")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_are_those_that_the_profile_means(mode: str, tmp_path: Path) -> None:
    photo = Image.new("RGB", (32, 32), (255, 0, 0)).convert(mode)
    photo.save(tmp_path / "a.png", icc_profile=_swapped_profile())
    red, green, blue = square(read_photo(tmp_path / "a.png"), 32).getpixel((5, 5))
    assert green > 240
    assert max(red, blue) < 60


def test_the_profile_survives_being_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (32, 32), (255, 0, 0)).save(tmp_path / "a.png", icc_profile=_swapped_profile(), exif=exif)
    assert square(read_photo(tmp_path / "a.png"), 32).getpixel((5, 5))[1] > 240


@pytest.mark.parametrize("profile", [b"", b"nonsense", _swapped_profile()[:200], _swapped_profile()[:-300]])
def test_a_damaged_profile_is_left_aside(profile: bytes, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (200, 10, 10)).save(tmp_path / "a.png", icc_profile=profile)
    assert square(read_photo(tmp_path / "a.png"), 32).getpixel((5, 5)) == (200, 10, 10)


def test_a_profile_for_another_kind_of_photo_is_left_aside(tmp_path: Path) -> None:
    Image.new("L", (32, 32), 90).save(tmp_path / "a.png", icc_profile=_swapped_profile())
    assert square(read_photo(tmp_path / "a.png"), 32).getpixel((5, 5)) == (90, 90, 90)


def test_srgb_photos_are_not_touched(tmp_path: Path, draw: Draw) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    draw(1, (64, 64)).save(tmp_path / "a.png", icc_profile=profile)
    assert np.array_equal(np.asarray(square(read_photo(tmp_path / "a.png"), 64)), np.asarray(draw(1, (64, 64))))


def test_bytes_are_decoded_as_files_are(tmp_path: Path, draw: Draw) -> None:
    draw(1).save(tmp_path / "a.jpg")
    assert decode_photo((tmp_path / "a.jpg").read_bytes()) == read_photo(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.gif", "a.tiff", "a.bmp", "a.avif"])
def test_a_photo_that_was_cut_off_is_damage(name: str, tmp_path: Path, draw: Draw) -> None:
    draw(1, (200, 200)).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with quiet_pillow(), pytest.raises(DAMAGE):
        square(read_photo(tmp_path / name), 64)


def test_what_is_no_photo_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("<html>404</html>")
    with pytest.raises(DAMAGE) as caught:
        read_photo(tmp_path / "a.jpg")
    assert reason(caught.value) == "is no photo in a known format, or its beginning is damaged"

"""The pictures of one arm on disk: each drawn once, resumed picture by picture, sealed when complete."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from shoes.durability import sync_path
from shoes.evaluation.drawings import Drawing, DrawingSettings
from shoes.storage import MANIFEST, fingerprint, hash_files, is_whole, pretty_json, write_text

if TYPE_CHECKING:
    from PIL.Image import Image

_PARTIAL = ".partial-"
_PRECISELY = "drawn again in fp32"
MIN_DEVIATION = 1.0
"""Grey levels of 255; a picture that varies less shows nothing."""
DARK_LEVEL, MAX_DARK_SHARE = 4, 0.99
"""A picture of which more than this share is this dark is black, as NaN latents are when decoded."""


class Draw(Protocol):
    """Draws images in the order of its argument, as they are made."""

    def __call__(self, drawings: Sequence[Drawing], /) -> "Iterator[Image]": ...  # noqa: D102


def set_folder(
    cache: Path,
    *,
    model_fingerprint: str,
    adapter_sha256: str | None,
    drawings: Sequence[Drawing],
    settings: DrawingSettings,
) -> Path:
    """Where the pictures of one arm lie: named by all that decides them, and so drawn only once."""
    prompts = [(drawing.prompt, drawing.seed) for drawing in drawings]
    return cache / "drawings" / fingerprint(model_fingerprint, adapter_sha256, prompts, settings)


def picture_paths(folder: Path, count: int) -> list[Path]:
    """Files of a set of `count` pictures, in order."""
    return [folder / f"{number:04d}.png" for number in range(count)]


def draw_set(
    folder: Path,
    drawings: Sequence[Drawing],
    make_draw: Callable[[], Draw],
    *,
    metadata: Mapping[str, str],
    on_picture: Callable[[int], None] = lambda _done: None,
) -> list[Path]:
    """The files of all drawings, in order; only what is missing is drawn.

    `make_draw` loads a model and is called only when some picture is missing. Each picture is on disk before
    the next is asked for. The complete set gets a manifest with the SHA-256 of every picture; a picture that
    differs from it later is drawn again.

    Args:
        folder: of this set alone, see `set_folder`.
        drawings: what to draw.
        make_draw: gives what draws.
        metadata: text put into every PNG beside its prompt and seed.
        on_picture: told before the first and after each how many of the set are there.
    """
    paths = picture_paths(folder, len(drawings))
    if is_whole(folder):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    _clean(folder)
    missing = [number for number, path in enumerate(paths) if not is_readable(path)]
    if missing:
        todo = [drawings[number] for number in missing]
        draw = make_draw()
        on_picture(len(drawings) - len(missing))  # a rate begins here, not after the first batch
        # A source that stops early leaves pictures missing; the gates then name them.
        for done, (number, picture) in enumerate(zip(missing, draw(todo), strict=False), start=1):
            _save(picture, paths[number], drawings[number], metadata)
            on_picture(len(drawings) - len(missing) + done)
    if all(path.is_file() for path in paths):
        write_text(folder / MANIFEST, pretty_json({"files": hash_files(folder)}))
    return paths


def redraw_blank(
    paths: Sequence[Path], drawings: Sequence[Drawing], make_draw: Callable[[], Draw], *, metadata: Mapping[str, str]
) -> int:
    """Draw again, more precisely and once, what came out blank in a sealed set; how many of the set were.

    A half precision can lose a picture: NaN decodes to black. What is blank after that as well stays blank, and
    leaves its arm without a verdict. `make_draw` is called only when there is such a picture.
    """
    marked = [number for number, path in enumerate(paths) if _is_precise(path)]
    blank = [
        n for n, path in enumerate(paths) if n not in marked and is_readable(path) and is_blank(open_picture(path))
    ]
    if blank:
        todo = [drawings[number] for number in blank]
        for number, picture in zip(blank, make_draw()(todo), strict=True):
            _save(picture, paths[number], drawings[number], {**metadata, _PRECISELY: "yes"})
        folder = paths[0].parent
        write_text(folder / MANIFEST, pretty_json({"files": hash_files(folder)}))
    return len(marked) + len(blank)


def _is_precise(path: Path) -> bool:
    """The picture was drawn again."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            picture.load()
            return _PRECISELY in picture.info
    except (OSError, SyntaxError):
        return False


def is_blank(picture: "Image") -> bool:
    """The picture is of one colour, or nearly all black."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)
    varies = pixels.std(axis=(0, 1)).max() >= MIN_DEVIATION
    dark = np.mean(pixels.max(axis=-1) <= DARK_LEVEL)
    return not varies or bool(dark > MAX_DARK_SHARE)


def open_picture(path: Path) -> "Image":
    """A picture in RGB, read to its last byte.

    Raises:
        OSError: it is missing, cut short or damaged.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except SyntaxError as error:  # what Pillow raises for a broken chunk
        raise OSError(f"{path} is damaged: {error}") from error


def is_readable(path: Path) -> bool:
    """The picture is there and whole."""
    try:
        open_picture(path)
    except OSError:
        return False
    return True


def same_pixels(first: Path, second: Path) -> bool:
    """Two pictures have the same size and pixels."""
    one, other = open_picture(first), open_picture(second)
    return one.size == other.size and one.tobytes() == other.tobytes()


def _save(picture: "Image", path: Path, drawing: Drawing, metadata: Mapping[str, str]) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, text in {"prompt": drawing.prompt, "seed": str(drawing.seed), **metadata}.items():
        info.add_itxt(key, text)
    partial = path.with_name(f"{_PARTIAL}{path.name}")
    picture.save(partial, format="PNG", pnginfo=info)
    sync_path(partial)
    partial.replace(path)


def _clean(folder: Path) -> None:
    """Remove half-written files, and pictures that are not what they were when the set was sealed."""
    for leftover in folder.glob(f"{_PARTIAL}*"):
        leftover.unlink(missing_ok=True)
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return
    try:
        sealed: dict[str, str] = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    except (ValueError, KeyError, TypeError):
        sealed = {}  # nothing vouches for any of them
    for name, digest in hash_files(folder).items():
        if sealed.get(name) != digest:
            (folder / name).unlink(missing_ok=True)
    manifest.unlink()

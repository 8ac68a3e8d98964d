"""The pictures of one plan on disk: which are there and whole, their names, and what is told of them.

generation.json          what decides the pictures; another plan is refused in the same folder
0001-<prompt>-s<seed>.png
images.jsonl             one line per picture
index.png                all on one sheet
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock, Timeout

from shoes.errors import Busy, ConfigurationError, Problem
from shoes.generation.metadata import PictureRecipe, read_picture, write_picture
from shoes.generation.plan import Plan
from shoes.generation.prompts import Picture
from shoes.litter import visible
from shoes.reports import Report
from shoes.storage import canonical_json, pretty_json, sha256, write_bytes, write_text

if TYPE_CHECKING:
    from PIL.Image import Image

PLAN, LINES, SHEET, LOCK = "generation.json", "images.jsonl", "index.png", ".lock"
SLUG_LENGTH = 48
MAX_ON_SHEET = 200
"""More pictures than this are shown by so many of them, spread evenly."""
Verdict = Literal["OK", "blank", "NaN"]


class DrawnPicture(Report):
    """One picture of the folder, and what is wrong with it if something is."""

    file: str
    prompt: str
    seed: int
    verdict: Verdict
    precision: str
    """That it was drawn in: fp32 (`no`) where the plan's gave nothing to see."""
    sha256: str


def file_name(number: int, picture: Picture) -> str:
    """Name of picture `number` (from 0): 0001-a-red-shoe-s7.png."""
    return f"{number + 1:04d}-{slug(picture.prompt)}-s{picture.seed}.png"


def slug(prompt: str) -> str:
    """A prompt as a part of a file's name: lower-case ASCII, whole words, at most `SLUG_LENGTH` characters."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", plain)
    text = ""
    for word in words:
        if len(text) + 1 + len(word) > SLUG_LENGTH:
            break
        text = f"{text}-{word}" if text else word
    return text or (words[0][:SLUG_LENGTH] if words else "picture")


@contextmanager
def opened(folder: Path, plan: Plan) -> Iterator[None]:
    """Hold a folder for one plan; it is made when it is not there, and goes again when nothing was drawn.

    Raises:
        ConfigurationError: it holds other pictures, or something else.
        Busy: another process draws into it.
    """
    _require_own(folder, plan)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            _remove_leftovers(folder)
            yield
    except Timeout as error:
        raise Busy(f"Another process draws into {folder}. Wait for it, or use another --out.") from error
    finally:
        if not (folder / PLAN).is_file():  # nothing was drawn
            (folder / LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # the person's own, and not empty
                folder.rmdir()


def keep_picture(folder: Path, plan: Plan, number: int, image: "Image", recipe: PictureRecipe) -> Path:
    """Write picture `number` of a plan; the first one makes the folder the plan's own."""
    if not (folder / PLAN).is_file():
        write_text(folder / PLAN, pretty_json({"fingerprint": plan.fingerprint, **plan.deciding}))
    path = folder / file_name(number, plan.pictures[number])
    write_picture(path, image, recipe)
    return path


def _require_own(folder: Path, plan: Plan) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError([Problem(f"--out {folder}", "is no folder", "name a new one")])
    if not folder.is_dir():
        return
    others = [path.name for path in visible(folder.iterdir(), folder)]
    if not (folder / PLAN).is_file():
        if others:
            what = f"holds other files ({', '.join(sorted(others)[:3])}…) and no {PLAN}"
            raise ConfigurationError([Problem(f"--out {folder}", what, "name a new folder, or an empty one")])
        return
    try:
        found = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        kept, name = {key: found[key] for key in plan.deciding}, found["fingerprint"]
    except (ValueError, KeyError, TypeError) as error:
        what = f"holds a {PLAN} that can't be read"
        raise ConfigurationError([Problem(f"--out {folder}", what, "name a new folder")]) from error
    if name != plan.fingerprint:
        what = f"holds pictures that were made otherwise ({_difference(kept, plan.deciding)})"
        fix = "use another --out, or none: every set of pictures then gets a folder of its own"
        raise ConfigurationError([Problem(f"--out {folder}", what, fix)])


def _difference(kept: dict[str, object], now: dict[str, object]) -> str:
    told = []
    for name, value in now.items():
        if canonical_json(kept[name]) != canonical_json(value):
            small = not isinstance(value, list | dict)
            told.append(f"{name} {kept[name]!r} there, {value!r} now" if small else f"other {name}")
    return "; ".join(told) or "by another version of this program"


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(".partial-*"):
        leftover.unlink(missing_ok=True)


def good_picture(folder: Path, plan: Plan, number: int) -> DrawnPicture | None:
    """Picture `number` of a plan if it is there, whole, made as planned and shows something."""
    found = _look(folder, plan, number)
    return found if found is not None and found.verdict == "OK" else None


def _look(folder: Path, plan: Plan, number: int) -> DrawnPicture | None:
    from shoes.evaluation.pictures import is_blank

    path = folder / file_name(number, plan.pictures[number])
    try:
        image, recipe = read_picture(path)
    except ConfigurationError:
        return None  # it is drawn again
    if not recipe.is_of(plan, number):
        return None
    return describe(path, plan.pictures[number], "blank" if is_blank(image) else "OK", recipe.precision)


def describe(path: Path, picture: Picture, verdict: Verdict, precision: str) -> DrawnPicture:
    """What is told of a picture that is on disk."""
    return DrawnPicture(
        file=path.name,
        prompt=picture.prompt,
        seed=picture.seed,
        verdict=verdict,
        precision=precision,
        sha256=sha256(path),
    )


def write_lines(folder: Path, pictures: Sequence[DrawnPicture]) -> None:
    """images.jsonl, of the pictures that are there; nothing without any."""
    if pictures:
        write_text(folder / LINES, "".join(f"{canonical_json(picture)}\n" for picture in pictures))


def write_sheet(folder: Path, pictures: Sequence[DrawnPicture]) -> Path:
    """index.png, of at most `MAX_ON_SHEET` pictures."""
    import io

    from shoes.evaluation.grid import sample_grid, short_labels
    from shoes.evaluation.pictures import open_picture

    count = min(len(pictures), MAX_ON_SHEET)
    shown = [pictures[(2 * k + 1) * len(pictures) // (2 * count)] for k in range(count)]
    prompts = short_labels([picture.prompt for picture in shown])
    titles = [_title(prompt, picture) for prompt, picture in zip(prompts, shown, strict=True)]
    sheet = sample_grid([open_picture(folder / picture.file) for picture in shown], titles)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    write_bytes(folder / SHEET, buffer.getvalue())
    return folder / SHEET


def _title(prompt: str, picture: DrawnPicture) -> str:
    wrong = "" if picture.verdict == "OK" else f" ({picture.verdict})"
    return f"{prompt}{wrong} · {picture.seed}"

"""Drawing a plan: what is missing, picture by picture, and once more in fp32 what shows nothing."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shoes import device, sampling
from shoes.batches import batched
from shoes.device import kept_awake
from shoes.device.claim import claimed, lock_names
from shoes.errors import ModelError, Problem, ShoesError
from shoes.evaluation.gates import judge
from shoes.generation.folder import (
    DrawnPicture,
    Verdict,
    describe,
    good_picture,
    keep_picture,
    opened,
    write_lines,
    write_sheet,
)
from shoes.generation.metadata import PictureRecipe, recipe_of
from shoes.generation.plan import DrawnPrecision, Plan, load_for, make_plan
from shoes.generation.prompts import Picture
from shoes.generation.request import Request
from shoes.progress import Progress, progress
from shoes.reports import Report
from shoes.settings import load_settings
from shoes.spec import Recipe
from shoes.storage import is_disk_full

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline
    from PIL.Image import Image

log = logging.getLogger(__name__)
Pictures = dict[int, DrawnPicture]
"""By their numbers in the plan."""
A_FEW = 20
"""Pictures that are there before a machine thinks of sleeping."""


class GenerationReport(Report):
    """What was drawn."""

    plan: Plan
    path: Path
    """Folder of the pictures."""
    sheet: Path
    num_drawn: int
    """Now; the others were there."""
    seconds: float
    """Of loading and drawing."""
    pictures: tuple[DrawnPicture, ...]

    @property
    def is_good(self) -> bool:
        """Every picture shows something."""
        return all(picture.verdict == "OK" for picture in self.pictures)


def generate(recipe: Recipe, request: Request) -> GenerationReport:
    """Draw what a request asks for, or the rest of it; pictures that are there and whole stay as they are.

    Waits while another computation has the device.

    A picture that is blank or not finite is drawn again in fp32, and when that does not help the report says so.

    Raises:
        ConfigurationError: the request, or the folder, can't be used.
        ModelError: the base model or an adapter can't be used, or the memory does not hold them.
        Busy: another process draws into the same folder.
        ShoesError: the disk is full; what was drawn is kept.
    """
    settings = load_settings()
    plan = make_plan(recipe, request, settings)
    default = settings.data / "generated" / f"{plan.recipe}-{plan.fingerprint[:8]}"
    folder = request.out.expanduser().absolute() if request.out else default
    try:
        device_held = _device_for(plan, folder, settings.locks)
        with device_held, opened(folder, plan), progress("drawing", "images") as report_progress:
            return draw_plan(plan, folder, report_progress)
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise ShoesError(f"The disk of {folder} is full. Make room; the same command then goes on.") from error


@contextmanager
def _device_for(plan: Plan, folder: Path, lock_dir: Path) -> Iterator[None]:
    """The device as long as pictures are missing, and the machine awake for many; when all are there, neither."""
    num_missing = sum(good_picture(folder, plan, number) is None for number in range(len(plan.pictures)))
    if num_missing == 0:
        yield
        return
    what = f"{plan.recipe}, drawing {len(plan.pictures)} pictures"
    awake = kept_awake() if num_missing > A_FEW else nullcontext()
    with claimed(lock_names(plan.device), what, lock_dir), awake:
        yield


def draw_plan(plan: Plan, folder: Path, on_progress: Progress) -> GenerationReport:
    """The pictures of a plan in a folder that is held for it (`folder.opened`)."""
    started = time.monotonic()
    there = (good_picture(folder, plan, number) for number in range(len(plan.pictures)))
    found: Pictures = {number: picture for number, picture in enumerate(there) if picture is not None}
    missing = [number for number in range(len(plan.pictures)) if number not in found]
    try:
        _draw_missing(plan, folder, missing, found, on_progress)
    finally:
        pictures = [found[number] for number in sorted(found)]
        write_lines(folder, pictures)
    return GenerationReport(
        plan=plan,
        path=folder,
        sheet=write_sheet(folder, pictures),
        num_drawn=len(missing),
        seconds=time.monotonic() - started,
        pictures=tuple(pictures),
    )


def _draw_missing(plan: Plan, folder: Path, missing: Sequence[int], found: Pictures, on_progress: Progress) -> None:
    """Draw into `folder` and note in `found`; what shows nothing is kept only after it was tried in fp32."""
    bad = list(missing)
    tries: tuple[DrawnPrecision, ...] = ("no",) if plan.precision == "no" else (plan.precision, "no")
    for precision in tries:
        is_last = precision == tries[-1]
        still_bad = []
        on_progress(len(found), len(plan.pictures))  # a rate begins here, not after the first batch
        for drawn in draw(plan, bad, precision) if bad else ():
            if drawn.verdict != "OK" and not is_last:
                still_bad.append(drawn.number)
                continue
            path = keep_picture(folder, plan, drawn.number, drawn.image, drawn.recipe)
            found[drawn.number] = describe(path, plan.pictures[drawn.number], drawn.verdict, precision)
            on_progress(len(found), len(plan.pictures))
        bad = still_bad
        if bad:
            log.warning("%d pictures are blank or not finite in %s: again in fp32", len(bad), precision)


@dataclass(frozen=True)
class Drawn:
    """A picture that was just drawn."""

    number: int
    """In the plan, from 0."""
    image: "Image"
    verdict: Verdict
    recipe: PictureRecipe


def draw(plan: Plan, numbers: Sequence[int], precision: DrawnPrecision) -> Iterator[Drawn]:
    """Pictures of a plan by their numbers, in a precision, as they are made.

    Raises:
        ModelError: an adapter does not fit the model, or the memory does not hold them.
    """
    with _told_when_memory_is_short(plan):
        pipeline = load_for(plan, precision)
        for batch in batched(numbers, plan.batch_size):
            pixels = _pixels(plan, pipeline, [plan.pictures[number] for number in batch])
            for position, number in enumerate(batch):
                image = sampling.to_image(pixels[position])
                recipe = recipe_of(plan, number, precision=precision, batch=(len(batch), position))
                yield Drawn(number, image, judge(pixels[position], image), recipe)
    del pipeline
    device.release(plan.device)  # the next one may load the model in another precision


def _pixels(plan: Plan, pipeline: "StableDiffusionPipeline", pictures: Sequence[Picture]) -> "torch.Tensor":
    """One batch: float B×3×H×W, on the CPU."""
    how = plan.sampling
    (pixels,) = sampling.draw_pixels(
        pipeline,
        pictures,
        num_inference_steps=how.num_inference_steps,
        guidance_scale=how.guidance_scale,
        negative_prompt=how.negative_prompt,
        resolution=how.resolution,
        batch_size=len(pictures),
    )
    return pixels.cpu()


@contextmanager
def _told_when_memory_is_short(plan: Plan) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not device.is_out_of_memory(error):
            raise
        fix = (
            "use a smaller --batch or --resolution, --inference.vae_tiling true, or --train.mixed_precision bf16; what "
            "was drawn is kept"
        )
        raise ModelError([Problem(plan.base.name, f"does not fit into the memory of {plan.device}", fix)]) from error

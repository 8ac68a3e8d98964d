"""A picture again, from what is inside its PNG: `shoes generate --from IMAGE.png`."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shoes import device
from shoes.errors import ConfigurationError, ModelError, Problem, ProblemsError, TrackingRefused, TrackingUnavailable
from shoes.generation.adapters import known_adapters
from shoes.generation.formats import AdapterFile, find_adapter
from shoes.generation.metadata import AdapterRecipe, PictureRecipe, matches, read_picture, versions, write_picture
from shoes.generation.plan import Base, DrawnPrecision, Plan
from shoes.generation.prompts import Picture
from shoes.generation.run import draw
from shoes.model.files import diffusion_files, fetch
from shoes.model.inference import Inference, choose_inference
from shoes.reports import ModelReport, Report
from shoes.settings import Settings, load_settings
from shoes.spec import InferenceSpec, ModelSpec, Recipe
from shoes.storage import fingerprint

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)


class RemakeReport(Report):
    """A picture that was drawn again, compared with the one that it was made from."""

    source: Path
    path: Path
    """The new picture."""
    recipe: PictureRecipe
    """Of the new one."""
    largest_difference: int
    """Between the pixels of both, of 255; 0: they are the same."""
    notes: tuple[str, ...]
    """What is not as it was then."""
    same_device: bool
    """On another type of device the pixels are close, and not the same."""

    @property
    def is_good(self) -> bool:
        """The pixels are the same, or they need not be."""
        return self.largest_difference == 0 or not self.same_device


def remake(recipe: Recipe, image: Path, out: Path | None = None, adapters: Sequence[str] = ()) -> RemakeReport:
    """Draw a picture again by the recipe inside it.

    Args:
        recipe: where to look for model and adapters beside the places that the picture names, and the device.
        image: a PNG that `shoes generate` made.
        out: folder of the new picture; none: `generated/remade` in the data folder.
        adapters: files and folders to look for its adapters in.

    Raises:
        ConfigurationError: the image holds no recipe.
        ModelError: the model or an adapter is not here, or is another one than it was; with all of them.
    """
    settings = load_settings()
    original, made = read_picture(image.expanduser())
    base, files = _find(made, recipe, adapters, settings)
    where = _where(made, recipe)
    plan = _plan(made, recipe, base, files, where)
    position = made.computation.batch_position
    # a whole batch of the same picture: what stood beside it changes nothing, the size of the batch may round otherwise
    drawn = list(draw(plan, range(plan.batch_size), where.precision))[position]
    folder = out.expanduser().absolute() if out else settings.data / "generated" / "remade"
    path = folder / f"{image.stem}-{fingerprint(made)[:8]}.png"
    write_picture(path, drawn.image, drawn.recipe)
    return RemakeReport(
        source=image.expanduser().absolute(),
        path=path,
        recipe=drawn.recipe,
        largest_difference=_largest_difference(original, drawn.image),
        notes=(*where.notes, *_version_notes(made)),
        same_device=where.device == made.device,
    )


def _find(
    made: PictureRecipe, recipe: Recipe, adapters: Sequence[str], settings: Settings
) -> tuple[ModelReport, tuple[AdapterFile, ...]]:
    """The model and the adapters that the picture was made with."""
    problems: list[Problem] = []
    files: tuple[AdapterFile, ...] = ()
    base = None
    try:
        base = _find_base(made.base, recipe, settings)
    except ProblemsError as error:
        problems += error.problems
    try:
        files = _find_adapters(made.adapters, recipe, adapters, settings)
    except ProblemsError as error:
        problems += error.problems
    if problems or base is None:
        raise ModelError(problems)
    return base, files


def _find_base(wanted: Base, recipe: Recipe, settings: Settings) -> ModelReport:
    """The model by the name that the picture says, or else the recipe's, if it is the same one."""
    spec = ModelSpec(pretrained_model_name_or_path=wanted.name, revision=wanted.revision, variant=wanted.variant)
    found = []
    for one in (spec, recipe.model):
        try:
            report = fetch(diffusion_files(one.pretrained_model_name_or_path, one.revision, one.variant), settings)
        except ModelError as error:
            found.append(f"{one.pretrained_model_name_or_path} can't be used ({error.problems[0].what})")
            continue
        if report.fingerprint == wanted.fingerprint:
            return report
        found.append(f"{report.name} has other files here (fingerprint {report.fingerprint[:16]})")
    what = f"the picture was made with another model, fingerprint {wanted.fingerprint[:16]}: {'; '.join(found)}"
    fix = "name the same model with --model.pretrained_model_name_or_path, or a --recipe that does"
    raise ModelError([Problem(wanted.name, what, fix)])


def _find_adapters(
    wanted: Sequence[AdapterRecipe], recipe: Recipe, given: Sequence[str], settings: Settings
) -> tuple[AdapterFile, ...]:
    problems: list[Problem] = []
    found: list[AdapterFile] = []
    named = [find_adapter(settings.locate(name)) for name in given]
    here = [*named, *_known(recipe, settings)] if wanted else []
    for one in wanted:
        same = [file for file in here if matches(one, file)]
        if same:
            found.append(same[0].model_copy(update={"name": one.name, "weight": one.weight}))
            continue
        what = f"is not here: no adapter of this machine has the SHA-256 {one.sha256[:16]}…"
        if changed := [file.path for file in named if file.name == one.name]:
            what = f"has other bytes here ({changed[0]}) than the SHA-256 {one.sha256[:16]}… of the picture"
        fix = "name its file or folder: --adapter PATH"
        problems.append(Problem(f"adapter {one.name}", what, fix))
    if problems:
        raise ModelError(problems)
    return tuple(found)


def _known(recipe: Recipe, settings: Settings) -> Iterator[AdapterFile]:
    """All adapters that this machine knows."""
    try:
        folders = known_adapters(recipe, settings)
    except (TrackingUnavailable, TrackingRefused) as error:
        log.warning("%s", error)
        folders = []
    for folder in folders:
        try:
            yield find_adapter(folder)
        except ModelError as error:
            log.debug("%s", error)


@dataclass(frozen=True)
class _Where:
    device: str
    precision: DrawnPrecision
    inference: Inference
    notes: tuple[str, ...]


def _where(made: PictureRecipe, recipe: Recipe) -> _Where:
    """This machine's device, with the picture's own precision and options as far as it can do them."""
    facts = device.measure()
    name = device.choose_device(recipe.train.device, facts).value
    notes = []
    if name != made.device:
        notes.append(f"it was drawn on {made.device}, and this is {name}: the pixels will be close, not the same")
    precision = made.precision
    try:
        device.choose_precision(precision, name, facts)
    except ConfigurationError as error:
        notes.append(f"in fp32 instead of {precision}: {error.problems[0].what}")
        precision = "no"
    how = made.computation
    spec = InferenceSpec(
        attention=how.attention, vae_slicing=how.vae_slicing, vae_tiling=made.vae_tiling, offload=how.offload
    )
    try:
        inference = choose_inference(spec, name, resolution=made.sampling.resolution)
    except ConfigurationError as error:
        notes += [f"{problem.where} as usual: {problem.what}" for problem in error.problems]
        plain = InferenceSpec(vae_slicing=how.vae_slicing, vae_tiling=made.vae_tiling)
        inference = choose_inference(plain, name, resolution=made.sampling.resolution)
    device.limit_memory(facts)
    return _Where(name, precision, inference, tuple(notes))


def _plan(
    made: PictureRecipe, recipe: Recipe, base: ModelReport, adapters: tuple[AdapterFile, ...], where: _Where
) -> Plan:
    """A plan of nothing but this picture, as often as there were pictures in its batch."""
    picture = Picture(prompt=made.prompt, seed=made.seed)
    return Plan(
        recipe=recipe.name,
        base=made.base,
        base_dir=base.path,
        adapters=adapters,
        sampling=made.sampling,
        device=where.device,
        precision=where.precision,
        inference=where.inference,
        batch_size=made.computation.batch_size,
        pictures=(picture,) * made.computation.batch_size,
    )


def _largest_difference(one: "Image", other: "Image") -> int:
    if one.size != other.size:
        return 255
    pixels = [np.asarray(image.convert("RGB"), dtype=np.int16) for image in (one, other)]
    return int(np.abs(pixels[0] - pixels[1]).max())


def _version_notes(made: PictureRecipe) -> Iterator[str]:
    now = versions()
    for package, then in made.computation.versions.items():
        if now.get(package) != then:
            yield f"it was drawn with {package} {then}, and here is {now.get(package, 'none')}"

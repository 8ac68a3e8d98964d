"""Where things are written: the data folder, and the disk against what the recipe needs."""

from shoes.environment.check import Finding, Situation
from shoes.environment.disk import existing_folder, free_bytes, is_writable
from shoes.environment.disk_need import (
    JUDGE_BYTES,
    SD15_BYTES,
    Geometry,
    Part,
    Photos,
    disk_need,
    expected_photos,
    geometry_of,
    sd15_geometry,
)
from shoes.environment.models import conversion_of, is_here, model_folder
from shoes.errors import DataError, ModelError
from shoes.language import gettext as _
from shoes.language import number
from shoes.model.contents import Unreadable
from shoes.model.single.conversion import converted_bytes
from shoes.model.wanted import Wanted, all_models, further_judges, is_single_file, wanted_models

GIGABYTE = 1024**3


def data_folder(situation: Situation) -> Finding:
    """Everything that is written goes below it."""
    place = situation.settings.data
    if not is_writable(place):
        detail = _("{place} can't be written to").format(place=existing_folder(place))
        return Finding("ERROR", detail, _("set SHOES_DATA_DIR to a folder of yours"))
    return Finding("OK", str(place))


def disk(situation: Situation) -> Finding:
    """Free space against every part of what the recipe writes."""
    recipe, place = situation.recipe, existing_folder(situation.settings.data)
    converted = conversion_of(wanted_models(recipe)[0], situation.settings)
    conversion = converted_bytes(*converted) if converted else 0
    parts = disk_need(recipe, _geometry(situation), _photos(situation), _download_bytes(situation), conversion)
    return disk_finding(free_bytes(place), parts, str(place))


def disk_finding(free: int, parts: tuple[Part, ...], place: str) -> Finding:
    """The line of the report: too little is an error, less than a tenth to spare a warning."""
    needed = sum(part.num_bytes for part in parts)
    detail = _("{free} GB free at {place}; {needed} GB needed at most:\n{parts}").format(
        free=number(free / GIGABYTE),
        place=place,
        needed=number(needed / GIGABYTE, 2),
        parts=", ".join(f"{_(part.name)} {_size(part.num_bytes)}" for part in parts),
    )
    fix = _("free some space, or set SHOES_DATA_DIR to a folder on a larger disk")
    if free < needed:
        return Finding("ERROR", detail, fix)
    return Finding("WARN", detail, fix) if free < needed * 1.1 else Finding("OK", detail)


def _size(num_bytes: int) -> str:
    megabytes = num_bytes / 1024**2
    return f"{number(megabytes / 1024, 2)} GB" if megabytes >= 1024 else f"{number(megabytes, 0)} MB"


def _geometry(situation: Situation) -> Geometry:
    """A local model's own, or Stable Diffusion 1.5's for one of the Hub, or not whole: another line says so."""
    targets = situation.recipe.train.lora_target_modules
    folder = model_folder(wanted_models(situation.recipe)[0], situation.settings)
    if folder is None:
        return sd15_geometry(targets)
    try:
        return geometry_of(folder, targets)
    except (OSError, ValueError, LookupError, TypeError, Unreadable):
        return sd15_geometry(targets)


def _photos(situation: Situation) -> Photos:
    """By the manifest of the data set that is here, else what is to be expected."""
    from shoes.dataset.manifest import read_manifest

    folder = situation.settings.locate(situation.recipe.data.dataset_dir)
    try:
        counts = read_manifest(folder).counts
    except DataError:
        return expected_photos(situation.recipe)
    captions = sum(count.captions for count in counts.values())
    return Photos(counts["train"].images, counts["val"].images, counts["test"].images, captions, are_here=True)


def _download_bytes(situation: Situation) -> int:
    models = all_models(situation.recipe)
    is_file = is_single_file(models[0], situation.settings)  # converted, not downloaded
    sizes = {"base": 0 if is_file else SD15_BYTES[situation.recipe.model.variant], **JUDGE_BYTES}
    roles = ("base", "clip", *further_judges(situation.recipe))
    return sum(sizes[role] for role, model in zip(roles, models, strict=True) if not _is_here(model, situation))


def _is_here(model: Wanted, situation: Situation) -> bool:
    """A record that can't be read is another line's; the space for the model is taken already."""
    try:
        return is_here(model, situation.settings)
    except ModelError:
        return True

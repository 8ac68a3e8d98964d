"""Which models a recipe needs, and whether they are on this machine already."""

from pathlib import Path

from shoes.model.files import Wanted, clip_files, diffusion_files, is_local
from shoes.model.record import read_record, record_file
from shoes.settings import Settings
from shoes.spec import Recipe


def wanted_models(recipe: Recipe) -> tuple[Wanted, Wanted]:
    """The base model, and the CLIP that scores it."""
    model, spec = recipe.model, recipe.eval
    return (
        diffusion_files(model.pretrained_model_name_or_path, model.revision, model.variant),
        clip_files(spec.clip_model_name_or_path, spec.clip_revision),
    )


def is_here(wanted: Wanted, settings: Settings) -> bool:
    """Nothing is left to download; whether the files are whole is another question.

    Raises:
        ModelError: the record of an earlier download can't be read.
    """
    return is_local(wanted, settings) or read_record(record_file(wanted, settings)) is not None


def local_folder(wanted: Wanted, settings: Settings) -> Path | None:
    """Folder of a model that is named by its path; None for one of the Hub."""
    return settings.locate(wanted.name) if is_local(wanted, settings) else None

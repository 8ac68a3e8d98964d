"""The data set of a night: the one that is there, or a new one from its source."""

from collections.abc import Callable, Iterator
from pathlib import Path

from shoes.dataset.importing import import_data_set
from shoes.dataset.manifest import Manifest, read_manifest, rule
from shoes.dataset.verification import missing_data_set, verify
from shoes.errors import DataError
from shoes.litter import visible
from shoes.reports import DataReport
from shoes.spec import DataSpec


def prepare(
    spec: DataSpec,
    dataset_dir: Path,
    *,
    resolution: int,
    source: str | Path | None,
    downloads: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> DataReport:
    """Verify the data set that is there, or import it from `source`.

    A data set that is there is never changed: DataError when it is damaged or of another resolution, and a
    note when it was made by other settings than the spec's. DataError too when there is neither a data set
    nor a source.
    """
    if _is_there(dataset_dir):
        report = verify(dataset_dir, resolution=resolution)
        notes = _differences(read_manifest(dataset_dir), spec)
        return report.model_copy(update={"notes": (*report.notes, *notes)})
    if source is None:
        raise DataError([missing_data_set(dataset_dir)])
    return import_data_set(
        source, dataset_dir, spec, resolution=resolution, downloads=downloads, on_progress=on_progress
    )


def _is_there(folder: Path) -> bool:
    return folder.is_dir() and any(visible(folder.iterdir(), folder))


def _differences(manifest: Manifest, spec: DataSpec) -> Iterator[str]:
    """Settings that take no effect, because the data set was made by others."""
    asked = {
        **rule(spec).model_dump(),
        "seed": spec.seed,
        "max_images": spec.max_images,
        "caption_template": spec.caption_template,
        "filters": spec.filters,
    }
    # Data sets that were not imported from a catalogue were not filtered.
    made = {
        "filters": spec.filters,
        **manifest.source,
        **manifest.split_rule.model_dump(),
        **manifest.model_dump(),
    }
    for name, value in asked.items():
        if made[name] != value:
            yield f"made with {name} {made[name]!r}; the recipe's {value!r} takes a new import"

"""What is measured on: the demo's trained model, and Stable Diffusion 1.5's full size with random weights.

Jobs are put together without `shoes.stages`: nothing is fetched, imported, registered or tracked.
"""

import json
from dataclasses import replace
from pathlib import Path

from benchmarks.device.place import Place
from benchmarks.speed.full_size import full_size_model
from shoes import recipes
from shoes.dataset import load_split
from shoes.reports import DataReport, ModelReport
from shoes.reports.inputs import SplitCount
from shoes.settings import PROJECT_ROOT
from shoes.spec import Recipe
from shoes.training.run import Decisions, Job, make_job, plan_decisions

DEMO_MODEL = PROJECT_ROOT / "data/demo/model"
DEMO_PHOTOS = PROJECT_ROOT / "data/demo/casual_shoes"
NUM_PHOTOS = {"train": 8, "val": 2, "test": 2}
NARROW = 10
"""Of the model of the smoke form."""


def demo_job(place: Place, name: str, values: dict[str, str] | None = None) -> Job:
    """A training of the demo's model on its own photos, 64 px; `name` is its folder's."""
    given = {"train.device": place.device, **(values or {})}
    return job_of(place, recipes.load("demo", given), DEMO_MODEL, photos(place, 64), name)


def full_job(place: Place, name: str, values: dict[str, str] | None = None) -> Job:
    """A training of Stable Diffusion 1.5's size at 512 px; in the smoke form of a narrow one at 64 px."""
    resolution = place.options.resolution
    recipe = full_recipe(place, values)
    return job_of(place, recipe, full_model(place), photos(place, resolution), name)


def full_recipe(place: Place, values: dict[str, str] | None = None) -> Recipe:
    """`overnight` at the kit's resolution, with a constant learning rate: a few steps are no warm-up."""
    given = {
        "train.device": place.device,
        "train.resolution": str(place.options.resolution),
        "train.lr_scheduler": "constant",
        "eval.num_inference_steps": str(place.options.num_inference_steps),
    }
    return recipes.load("overnight", given | (values or {}))


def full_model(place: Place) -> Path:
    """The folder of the full-size model, made at the first call."""
    return full_size_model(place.options.work / "full-size-model", narrow=NARROW if place.options.smoke else 1)


def job_of(place: Place, recipe: Recipe, model: Path, data: DataReport, name: str) -> Job:
    """A job on files that nobody has to verify, in a folder of its own."""
    work = place.options.work
    job = make_job(recipe, model_report(model), data, runs=work / "runs", cache=work / "cache")
    return replace(job, folder=work / "runs" / name)


def decisions_for(job: Job, precision: str, **changes: object) -> Decisions:
    """What the program decides for the job here, with a precision of ours."""
    decided = replace(plan_decisions(job), precision=precision)
    return replace(decided, **changes)  # type: ignore[arg-type]


def model_report(path: Path) -> ModelReport:
    """The report of a model that was made here, or ships with the project."""
    return ModelReport(
        name=path.name,
        path=path,
        fingerprint=path.name,
        num_files=0,
        num_bytes=0,
        verified_against="nothing: the kit's own",
        seconds=0.0,
    )


def photos(place: Place, resolution: int) -> DataReport:
    """A few of the demo's photos, enlarged to `resolution` pixels: the time of a step is the same for any photo."""
    folder = place.options.work / f"photos-{resolution}"
    for split in NUM_PHOTOS:
        if not (folder / split).is_dir():
            _write_split(folder, split, resolution)
    counts = tuple(
        SplitCount(name=name, num_images=count, num_captions=len(_captions(folder / name)))  # type: ignore[arg-type]
        for name, count in NUM_PHOTOS.items()
    )
    return DataReport(path=folder, fingerprint=folder.name, resolution=resolution, splits=counts, seconds=0.0)


def _captions(split: Path) -> set[str]:
    return {entry["caption"] for entry in json.loads((split / "captions.json").read_text(encoding="utf-8"))}


def _write_split(folder: Path, split: str, resolution: int) -> None:
    from PIL import Image

    from shoes.storage import new_folder

    records = load_split(DEMO_PHOTOS / split, decode=False)[: NUM_PHOTOS[split]]
    with new_folder(folder / split, manifest=False) as partial:
        (partial / "images").mkdir()
        for record in records:
            photo = Image.open(record.image).convert("RGB").resize((resolution, resolution), Image.Resampling.BICUBIC)
            photo.save(partial / "images" / record.image.name)
        entries = [{"image_file": record.image.name, "caption": record.caption} for record in records]
        (partial / "captions.json").write_text(json.dumps(entries), encoding="utf-8")

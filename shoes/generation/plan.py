"""All that decides a run's pictures, made once from recipe and request."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shoes import device
from shoes.errors import ConfigurationError, Problem, ProblemsError
from shoes.generation.adapters import parse_adapters, resolve_adapters
from shoes.generation.formats import AdapterFile, apply_adapters
from shoes.generation.prompts import Picture, plan_pictures, read_file, read_prompts
from shoes.generation.request import Request, parse
from shoes.model.files import fetch
from shoes.model.inference import Inference, choose_inference
from shoes.model.wanted import wanted_models
from shoes.reports import ModelReport, Report
from shoes.settings import Settings
from shoes.spec import Recipe, SchedulerName
from shoes.spec.names import below_home, names_weights
from shoes.storage import fingerprint

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


DrawnPrecision = Literal["no", "fp16", "bf16"]


class Sampling(Report):
    """How each picture is drawn, whatever its prompt and seed."""

    negative_prompt: str
    num_inference_steps: int
    guidance_scale: float
    scheduler: SchedulerName
    resolution: int


class Base(Report):
    """The base model, by all its names."""

    name: str
    revision: str | None
    variant: Literal["fp16"] | None
    fingerprint: str


class Plan(Report):
    """What is drawn, with what, and where."""

    recipe: str
    base: Base
    base_dir: Path
    adapters: tuple[AdapterFile, ...]
    sampling: Sampling
    device: str
    precision: DrawnPrecision
    inference: Inference
    batch_size: int
    pictures: tuple[Picture, ...]

    @property
    def deciding(self) -> dict[str, object]:
        """All that decides the pictures: no places, and nothing that changes rounding only (batch, attention)."""
        return {
            "base": self.base.fingerprint,
            "adapters": [[one.sha256, one.config_sha256, one.weight] for one in self.adapters],
            **self.sampling.model_dump(mode="json"),
            "device": self.device,
            "precision": self.precision,
            "vae_tiling": self.inference.vae_tiling,
            "pictures": [[picture.prompt, picture.seed] for picture in self.pictures],
        }

    @property
    def fingerprint(self) -> str:
        """Name of the pictures."""
        return fingerprint("generation", self.deciding)


def understand(given: Mapping[str, Any], recipe: Recipe, settings: Settings) -> Request:
    """The request of the options that were given, by the names of its fields.

    Raises:
        ConfigurationError: with everything that is wrong with them, also what only `make_plan` would find.
    """
    problems: list[Problem] = []
    with _noted(problems):
        return parse(given)
    with _noted(problems):
        parse_adapters(given.get("adapter", ()), settings)
    with _noted(problems):
        if given.get("prompts_file"):
            read_file(Path(given["prompts_file"]).expanduser())
    with _noted(problems):
        choose_where(recipe, recipe.train.resolution)
    raise ConfigurationError(problems)


def make_plan(recipe: Recipe, request: Request, settings: Settings) -> Plan:
    """The plan of a request; what it leaves open is the recipe's. Nothing is written.

    Raises:
        ConfigurationError: prompts, adapters' names, device or options can't be used; with all the problems.
        ModelError: the base model or an adapter can't be used.
    """
    sampling = _sampling(recipe, request)
    problems: list[Problem] = []
    with _noted(problems):
        prompts = read_prompts(request, settings.locate(recipe.data.dataset_dir))
    with _noted(problems):
        wanted = parse_adapters(request.adapter, settings)
    with _noted(problems):
        where, precision, inference = choose_where(recipe, sampling.resolution)
    if problems:
        raise ConfigurationError(problems)
    base = fetch(wanted_models(recipe)[0], settings)
    seed = recipe.eval.seed if request.seed is None else request.seed
    return Plan(
        recipe=recipe.name,
        base=_base(recipe, base),
        base_dir=base.path,
        adapters=resolve_adapters(wanted, recipe, base, settings),
        sampling=sampling,
        device=where,
        precision=precision,
        inference=inference,
        batch_size=request.batch or recipe.train.eval_batch_size,
        pictures=plan_pictures(prompts, seed, request.images_per_prompt),
    )


@contextmanager
def _noted(problems: list[Problem]) -> Iterator[None]:
    """What is wrong in the block goes into `problems`, to be told with the rest."""
    try:
        yield
    except ProblemsError as error:
        problems += error.problems


def choose_where(recipe: Recipe, resolution: int) -> tuple[str, str, Inference]:
    """Device, precision and options for drawing, by the recipe.

    Raises:
        ConfigurationError: this machine can't do what the recipe asks for.
    """
    facts = device.measure()
    where = device.choose_device(recipe.train.device, facts).value
    precision = device.choose_precision(recipe.train.mixed_precision, where, facts).value
    inference = choose_inference(recipe.inference, where, resolution=resolution)
    if problem := device.too_large_picture(where, facts, resolution):
        raise ConfigurationError([problem])
    device.limit_memory(facts)
    return where, precision, inference


def load_for(plan: Plan, precision: str) -> "StableDiffusionPipeline":
    """The plan's model with its adapters, on its device, in a precision.

    Raises:
        ModelError: an adapter does not fit the model.
    """
    from shoes.model.inference import apply_inference
    from shoes.model.load import assemble_pipeline, load_unet

    unet = load_unet(plan.base_dir, device=plan.device, dtype=device.torch_dtype(precision))
    pipeline = assemble_pipeline(plan.base_dir, unet, plan.sampling.scheduler, device=plan.device)
    apply_adapters(pipeline, plan.adapters, plan.base.name)
    apply_inference(pipeline, plan.inference, device=plan.device, resolution=plan.sampling.resolution)
    return pipeline


def _sampling(recipe: Recipe, request: Request) -> Sampling:
    spec = recipe.eval
    negative = request.negative_prompt
    return Sampling(
        negative_prompt=spec.negative_prompt if negative is None else negative,
        num_inference_steps=request.steps or spec.num_inference_steps,
        guidance_scale=spec.guidance_scale if request.guidance is None else request.guidance,
        scheduler=request.scheduler or spec.scheduler,
        resolution=request.resolution or recipe.train.resolution,
    )


def _base(recipe: Recipe, report: ModelReport) -> Base:
    """The base as a picture names it; pictures are passed on, so the name does not say who is at home here."""
    spec = recipe.model
    name = below_home(spec.pretrained_model_name_or_path)
    if names_weights(name):  # a file has neither revisions nor variants
        return Base(name=name, revision=None, variant=None, fingerprint=report.fingerprint)
    return Base(
        name=name,
        revision=report.commit or spec.revision,
        variant=spec.variant,
        fingerprint=report.fingerprint,
    )

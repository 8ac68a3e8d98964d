"""Trying a model before a night: `shoes model try`, from the recipe to MLflow."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from shoes import device
from shoes.device.claim import claimed, lock_names
from shoes.errors import ModelError, Problem
from shoes.model.comparison import OptionComparison
from shoes.model.comparison import compare_options as compare
from shoes.model.files import fetch
from shoes.model.inference import choose_inference
from shoes.model.trial import TrialPlan, TrialReport, known_prompts, run_trial
from shoes.model.wanted import wanted_models
from shoes.progress import progress
from shoes.publishing.export import DIFFUSERS_FILE, adapter_sha256
from shoes.settings import load_settings
from shoes.spec import Recipe
from shoes.tracking.trials import record_comparison, record_trial


def try_model(
    recipe: Recipe, prompts: Sequence[str] = (), adapter: Path | None = None
) -> tuple[TrialReport, str | None]:
    """First pictures of the base model, and the MLflow run that holds them, if MLflow could be reached.

    Args:
        recipe: its model, device, precision, resolution, sampler and [inference].
        prompts: what to draw; none given: the three known ones.
        adapter: folder of an exported adapter to draw with.

    Raises:
        ModelError: the model or the adapter can't be used.
        ConfigurationError: the device can't do what the recipe asks for.
    """
    settings = load_settings()
    plan = _plan(recipe, prompts, adapter)
    with _device_of(plan), progress("drawing", "images") as report_progress:
        report = run_trial(plan, settings.data / "trials" / plan.fingerprint, report_progress)
    return report, record_trial(report, recipe, settings)


def compare_options(
    recipe: Recipe, prompts: Sequence[str] = (), adapter: Path | None = None
) -> tuple[OptionComparison, str | None]:
    """What each memory-saving option saves and costs here, and the MLflow run that holds the figures.

    Raises:
        ModelError, ConfigurationError: as `try_model`.
    """
    settings = load_settings()
    plan = _plan(recipe, prompts, adapter)
    with _device_of(plan), progress("comparing", "options") as report_progress:
        found = compare(plan, settings.data / "trials", report_progress)
    return found, record_comparison(found, recipe, settings)


def _device_of(plan: TrialPlan) -> AbstractContextManager[None]:
    """The device, waited for while another computation has it."""
    return claimed(lock_names(plan.device), f"{plan.name}, first pictures", load_settings().locks)


def _plan(recipe: Recipe, prompts: Sequence[str], adapter: Path | None) -> TrialPlan:
    facts = device.measure()
    where = device.choose_device(recipe.train.device, facts).value
    inference = choose_inference(recipe.inference, where, resolution=recipe.train.resolution)
    _require_adapter(adapter)
    base = fetch(wanted_models(recipe)[0], load_settings())
    device.limit_memory(facts)
    return TrialPlan(
        name=base.name,
        model_dir=base.path,
        model_fingerprint=base.fingerprint,
        adapter_dir=adapter.absolute() if adapter else None,
        adapter_sha256=adapter_sha256(adapter) if adapter else None,
        device=where,
        precision=device.choose_precision(recipe.train.mixed_precision, where, facts).value,
        scheduler=recipe.eval.scheduler,
        num_inference_steps=recipe.eval.num_inference_steps,
        guidance_scale=recipe.eval.guidance_scale,
        negative_prompt=recipe.eval.negative_prompt,
        resolution=recipe.train.resolution,
        prompts=tuple(prompts) or known_prompts(recipe.data.caption_template),
        seed=recipe.eval.seed,
        inference=inference,
    )


def _require_adapter(adapter: Path | None) -> None:
    if adapter is not None and not (adapter / DIFFUSERS_FILE).is_file():
        fix = "give the folder of an exported adapter, for example data/runs/…/adapter"
        raise ModelError([Problem(str(adapter), f"holds no {DIFFUSERS_FILE}", fix)])

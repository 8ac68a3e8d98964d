"""`shoes export`: an adapter in every form in which people use it, with its model card, and on the Hub.

Everything that can be wrong is told together, before anything is written or drawn.
"""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shoes import device
from shoes.errors import ConfigurationError, Problem, ProblemsError
from shoes.litter import litter_in
from shoes.publishing.card import write_card
from shoes.publishing.export import DIFFUSERS_FILE, KOHYA_FILE, PEFT_FOLDER
from shoes.publishing.place import FORMAT, MARKER, place_problems, require_room, visible_files
from shoes.publishing.reports import ExportReport, MergedReport, PushReport
from shoes.publishing.subject import Subject, champion_adapter, trained_adapter
from shoes.settings import Settings, load_settings
from shoes.spec import Recipe
from shoes.storage import new_folder, pretty_json, size_of

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from PIL.Image import Image

log = logging.getLogger(__name__)
MERGED = "merged"
_CARD_BYTES = 20_000_000
"""Card and pictures, generously."""


@dataclass(frozen=True)
class Wishes:
    """What to export, and where to."""

    champion: bool = False
    """The registered model's champion instead of the recipe's own training."""
    out: Path | None = None
    """The folder; nothing means one below the data folder, named by recipe and adapter."""
    merged: bool = False
    """Also the base with the adapter in its weights, as a pipeline in fp16."""
    push: str | None = None
    """OWNER/NAME of a model repository on the Hub."""
    private: bool | None = None
    """Whether that is private when it is made; nothing means yes."""


def export_adapter(recipe: Recipe, wishes: Wishes) -> ExportReport:
    """Write the folder of an adapter, and push it if that is wished for.

    An earlier export in the same place is replaced as a whole, if nothing in it was changed since.

    Raises:
        ConfigurationError: with everything that is wrong: no such adapter, place, name or token.
        NotReady: the disk has no room.
        ExportError: the merged pipeline is not the adapter's.
        TrackingUnavailable, TransientError: MLflow or the Hub does not answer.
    """
    started = time.monotonic()
    settings = load_settings()
    subject = _find(recipe, wishes, settings)
    out = _place(wishes, subject, settings)
    _require_usable(out, subject, wishes)
    merged: MergedReport | None = None
    with new_folder(out) as folder:
        _copy_adapter(subject.adapter_dir, folder)
        if wishes.merged:
            merged = _merge(subject, folder / MERGED).model_copy(update={"path": out / MERGED})
        drawings = settings.cache / "drawings"
        write_card(folder, subject, drawings=drawings, repository=wishes.push, has_merged=wishes.merged)
        (folder / MARKER).write_text(pretty_json(_about(subject)), encoding="utf-8")
    log.info("exported to %s", out)
    pushed = _push(out, subject, wishes) if wishes.push else None
    return _report(out, subject, merged, pushed, time.monotonic() - started)


def _find(recipe: Recipe, wishes: Wishes, settings: Settings) -> Subject:
    """The adapter; where there is none, that is told together with everything else that is wrong."""
    try:
        return champion_adapter(recipe, settings) if wishes.champion else trained_adapter(recipe, settings)
    except ProblemsError as error:
        place = place_problems(wishes.out.absolute()) if wishes.out else []
        raise ConfigurationError([*error.problems, *place, *_wish_problems(wishes)]) from error


def _require_usable(out: Path, subject: Subject, wishes: Wishes) -> None:
    """The place can be written to, has room, and the Hub knows us."""
    if problems := [*place_problems(out), *_wish_problems(wishes)]:
        raise ConfigurationError(problems)
    # weights in fp16 are no larger than the base's own
    base = subject.base.num_bytes if wishes.merged else 0
    require_room(out, size_of(subject.adapter_dir) + _CARD_BYTES + base)
    if wishes.push:
        from shoes.publishing.push import require_account

        log.info("%s: the Hub takes the token of %s", wishes.push, require_account(wishes.push))


def _wish_problems(wishes: Wishes) -> list[Problem]:
    if wishes.push:
        from shoes.publishing.push import push_problems

        return push_problems(wishes.push)
    if wishes.private is not None:
        name = "--private" if wishes.private else "--public"
        return [Problem(name, "says how to push, and nothing is pushed", f"add --push OWNER/NAME, or leave {name} out")]
    return []


def _place(wishes: Wishes, subject: Subject, settings: Settings) -> Path:
    name = f"{subject.recipe.name}-{subject.adapter_sha256[:8]}"
    return wishes.out.expanduser().absolute() if wishes.out else settings.data / "exports" / name


def _copy_adapter(adapter: Path, folder: Path) -> None:
    """The three forms, as the training proved them."""
    shutil.copy(adapter / DIFFUSERS_FILE, folder / DIFFUSERS_FILE)
    shutil.copytree(adapter / PEFT_FOLDER, folder / PEFT_FOLDER, ignore=litter_in)
    (folder / KOHYA_FILE).parent.mkdir()
    shutil.copy(adapter / KOHYA_FILE, folder / KOHYA_FILE)


def _merge(subject: Subject, target: Path) -> MergedReport:
    from shoes.publishing.merged import write_merged

    facts = device.measure()
    device.limit_memory(facts)
    where = device.choose_device(subject.recipe.train.device, facts).value
    log.info("merging the adapter into the base, and drawing with both on %s", where)
    found = write_merged(
        target,
        subject.base.path,
        subject.adapter_dir,
        device=where,
        scheduler=subject.recipe.eval.scheduler,
        draw=_first_picture(subject.recipe),
    )
    report = MergedReport(
        path=target, num_bytes=size_of(target), difference=found.from_adapter, tolerance=found.by_rounding
    )
    if found.from_rounded > found.by_rounding:
        doubt = "the merged pipeline has the right weights, but draws another picture than the adapter"
        log.warning(
            "%s: %.2g grey levels of 255 where rounding explains %.2g", doubt, found.from_adapter, report.tolerance
        )
    return report


@dataclass(frozen=True)
class _Drawing:
    prompt: str
    seed: int


def _first_picture(recipe: Recipe) -> "Callable[[StableDiffusionPipeline], Image]":
    """Draws one known prompt as the recipe's evaluation draws."""
    from shoes.model.trial import known_prompts
    from shoes.sampling import draw

    drawing = _Drawing(known_prompts(recipe.data.caption_template)[0], recipe.eval.seed)

    def first(pipeline: "StableDiffusionPipeline") -> "Image":
        (image,) = draw(
            pipeline,
            [drawing],
            num_inference_steps=recipe.eval.num_inference_steps,
            guidance_scale=recipe.eval.guidance_scale,
            negative_prompt=recipe.eval.negative_prompt,
            resolution=recipe.train.resolution,
        )
        return image

    return first


def _push(out: Path, subject: Subject, wishes: Wishes) -> PushReport:
    from shoes.publishing.push import push

    assert wishes.push is not None, "only called with a repository"
    is_private = wishes.private is not False
    message = f"LoRA {subject.adapter_sha256[:8]}, step {subject.training.chosen_step:,} of {subject.recipe.name}"
    return push(out, wishes.push, is_private=is_private, message=message)


def _about(subject: Subject) -> dict[str, object]:
    """What the folder holds; no clock, so that equal exports are equal bytes."""
    return {
        "format": FORMAT,
        "format_version": 1,
        "recipe": subject.recipe.name,
        "training": subject.training.fingerprint,
        "step": subject.training.chosen_step,
        "base_model": subject.base.fingerprint,
        "adapter_sha256": subject.adapter_sha256,
        "evaluation": subject.evaluation.fingerprint if subject.evaluation else None,
    }


def _report(
    out: Path, subject: Subject, merged: MergedReport | None, pushed: PushReport | None, seconds: float
) -> ExportReport:
    return ExportReport(
        path=out,
        source=subject.source,
        recipe=subject.recipe.name,
        base_model=subject.base.name,
        adapter_sha256=subject.adapter_sha256,
        version=subject.version,
        is_evaluated=subject.evaluation is not None,
        files=tuple(visible_files(out)),
        num_bytes=size_of(out),
        merged=merged,
        push=pushed,
        seconds=seconds,
    )

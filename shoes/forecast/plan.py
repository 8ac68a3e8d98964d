"""How often a training does what, counted from its spec: the same conditions as in `training.loop`."""

from dataclasses import dataclass

from shoes.reports import DataReport
from shoes.spec import EvalSpec, TrainSpec

TIMESTEPS_PER_PHOTO = 8
ARMS = 2  # base and adapter
PROOF_FORMS = 3  # diffusers', PEFT's and kohya's
PROOF_DRAWINGS = 1 + PROOF_FORMS  # by the trained adapter, and by each form; where these differ one more


@dataclass(frozen=True)
class Plan:
    """What is left to do."""

    start_step: int
    num_steps: int
    num_validations: int
    num_candidates: int
    num_checkpoints: int
    """By steps alone; saving by the clock comes on top where steps are slow."""
    held_out_passes: int
    """Through the UNet, per validation."""
    num_samples: int
    """Images per validation."""
    num_photos_to_encode: int
    num_captions_to_encode: int
    num_choice_drawings: int
    """Images by which a checkpoint is chosen, all shortlisted ones, if as many as are kept are shortlisted."""
    num_drawings: int
    """Images of the evaluation, all arms."""
    num_judged: int
    """Images and photos that each judge looks at."""
    test_passes: int
    """Through the UNet, for the held-out loss of all arms on test photos."""
    num_test_photos_to_encode: int


def plan(spec: TrainSpec, evaluation: EvalSpec, data: DataReport, *, start_step: int, is_cached: bool) -> Plan:
    """The work of a training from `start_step` on, and of its evaluation.

    Args:
        evaluation: with the number of images that it will have, see `evaluation.drawings.sized`.
    """
    splits = {split.name: split for split in data.splits}
    events = _events(spec, start_step)
    seen = [splits["train"], splits["val"]]
    photos = sum(min(spec.validation_images, split.num_images) for split in seen)
    encoded = [*seen, splits["train"]] if spec.random_flip else seen  # the mirrored photos
    test = splits["test"]
    drawn = min(evaluation.num_images or test.num_images, test.num_images) * evaluation.images_per_caption
    kept = min(spec.candidates_total_limit, len(_candidates(spec, 0)))
    chosen = kept * min(evaluation.choice_images, splits["val"].num_images) if kept > 1 else 0
    return Plan(
        start_step=start_step,
        num_steps=spec.max_train_steps - start_step,
        num_validations=events["validations"],
        num_candidates=events["candidates"],
        num_checkpoints=events["checkpoints"],
        held_out_passes=TIMESTEPS_PER_PHOTO * photos,
        num_samples=len(spec.validation_prompts) or min(4, splits["val"].num_captions),
        num_photos_to_encode=0 if is_cached else sum(split.num_images for split in encoded),
        num_captions_to_encode=0 if is_cached else sum(split.num_captions + 1 for split in seen),
        num_choice_drawings=chosen,
        num_drawings=drawn * ARMS,
        num_judged=chosen + drawn * ARMS + sum(split.num_images for split in splits.values()),
        test_passes=ARMS * TIMESTEPS_PER_PHOTO * min(spec.validation_images, test.num_images),
        num_test_photos_to_encode=0 if is_cached else test.num_images,
    )


def _events(spec: TrainSpec, start: int) -> dict[str, int]:
    last = spec.max_train_steps
    candidates = _candidates(spec, start)
    validations = candidates | _multiples(start, last, spec.validation_steps)
    checkpoints = validations | _multiples(start, last, spec.checkpointing_steps)
    before = int(start == 0)  # the base is measured, exported and saved before the first step
    return {
        "candidates": len(candidates) + before,
        "validations": len(validations) + before,
        "checkpoints": len(checkpoints) + before,
    }


def _candidates(spec: TrainSpec, start: int) -> set[int]:
    last = spec.max_train_steps
    return _multiples(start, last, spec.save_steps) | ({last} if last > start else set())


def _multiples(start: int, last: int, every: int) -> set[int]:
    """Steps in start+1 … last that `every` divides."""
    return set(range((start // every + 1) * every, last + 1, every))

"""The choice of a checkpoint: the shortlisted candidates draw the validation captions, and one is taken."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from shoes import storage
from shoes.evaluation.arms import Tools, draw_arms
from shoes.evaluation.choice import Pictured, choose, lowest, reason, shortlist
from shoes.evaluation.distances import Estimate, are_enough, cmmd, cmmd_difference
from shoes.evaluation.drawings import Drawing, plan_drawings
from shoes.evaluation.features import Looker
from shoes.evaluation.gates import blank_pictures
from shoes.evaluation.inputs import Adapter, Arm, Canvas, JudgeModel, Photos
from shoes.evaluation.statistics import Floats, clip_score, points
from shoes.evaluation.table import interval
from shoes.evaluation.units import Units, choose_units
from shoes.progress import Progress
from shoes.reports import CheckpointChoice, CheckpointScores, HeldOutLoss
from shoes.spec import EvalSpec

log = logging.getLogger(__name__)
_FORMAT = 2  # raise it when a change of this module changes choices


@dataclass(frozen=True)
class ChoiceInputs:
    """All that a choice depends on. Only places, `device` and `batch_size` stay out of its fingerprint."""

    spec: EvalSpec
    validation: Photos
    candidates: Mapping[int, Adapter]
    """Exported adapters by their step."""
    losses: Sequence[HeldOutLoss]
    """Of all validations, the base's (step 0) among them."""
    photo_losses: Mapping[int, Floats]
    """Held-out losses of each candidate, [photos × timesteps]; the same photos and noise for all."""
    loss_captions: Sequence[str]
    """Of those photos."""
    training_captions: Sequence[str]
    """Of the photos that were trained on."""
    canvas: Canvas
    clip: JudgeModel
    device: str
    batch_size: int
    out_dir: Path
    """Choices are kept in files below it, named by their fingerprints."""

    @property
    def drawn(self) -> EvalSpec:
        """What each shortlisted checkpoint draws: one picture for each of some validation photos."""
        changes = {"num_images": self.spec.choice_images, "images_per_caption": 1, "half_width": None}
        return self.spec.model_copy(update=changes)

    @property
    def drawings(self) -> tuple[Drawing, ...]:
        """What each shortlisted checkpoint draws, if pictures can tell them apart."""
        return plan_drawings(self.validation.records, self.drawn)

    @property
    def drawn_units(self) -> Units:
        """What the drawings' CLIP scores are resampled by."""
        drawings = self.drawings
        items = [str(number) for number in range(len(drawings))]
        return choose_units([drawing.prompt for drawing in drawings], items, "picture", self.training_captions)

    @property
    def loss_units(self) -> Units:
        """What the photos' losses are resampled by."""
        items = [str(number) for number in range(len(self.loss_captions))]
        return choose_units(self.loss_captions, items, "photo", self.training_captions)

    @property
    def photo_units(self) -> Units:
        """What the validation photos are resampled by as pictures."""
        records = self.validation.records
        names = [record.image.name for record in records]
        return choose_units([record.caption for record in records], names, "photo", self.training_captions)

    @property
    def fingerprint(self) -> str:
        """Name of the choice."""
        adapters = {step: adapter.sha256 for step, adapter in self.candidates.items()}
        judged = (self.clip.fingerprint, self.validation.fingerprint, self.drawn, self.canvas.settings)
        return storage.fingerprint("choice", _FORMAT, self.canvas.model_fingerprint, adapters, self.losses, judged)


@dataclass(frozen=True)
class _Drawn:
    """The shortlisted checkpoints' pictures as CLIP sees them."""

    cosines: Mapping[int, Floats]
    """With their captions, in the order of the drawings."""
    pictures: Mapping[int, Floats]
    photos: Floats
    units: Sequence[str]
    """Of the drawings, by the photos that they belong to."""
    photo_units: Sequence[str]
    notes: Sequence[str]
    """Which checkpoints drew blank pictures, and so are not here; why CLIP looked on another device than it was to."""

    @property
    def has_distances(self) -> bool:
        """There are enough photos for a distance to mean something."""
        return are_enough(self.units, self.photo_units)


def choose_checkpoint(inputs: ChoiceInputs, tools: Tools, on_progress: Progress) -> CheckpointChoice:
    """The checkpoint to be exported, and why; kept, and returned from then on.

    Pictures are drawn only when more than one checkpoint is shortlisted, and there are enough validation photos for
    pictures to tell them apart; where there are not, it is the one with the lowest held-out loss.

    Raises:
        EvaluationError: pictures are missing or damaged.
        ModelError: CLIP can't be loaded.
    """
    started = time.monotonic()
    kept = kept_choice(inputs)
    if kept is not None:
        return kept
    steps = shortlist({step: inputs.photo_losses[step] for step in inputs.candidates})
    units = inputs.drawn_units
    drawn = _draw(inputs, steps, tools, on_progress) if len(steps) > 1 and units.are_enough else None
    pictured = _picture(inputs, drawn) if drawn is not None else {lowest(inputs.photo_losses): Pictured(None, None)}
    step = choose(pictured)
    why_not = "all of them are blank" if units.are_enough else units.why_too_few
    why = reason(step, steps, pictured, inputs.losses, why_not_drawn=why_not if drawn is None else "")
    why = "; ".join([why, *(drawn.notes if drawn is not None else ())])
    log.info("the checkpoint of step %d is exported: %s", step, why)
    choice = CheckpointChoice(
        fingerprint=inputs.fingerprint,
        step=step,
        reason=why,
        checkpoints=tuple(_scores(loss, inputs, steps, pictured, drawn) for loss in inputs.losses),
        judge=inputs.clip.name if drawn is not None else "",
        num_images=len(drawn.units) if drawn is not None else 0,
        seconds=time.monotonic() - started,
    )
    storage.write_text(_file(inputs), storage.pretty_json(choice))
    return choice


def _file(inputs: ChoiceInputs) -> Path:
    return inputs.out_dir.absolute() / f"{inputs.fingerprint}.json"


def kept_choice(inputs: ChoiceInputs) -> CheckpointChoice | None:
    """The choice of the same inputs that was made before."""
    file = _file(inputs)
    try:
        return CheckpointChoice.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, json.JSONDecodeError) as error:
        log.warning("%s is not a choice of this version and is made again: %s", file, error)
        return None


def _draw(inputs: ChoiceInputs, steps: Sequence[int], tools: Tools, on_progress: Progress) -> _Drawn | None:
    """The pictures of those checkpoints that draw something; none where none does."""
    drawings = inputs.drawings
    arms = {step: Arm(f"step-{step:06d}", inputs.candidates[step]) for step in steps}
    pictures, notes = draw_arms(inputs.canvas, list(arms.values()), drawings, tools, on_progress)
    for note in notes:
        log.info("%s", note)
    blank = [step for step, arm in arms.items() if blank_pictures(pictures[arm.name])]
    if len(blank) == len(arms):
        return None
    looker = Looker(inputs.clip, inputs.canvas.cache_dir, inputs.device, inputs.batch_size, inputs.validation)
    seen = {step: looker.at_pictures(pictures[arms[step].name]) for step in steps if step not in blank}
    photos = looker.at_photos(inputs.validation)
    captions = [drawing.prompt for drawing in drawings]
    texts = looker.read(sorted(set(captions)))
    read = np.stack([texts[caption] for caption in captions])
    cosines = {step: (vectors * read).sum(1) for step, vectors in seen.items()}
    units = inputs.photo_units.names
    said = [*(f"step {step:,} drew blank pictures" for step in blank), *([looker.note] if looker.note else [])]
    return _Drawn(cosines, seen, photos, [units[drawing.record] for drawing in drawings], units, said)


def _picture(inputs: ChoiceInputs, drawn: _Drawn) -> dict[int, Pictured]:
    """Each shortlisted checkpoint against the best of them in fidelity, and in distance."""
    highest = max(drawn.cosines, key=lambda step: (drawn.cosines[step].mean(), -step))
    distances = {step: away.value for step in drawn.pictures if (away := _distance(step, drawn)) is not None}
    nearest = min(distances, key=lambda step: (distances[step], step), default=None)
    found = {}
    for step in drawn.cosines:
        change = points(drawn.cosines[step]) - points(drawn.cosines[highest])
        found[step] = Pictured(
            interval(change, inputs.drawn_units, inputs.spec) if step != highest else None,
            _further(step, nearest, drawn) if nearest is not None and step != nearest else None,
        )
    return found


def _distance(step: int, drawn: _Drawn) -> Estimate | None:
    if not drawn.has_distances:
        return None
    return cmmd(drawn.pictures[step], drawn.photos, drawn.units, real_clusters=drawn.photo_units)


def _further(step: int, nearest: int, drawn: _Drawn) -> Estimate:
    return cmmd_difference(
        drawn.pictures[step],
        drawn.pictures[nearest],
        drawn.photos,
        drawn.units,
        real_clusters=drawn.photo_units,
    )


def _scores(
    loss: HeldOutLoss,
    inputs: ChoiceInputs,
    steps: Sequence[int],
    pictured: Mapping[int, Pictured],
    drawn: _Drawn | None,
) -> CheckpointScores:
    """One row of the table."""
    best = lowest(inputs.photo_losses)
    change = None
    if loss.step in inputs.candidates and loss.step != best:
        values = (inputs.photo_losses[loss.step] - inputs.photo_losses[best]).mean(1)
        change = interval(values, inputs.loss_units, inputs.spec)
    was_drawn = drawn is not None and loss.step in drawn.cosines
    distance = _distance(loss.step, drawn) if drawn is not None and was_drawn else None
    return CheckpointScores(
        step=loss.step,
        loss=loss.mean,
        loss_minus_best=change,
        is_shortlisted=loss.step in steps,
        clip_score=clip_score(drawn.cosines[loss.step]) if drawn is not None and was_drawn else None,
        clip_minus_best=pictured[loss.step].clip_minus_best if was_drawn else None,
        cmmd=distance.value if distance is not None else None,
        cmmd_error=distance.standard_error if distance is not None else None,
    )

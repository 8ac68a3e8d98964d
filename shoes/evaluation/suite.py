"""Base against adapter on the test split: draw, gate, look, score, compare, and keep the result."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from shoes import storage
from shoes.evaluation import gates
from shoes.evaluation.arms import Tools, draw_arms
from shoes.evaluation.drawings import Drawing, plan_drawings
from shoes.evaluation.features import Features, look
from shoes.evaluation.floor import OTHER_THINGS
from shoes.evaluation.gallery import copy_gallery, copy_pairs, write_grid
from shoes.evaluation.inputs import EvaluationInputs
from shoes.evaluation.memorisation import closest_pairs
from shoes.evaluation.repeats import find_nearest, sound_alarm, tell
from shoes.evaluation.scores import REAL, SHUFFLED, UNRELATED, ImageScore, score_arms
from shoes.evaluation.table import Found, break_down, compare, summarise
from shoes.evaluation.words import left_out, why_undecided
from shoes.progress import Progress
from shoes.reports import EvaluationReport, Judge, Role

log = logging.getLogger(__name__)

REPORT, SCORES, GRID = "evaluation.json", "scores.jsonl", "grid.png"


def _silent(done: int, total: int, note: str = "") -> None:
    del done, total, note


def evaluate(inputs: EvaluationInputs, tools: Tools, on_progress: Progress = _silent) -> EvaluationReport:
    """Draw each arm's pictures, score and compare them, and keep the result, which is returned from then on.

    `on_progress` is told after each picture how many of all arms' pictures are there, with the arm's name.

    A data set that can't tell, by its size or its captions, and pictures that are blank are no error: the report says
    why there is no verdict (`undecided`).

    Raises:
        EvaluationError: pictures or scores are missing or damaged, with all the reasons.
        ModelError: a judge can't be loaded.
    """
    started = time.monotonic()
    kept = kept_evaluation(inputs)
    if kept is not None:
        return kept
    folder = _folder(inputs)
    drawings = plan_drawings(inputs.records, inputs.spec)
    gates.require(gates.check_test_split(inputs.records, drawings))
    pictures, notes = draw_arms(inputs.canvas, inputs.arms, drawings, tools, on_progress)
    seen = look(inputs, pictures)
    scores = _score(inputs, drawings, pictures, seen)
    losses = {arm.name: tools.measure_loss(arm) for arm in inputs.arms} if tools.measure_loss else {}
    seen_captions = [record.caption for record in inputs.training.records]
    found = Found(inputs.records, seen_captions, drawings, pictures, scores, seen, losses)
    with storage.new_folder(folder) as partial_folder:
        report = _report(inputs, partial_folder, found, notes)
        report = report.model_copy(update={"seconds": time.monotonic() - started})
        (partial_folder / REPORT).write_text(storage.pretty_json(report), encoding="utf-8")
    return _placed(report, folder)


def kept_evaluation(inputs: EvaluationInputs) -> EvaluationReport | None:
    """The report of the same inputs that was made before, if everything in it is whole."""
    return read_report(_folder(inputs))


def _folder(inputs: EvaluationInputs) -> Path:
    return inputs.out_dir.absolute() / inputs.fingerprint


def read_report(folder: Path) -> EvaluationReport | None:
    """The kept report of a folder, with its paths where it lies now; none if anything in it is not whole."""
    if not storage.is_whole(folder):
        return None
    try:
        report = EvaluationReport.model_validate_json((folder / REPORT).read_bytes())
    except (ValidationError, FileNotFoundError) as error:
        log.warning("%s is not a report of this version and is made again: %s", folder / REPORT, error)
        return None
    return _placed(report, folder)


def _placed(report: EvaluationReport, folder: Path) -> EvaluationReport:
    """A report whose paths, relative on disk, begin at the folder where it lies."""
    rows = tuple(
        row.model_copy(
            update={
                "pictures": {arm: folder / path for arm, path in row.pictures.items()},
                "real": folder / row.real,
                "nearest": folder / row.nearest if row.nearest is not None else None,
            }
        )
        for row in report.gallery
    )
    repeated = report.memorisation
    if repeated is not None:
        pairs = (p.model_copy(update={"drawn": folder / p.drawn, "photo": folder / p.photo}) for p in repeated.pairs)
        repeated = repeated.model_copy(update={"pairs": tuple(pairs)})
    places = {"path": folder, "grid": folder / GRID, "scores": folder / SCORES}
    return report.model_copy(update={**places, "gallery": rows, "memorisation": repeated})


def _score(
    inputs: EvaluationInputs,
    drawings: Sequence[Drawing],
    pictures: Mapping[str, Sequence[Path]],
    seen: Mapping[Role, Features],
) -> dict[str, list[ImageScore]]:
    """Scores that passed the gates."""
    scores = score_arms(seen, inputs.records, drawings, pictures, seed=inputs.spec.seed)
    num_photos = len({drawing.record for drawing in drawings})
    floors = {SHUFFLED: num_photos, UNRELATED: num_photos * len(OTHER_THINGS)}
    controls = {REAL: num_photos, **{control: count for control, count in floors.items() if control in scores}}
    expected = {**dict.fromkeys(pictures, len(drawings)), **controls}
    gates.require(gates.check_scores(scores, expected))
    return scores


def _report(inputs: EvaluationInputs, folder: Path, found: Found, notes: Sequence[str]) -> EvaluationReport:
    """Sum up, and write what belongs to it into `folder`; paths are relative to it."""
    _write_scores(folder / SCORES, found.scores)
    write_grid(folder / GRID, found.records, found.drawings, found.pictures)
    judge, training = found.seen[found.pictures_judge], inputs.training.records
    drawn = find_nearest(judge.arms["adapter"], judge, training)
    held_out = [*found.records, *inputs.validation.records]
    alarm = sound_alarm(drawn, found.drawings, held_out, judge, inputs.gate)
    closest = [picture for picture, _ in closest_pairs(drawn.cosines, drawn.indices)]
    pairs = copy_pairs(folder, found.drawings, found.pictures["adapter"], drawn, closest)
    by_role = inputs.judges.by_role()
    others = [arm.name for arm in inputs.arms if arm.name != "adapter"]
    memorisation = tell(alarm, by_role[found.pictures_judge].name, pairs) if alarm is not None else None
    return EvaluationReport(
        fingerprint=inputs.fingerprint,
        path=Path(),
        adapter_sha256=inputs.adapter.sha256,
        arms=summarise(found, inputs.spec),
        comparisons=tuple(compare(("adapter", other), found, inputs.spec) for other in others),
        grid=Path(GRID),
        scores=Path(SCORES),
        seconds=0.0,
        judges=tuple(Judge(role=role, name=who.name, note=who.note) for role, who in by_role.items()),
        breakdowns=break_down(found, inputs.spec),
        memorisation=memorisation,
        gallery=copy_gallery(folder, found.records, found.drawings, found.pictures, drawn),
        half_width_wanted=inputs.spec.half_width,
        notes=(
            *inputs.left_out,
            *notes,
            *(seen.note for seen in found.seen.values() if seen.note),
            *left_out(found, memorisation),
        ),
        undecided=why_undecided(found),
        num_blank={arm: len(blank) for arm, blank in found.blank.items()},
    )


def _write_scores(path: Path, scores: Mapping[str, Sequence[ImageScore]]) -> None:
    lines = [storage.canonical_json(row) for rows in scores.values() for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

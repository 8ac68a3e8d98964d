"""Base against adapter on the test split: draw, gate, score, compare, and keep the result."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from shoes import storage
from shoes.evaluation import gates
from shoes.evaluation.clip import load_clip
from shoes.evaluation.drawings import Drawing, Record, plan_drawings
from shoes.evaluation.grid import Row, comparison_grid, pick_rows, short_labels
from shoes.evaluation.inputs import Arm, EvaluationInputs
from shoes.evaluation.pictures import Draw, draw_set, open_picture, set_folder
from shoes.evaluation.scores import REAL, SHUFFLED, ImageScore, score_arms
from shoes.evaluation.table import compare, summarise
from shoes.progress import Progress
from shoes.reports import EvaluationReport

log = logging.getLogger(__name__)

REPORT, SCORES, GRID = "evaluation.json", "scores.jsonl", "grid.png"
_GRID_ROWS = 6
_TITLES = {"base": "Base model", "adapter": "With adapter", "champion": "Champion", REAL: "Test photo"}


def _silent(done: int, total: int, note: str = "") -> None:
    del done, total, note


def evaluate(
    inputs: EvaluationInputs, draw_arm: Callable[[Arm], Draw], on_progress: Progress = _silent
) -> EvaluationReport:
    """Draw each arm's pictures, score and compare them, and keep the result, which is returned from then on.

    `draw_arm` loads the model of an arm and returns what draws with it. It is called only for an arm of which
    some picture is missing, one arm after the other. `on_progress` is told after each picture how many of all
    arms' pictures are there, with the arm's name.

    Raises:
        EvaluationError: no verdict can be given, with all the reasons.
        ModelError: CLIP can't be loaded.
    """
    started = time.monotonic()
    folder = inputs.out_dir.absolute() / inputs.fingerprint
    kept = _read_report(folder)
    if kept is not None:
        return kept
    drawings = plan_drawings(inputs.records, inputs.spec)
    gates.require(gates.check_test_split(inputs.records, drawings))
    pictures = _draw(inputs, drawings, draw_arm, on_progress)
    gates.require([p for arm, paths in pictures.items() for p in gates.check_pictures(arm, paths, len(drawings))])
    scores = _score(inputs, drawings, pictures)
    with storage.new_folder(folder) as partial_folder:
        _write_scores(partial_folder / SCORES, scores)
        _write_grid(partial_folder / GRID, inputs.records, drawings, pictures)
        report = _report(inputs, folder, scores, pictures, time.monotonic() - started)
        (partial_folder / REPORT).write_text(storage.pretty_json(report), encoding="utf-8")
    return report


def _read_report(folder: Path) -> EvaluationReport | None:
    """The kept report, with its paths where the folder lies now; none if anything in it is not whole."""
    if not storage.is_whole(folder):
        return None
    try:
        report = EvaluationReport.model_validate_json((folder / REPORT).read_bytes())
    except (ValidationError, FileNotFoundError) as error:
        log.warning("%s is not a report of this version and is made again: %s", folder / REPORT, error)
        return None
    return report.model_copy(update={"path": folder, "grid": folder / GRID, "scores": folder / SCORES})


def _draw(
    inputs: EvaluationInputs,
    drawings: Sequence[Drawing],
    draw_arm: Callable[[Arm], Draw],
    on_progress: Progress,
) -> dict[str, list[Path]]:
    """Every arm's pictures, by its name."""
    total = len(drawings) * len(inputs.arms)
    pictures = {}
    for number, arm in enumerate(inputs.arms):
        pictures[str(arm.name)] = draw_set(
            _set_folder(inputs, arm, drawings),
            drawings,
            partial(draw_arm, arm),
            metadata=_about(inputs, arm),
            on_picture=_shifted(on_progress, number * len(drawings), total, arm.name),
        )
    return pictures


def _shifted(on_progress: Progress, before: int, total: int, note: str) -> Callable[[int], None]:
    """Progress of one arm as progress of all."""
    return lambda done: on_progress(before + done, total, note)


def _set_folder(inputs: EvaluationInputs, arm: Arm, drawings: Sequence[Drawing]) -> Path:
    return set_folder(
        inputs.cache_dir.absolute(),
        model_fingerprint=inputs.model_fingerprint,
        adapter_sha256=arm.adapter.sha256 if arm.adapter else None,
        drawings=drawings,
        settings=inputs.settings,
    )


def _about(inputs: EvaluationInputs, arm: Arm) -> dict[str, str]:
    """What is written into each picture, beside its prompt and seed."""
    return {
        "model": inputs.model_fingerprint,
        "adapter": arm.adapter.sha256 if arm.adapter else "none",
        "settings": storage.canonical_json(inputs.settings),
    }


def _score(
    inputs: EvaluationInputs, drawings: Sequence[Drawing], pictures: Mapping[str, Sequence[Path]]
) -> dict[str, list[ImageScore]]:
    """Scores that passed the gates."""
    clip = load_clip(inputs.clip_path, inputs.device)
    scores = score_arms(clip, inputs.records, drawings, pictures, seed=inputs.spec.seed, batch_size=inputs.batch_size)
    num_photos = len({drawing.record for drawing in drawings})
    expected = {**dict.fromkeys(pictures, len(drawings)), REAL: num_photos, SHUFFLED: num_photos}
    gates.require(gates.check_scores(scores, expected))
    return scores


def _report(
    inputs: EvaluationInputs,
    folder: Path,
    scores: Mapping[str, Sequence[ImageScore]],
    pictures: Mapping[str, Sequence[Path]],
    seconds: float,
) -> EvaluationReport:
    others = [arm.name for arm in inputs.arms if arm.name != "adapter"]
    return EvaluationReport(
        fingerprint=inputs.fingerprint,
        path=folder,
        adapter_sha256=inputs.adapter.sha256,
        arms=tuple(summarise(arm, rows, inputs.spec) for arm, rows in scores.items()),
        comparisons=tuple(compare(("adapter", other), scores, pictures, inputs.spec) for other in others),
        grid=folder / GRID,
        scores=folder / SCORES,
        seconds=seconds,
    )


def _write_scores(path: Path, scores: Mapping[str, Sequence[ImageScore]]) -> None:
    lines = [storage.canonical_json(row) for rows in scores.values() for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_grid(
    path: Path,
    records: Sequence[Record],
    drawings: Sequence[Drawing],
    pictures: Mapping[str, Sequence[Path]],
) -> None:
    chosen = pick_rows([drawing.prompt for drawing in drawings], _GRID_ROWS)
    labels = short_labels([drawings[i].prompt for i in chosen])
    titles = [_TITLES[column] for column in (*pictures, REAL)]
    rows = []
    for i, label in zip(chosen, labels, strict=True):
        files = [*(paths[i] for paths in pictures.values()), records[drawings[i].record].image]
        rows.append(Row(_lines(label), [open_picture(file) for file in files]))
    note = "Same prompt and same seed along each row. The test photo is the one whose caption is the prompt."
    comparison_grid(titles, rows, note).save(path)


def _lines(label: str) -> str:
    """A label with what comes after its first comma on a line of its own."""
    first, _, rest = (label[:1].upper() + label[1:]).partition(", ")
    return f"{first}\n{rest}" if rest else first

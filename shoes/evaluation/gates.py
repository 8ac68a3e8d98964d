"""What must hold before any verdict: all pictures there, none blank, finite scores, a CLIP that can tell.

Each check returns its problems, so that a person reads all of them at once. What the data set is like is no problem
that stops an evaluation: it can leave the night without a verdict, with the reason (`why_clip_cannot_tell`).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from shoes.errors import EvaluationError, Problem
from shoes.evaluation.drawings import Drawing, Record
from shoes.evaluation.pictures import is_blank, is_readable, open_picture
from shoes.evaluation.scores import REAL, SHUFFLED, ImageScore
from shoes.evaluation.statistics import points

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


def require(problems: Sequence[Problem]) -> None:
    """Stop without a verdict if anything is wrong.

    Raises:
        EvaluationError: with all the problems.
    """
    if problems:
        raise EvaluationError(problems)


def check_test_split(records: Sequence[Record], drawings: Sequence[Drawing]) -> list[Problem]:
    """Every photo can be read."""
    paths = (records[i].image for i in sorted({drawing.record for drawing in drawings}))
    damaged = [path for path in paths if not is_readable(path)]
    if not damaged:
        return []
    what = f"{len(damaged)} photos are missing or damaged: {_names(damaged)}"
    return [Problem("test split", what, "import the data set again: shoes data import")]


def check_pictures(arm: str, paths: Sequence[Path], expected: int) -> list[Problem]:
    """Every expected picture of an arm is there, can be read, and shows something."""
    problems = []
    if len(paths) != expected:
        problems.append(Problem(arm, f"{len(paths)} pictures where {expected} were expected", _DRAW_AGAIN))
    faults = [(path, _fault(path)) for path in paths]
    lost = [path for path, fault in faults if fault == "lost"]
    if lost:
        what = f"{len(lost)} of {expected} pictures are missing or damaged: {_names(lost)}"
        problems.append(Problem(arm, what, _DRAW_AGAIN))
    blank = [path for path, fault in faults if fault == "blank"]
    if blank:
        what = f"{len(blank)} of {expected} pictures are blank: {_names(blank)} in {blank[0].parent}"
        fix = "draw in full precision (train.mixed_precision no); delete that folder to draw them again"
        problems.append(Problem(arm, what, fix))
    return problems


def _fault(path: Path) -> Literal["lost", "blank"] | None:
    try:
        return "blank" if is_blank(open_picture(path)) else None
    except OSError:
        return "lost"


def judge(pixels: "torch.Tensor", picture: "Image") -> Literal["OK", "blank", "NaN"]:
    """What is wrong with a picture that was made of float `pixels`, if something is."""
    if not bool(pixels.isfinite().all()):
        return "NaN"
    return "blank" if is_blank(picture) else "OK"


def check_scores(scores: Mapping[str, Sequence[ImageScore]], expected: Mapping[str, int]) -> list[Problem]:
    """Every arm has a finite score for each of its images."""
    problems = []
    for arm, count in expected.items():
        rows = scores.get(arm, ())
        if len(rows) != count:
            what = f"{len(rows)} scores where {count} were expected"
            problems.append(Problem(arm, what, "run the evaluation again"))
        broken = [row.image for row in rows if not _is_finite(row)]
        if broken:
            what = f"{len(broken)} of {count} scores are not finite: {', '.join(broken[:3])}"
            fix = "score on another device (train.device cpu), and verify CLIP's files: shoes model verify"
            problems.append(Problem(arm, what, fix))
    return problems


def why_clip_cannot_tell(scores: Mapping[str, Sequence[ImageScore]]) -> str:
    """Why CLIP's scores mean nothing on these photos, by the controls, as the rest of a sentence; empty: they do.

    Where all captions are equal there is no floor, and nothing is said.
    """
    if SHUFFLED not in scores:
        return ""
    ceiling, floor = (points([row.cosine for row in scores[control]]).mean() for control in (REAL, SHUFFLED))
    if ceiling > floor:
        return ""
    return (
        f"the test photos match their own captions ({ceiling:.2f}) no better than those of others ({floor:.2f}): check "
        "that captions and photos belong together, or use a CLIP that knows such pictures"
    )


def _is_finite(row: ImageScore) -> bool:
    values = (row.cosine, row.photo_cosine, row.second_cosine, row.dino_cosine)
    return bool(np.isfinite([value for value in values if value is not None]).all())


def _names(paths: Iterable[Path]) -> str:
    names = [path.name for path in paths]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


_DRAW_AGAIN = "run the evaluation again: what is missing is drawn again"

"""What must hold before any verdict: all pictures there, none blank, finite scores, a CLIP that can tell.

Each check returns its problems, so that a person reads all of them at once. What another try would find again is no
problem that stops an evaluation, a data set that can't tell or a model that draws blank pictures: it can leave the
night without a verdict, with the reason (`why_clip_cannot_tell`, `why_blank`).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from shoes.errors import EvaluationError, Problem
from shoes.evaluation.drawings import Drawing, Record
from shoes.evaluation.pictures import is_blank, is_readable, open_picture
from shoes.evaluation.scores import REAL, SHUFFLED, UNRELATED, ImageScore
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
    """Every expected picture of an arm is there and can be read."""
    problems = []
    if len(paths) != expected:
        problems.append(Problem(arm, f"{len(paths)} pictures where {expected} were expected", _DRAW_AGAIN))
    lost = [path for path in paths if not is_readable(path)]
    if lost:
        what = f"{len(lost)} of {expected} pictures are missing or damaged: {_names(lost)}"
        problems.append(Problem(arm, what, _DRAW_AGAIN))
    return problems


def why_blank(pictures: Mapping[str, Sequence[Path]], blank: Mapping[str, Sequence[Path]]) -> str:
    """Why arms can't be judged by their pictures, as the rest of a sentence; empty: every picture shows something.

    Args:
        pictures: of each arm, all of them; what came out blank in half precision was drawn again in fp32.
        blank: those that show nothing, of each arm that has any.
    """
    told = [f"{len(found)} of {len(pictures[arm])} by {arm} ({_names(found)})" for arm, found in blank.items()]
    return f"pictures are blank, in fp32 as well: {', '.join(told)}" if told else ""


def blank_pictures(paths: Sequence[Path]) -> list[Path]:
    """Those that show nothing."""
    return [path for path in paths if is_blank(open_picture(path))]


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


def _floor(control: str, rows: Sequence[ImageScore]) -> float:
    """What a wrong caption scores: of photos' captions the mean; of captions of other things the best one's mean.

    A CLIP that can't read gives any of these the first place, so the mean of all would be beaten by chance.
    """
    captions = [row.scored_caption if control == UNRELATED else "" for row in rows]
    cosines = np.array([row.cosine for row in rows])
    return max(float(points(cosines[[one == which for one in captions]]).mean()) for which in set(captions))


def why_clip_cannot_tell(scores: Mapping[str, Sequence[ImageScore]]) -> str:
    """Why CLIP's scores mean nothing on these photos, by the controls, as the rest of a sentence; empty: they do.

    Where there is no floor nothing is said.
    """
    below = next((control for control in (SHUFFLED, UNRELATED) if control in scores), None)
    if below is None:
        return ""
    ceiling = points([row.cosine for row in scores[REAL]]).mean()
    floor = _floor(below, scores[below])
    if ceiling > floor:
        return ""
    if below == UNRELATED:
        return (
            f"the test photos match their caption ({ceiling:.2f}) no better than captions of other things "
            f"({floor:.2f}): give captions that say what the photos show, or use a CLIP that knows such pictures"
        )
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

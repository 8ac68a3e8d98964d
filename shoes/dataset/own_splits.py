"""Splits of a person's own, in place of those of the prepared data set."""

from pathlib import Path

from shoes.dataset.records import read_split
from shoes.errors import DataError, Problem
from shoes.spec import TrainSpec


def own_split_problems(spec: TrainSpec) -> list[Problem]:
    """What is wrong with the folders that a training names for its photos; empty where it names none.

    Of each photo the header is read.
    """
    problems = []
    for name in ("train_data_dir", "validation_data_dir"):
        given = getattr(spec, name)
        if given is None:
            continue
        folder = Path(given).expanduser()
        if folder.is_dir():
            problems += read_split(folder, resolution=spec.resolution, decode=False)[1]
        else:
            fix = f"correct train.{name}, or leave it out: then the prepared data set is used"
            problems.append(Problem(str(folder.absolute()), "there is no such folder", fix))
    return problems


def require_own_splits(spec: TrainSpec) -> None:
    """What a training names for its photos is there and can be read.

    Raises:
        DataError: with all that is wrong.
    """
    if problems := own_split_problems(spec):
        raise DataError(problems)

"""Whether a night on a data set can come to a verdict: known before the first step."""

from collections.abc import Sequence
from pathlib import Path

from shoes import dataset
from shoes.evaluation.drawings import Record, plan_drawings
from shoes.evaluation.units import Units, choose_units
from shoes.reports import FEW_UNITS
from shoes.spec import EvalSpec, Recipe


def judged_by(records: Sequence[Record], training_captions: Sequence[str], spec: EvalSpec) -> Units:
    """What the difference of adapter and base will be resampled by: `are_enough` says whether there is a verdict.

    Args:
        records: the test split.
        training_captions: of the photos that are trained on.
        spec: how many of the test photos' captions are drawn, and how often.
    """
    drawings = plan_drawings(records, spec)
    items = [str(number) for number in range(len(drawings))]
    return choose_units([drawing.prompt for drawing in drawings], items, "picture", training_captions)


def prospects(recipe: Recipe, data_set: Path) -> Units:
    """`judged_by` of a recipe's data set; the training photos' captions are read only where the test's are few."""
    given = recipe.train.train_data_dir
    records = dataset.load_split(data_set / "test", decode=False)
    is_few = len({record.caption for record in records}) < FEW_UNITS
    training = Path(given).expanduser() if given else data_set / "train"
    trained_on = dataset.load_split(training, decode=False) if is_few else records
    return judged_by(records, [record.caption for record in trained_on], recipe.eval)

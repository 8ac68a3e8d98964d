"""Does the adapter repeat training photos? Its pictures against held-out photos, by their nearest training photo."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shoes.evaluation.drawings import Drawing, Record
from shoes.evaluation.features import Features
from shoes.evaluation.memorisation import Alarm, alarm, is_enough, nearest
from shoes.evaluation.statistics import Floats
from shoes.reports import ClosePair, Memorisation
from shoes.spec import GateSpec


@dataclass(frozen=True)
class Nearest:
    """For each picture the training photo that is nearest to it."""

    indices: NDArray[np.intp]
    cosines: Floats
    training: Sequence[Record]

    def photo(self, picture: int) -> Path:
        """Its file."""
        return self.training[int(self.indices[picture])].image


def find_nearest(pictures: Floats, seen: Features, training: Sequence[Record]) -> Nearest:
    """The nearest training photo of each picture."""
    assert seen.training is not None, "the judge of pictures looks at the training photos"
    indices, cosines = nearest(pictures, seen.training)
    return Nearest(indices, cosines, training)


def sound_alarm(
    drawn: Nearest, drawings: Sequence[Drawing], held_out: Sequence[Record], seen: Features, gate: GateSpec
) -> Alarm | None:
    """The alarm on an adapter's pictures; none where there are fewer than two pictures to look at.

    Args:
        held_out: the test photos, then the validation photos: what is to be expected of photos that were not seen.
    """
    if min(len(drawings), len(held_out)) < 2:
        return None
    prompts, captions = [drawing.prompt for drawing in drawings], [record.caption for record in held_out]
    are_all_equal = len({*prompts, *captions}) == 1  # then a caption says nothing of which pictures are alike
    assert seen.validation is not None, "the judge of pictures looks at the validation photos"
    expected = find_nearest(np.concatenate([seen.photos, seen.validation]), seen, drawn.training)
    return alarm(
        drawn.cosines,
        expected.cosines,
        drawn_clusters=None if are_all_equal else prompts,
        held_out_clusters=None if are_all_equal else captions,
        max_z=gate.max_memorisation_z,
        min_p=gate.min_memorisation_p,
    )


def tell(found: Alarm, judge: str, pairs: tuple[ClosePair, ...]) -> Memorisation:
    """The alarm as a report has it."""
    return Memorisation(
        fires=found.fires,
        reason=found.reason,
        judge=judge,
        z=found.z,
        p_tail=found.p_tail,
        share_close=found.share_close,
        num_drawn=found.num_drawn,
        num_held_out=found.num_held_out,
        is_enough=is_enough(found.num_drawn),
        pairs=pairs,
    )

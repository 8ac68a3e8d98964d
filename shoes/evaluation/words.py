"""What an evaluation says of numbers that it can't give."""

from collections.abc import Iterator

from shoes.evaluation.gates import why_blank, why_clip_cannot_tell
from shoes.evaluation.scores import UNRELATED
from shoes.evaluation.table import LEAST_PHOTOS, Found
from shoes.reports import FEW_UNITS, Memorisation


def why_undecided(found: Found) -> str:
    """Why adapter and base can't be compared, as the rest of a sentence; empty: they can.

    Blank pictures can't be compared; a CLIP that can't tell these photos' captions apart says nothing; neither do too
    few captions or pictures.
    """
    units = found.units(found.scores["adapter"], "picture")
    too_few = "" if units.are_enough else units.why_too_few
    return why_blank(found.pictures, found.blank) or too_few or why_clip_cannot_tell(found.scores)


def left_out(found: Found, memorisation: Memorisation | None) -> Iterator[str]:
    """What is not in the report because the data set is so small or so uniform, and what that means."""
    units, num_captions = found.units(found.scores["adapter"], "picture"), len(set(found.captions))
    if units.unit != "caption" and units.are_enough:
        those = "this caption" if num_captions == 1 else "these captions"
        yield (
            f"the data set has no other captions than {num_captions}: intervals are over pictures (CLIP score) and "
            f"photos (likeness, loss), and hold for {those} alone"
        )
    if UNRELATED in found.scores:
        yield "all captions are equal and can't be shuffled: the floor is the photos with captions of other things"
    if not found.has_distances:
        noun = "photos" if found.photo_units.unit == "photo" else "captions of test photos"
        yield (
            f"no distances (CMMD): they take {FEW_UNITS} different {noun}, and "
            f"{found.photo_units.count} {'is' if found.photo_units.count == 1 else 'are'} here"
        )
    if min(len(found.records), len(found.drawings)) < LEAST_PHOTOS:
        yield f"no precision, recall, density, coverage or Vendi score: they take {LEAST_PHOTOS} test photos"
    if memorisation is None:
        yield "whether training photos are repeated was not looked for: that takes two pictures"

"""Which product goes into which split: by whole groups, stratified by colour, decided by a seed alone."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from shoes.spec import DataSpec

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
RARE = "(rare)"
LEAST_PHOTOS = 2
"""In each split: one photo has nothing beside it that it could be compared with."""
LEAST_DATA_SET = LEAST_PHOTOS * len(SPLITS)


def strata(colours: Mapping[str, str], rare_below: int) -> dict[str, str]:
    """Each product's stratum: its colour, or one for all colours of fewer than `rare_below` products."""
    rare = rare_colours(colours, rare_below)
    return {name: RARE if colour in rare else colour for name, colour in colours.items()}


def rare_colours(colours: Mapping[str, str], rare_below: int) -> dict[str, int]:
    """Colours of fewer than `rare_below` products, with their numbers."""
    counts = Counter(colours.values())
    return {colour: counts[colour] for colour in sorted(counts) if counts[colour] < rare_below}


def assign(groups: Sequence[Sequence[str]], stratum_of: Mapping[str, str], spec: DataSpec) -> dict[str, SplitName]:
    """Put every product into a split; a group is never divided.

    The groups stand in one line, stratum after stratum and shuffled within, and each goes where most is
    owed so far. What one stratum's rounding leaves over is thus made good in the next, so that the totals
    are right too; rounding every stratum by itself would add the errors up. In small sets that would leave a split
    with less than `LEAST_PHOTOS`; such a split is filled up by whole groups of another, where there are groups
    enough.
    """
    shares: dict[SplitName, float] = {
        "train": 1 - spec.val_fraction - spec.test_fraction,
        "val": spec.val_fraction,
        "test": spec.test_fraction,
    }
    owed: dict[SplitName, float] = dict.fromkeys(SPLITS, 0.0)
    dealt: dict[SplitName, list[list[str]]] = {split: [] for split in SPLITS}
    for group in _line(groups, stratum_of, spec.seed):
        for split in SPLITS:
            owed[split] += shares[split] * len(group)
        chosen = max(SPLITS, key=lambda split: owed[split])
        owed[chosen] -= len(group)
        dealt[chosen].append(group)
    _fill_up(dealt, shares, spec.seed)
    return {name: split for split, given in dealt.items() for group in given for name in group}


def too_small(placed: Mapping[str, SplitName]) -> dict[SplitName, int]:
    """The splits that have less than `LEAST_PHOTOS`, with their numbers."""
    counts = Counter(placed.values())
    return {split: counts[split] for split in SPLITS if counts[split] < LEAST_PHOTOS}


def _fill_up(dealt: dict[SplitName, list[list[str]]], shares: Mapping[SplitName, float], seed: int) -> None:
    """Give splits with too few photos the smallest groups of the split that has most beyond its share."""

    def size(split: SplitName) -> int:
        return sum(map(len, dealt[split]))

    total = sum(map(size, SPLITS))
    while wanting := [split for split in SPLITS if size(split) < LEAST_PHOTOS]:
        spare = {
            split: given
            for split in SPLITS
            if (given := [group for group in dealt[split] if size(split) - len(group) >= LEAST_PHOTOS])
        }
        if not spare:
            return
        giver = max(spare, key=lambda split: size(split) - shares[split] * total)
        group = min(spare[giver], key=lambda group: (len(group), _shuffled(group[0], seed)))
        dealt[giver].remove(group)
        dealt[wanting[0]].append(group)


def subset(names: Sequence[str], stratum_of: Mapping[str, str], size: int, seed: int) -> list[str]:
    """`size` of the names (all, if there are fewer), of each stratum in proportion."""
    line = sorted(names, key=lambda name: (stratum_of[name], _shuffled(name, seed)))
    size = min(size, len(line))
    return [name for n, name in enumerate(line) if (n + 1) * size // len(line) > n * size // len(line)]


def _line(groups: Sequence[Sequence[str]], stratum_of: Mapping[str, str], seed: int) -> list[list[str]]:
    def place(group: list[str]) -> tuple[str, int, str]:
        colours = Counter(stratum_of[name] for name in group)
        stratum = min(colours, key=lambda colour: (-colours[colour], colour))
        # Large groups first: the small ones after them even out what they overshoot.
        return stratum, -len(group), _shuffled(group[0], seed)

    return sorted((sorted(group) for group in groups), key=place)


def _shuffled(name: str, seed: int) -> str:
    """A place in the shuffle that depends on nothing but the name and the seed: not on order or version."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()

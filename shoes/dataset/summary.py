"""The description of a data set as text for a terminal."""

from collections.abc import Iterator, Sequence

from shoes.dataset.description import Description, Tally
from shoes.dataset.wording import count

_VALUES_SHOWN = 12
_BAR = 24
_COLUMNS = "{:<22.22}{:>8}{:>8}{:>8}{:>8}"


def text(description: Description) -> str:
    """Counts by split, then each attribute with its values, then sizes and notes."""
    return "\n".join(_lines(description))


def _lines(d: Description) -> Iterator[str]:
    yield f"{d.name}: {count(d.photos.total, 'photo')} of {d.resolution} px, {count(d.num_captions, 'caption')}"
    yield ""
    yield _COLUMNS.format("", "train", "val", "test", "all")
    yield _row(d.photos)
    yield _COLUMNS.format("captions", d.captions.train, d.captions.val, d.captions.test, d.num_captions)
    for name, tallies in d.attributes.items():
        if len(tallies) > 1:
            yield ""
            yield from _values(name, tallies)
    yield ""
    yield from _sizes(d)
    yield f"near-duplicates: {_groups(d)}"
    yield f"captions: {d.caption_words.shortest} to {d.caption_words.longest} words"
    yield from (f"note: {note}" for note in d.notes)


def _values(name: str, tallies: Sequence[Tally]) -> Iterator[str]:
    yield name
    top = max(tally.total for tally in tallies)
    for tally in tallies[:_VALUES_SHOWN]:
        yield f"{_row(tally, indent='  ')}  {_bar(tally.total / top)}"
    if rest := tallies[_VALUES_SHOWN:]:
        others = Tally(
            value=f"{len(rest)} others",
            train=sum(tally.train for tally in rest),
            val=sum(tally.val for tally in rest),
            test=sum(tally.test for tally in rest),
        )
        yield f"{_row(others, indent='  ')}  {_bar(min(1.0, others.total / top))}"


def _row(tally: Tally, indent: str = "") -> str:
    numbers = (f"{n:,}" for n in (tally.train, tally.val, tally.test, tally.total))
    return _COLUMNS.format(indent + tally.value, *numbers)


def _bar(share: float) -> str:
    return "█" * round(share * _BAR) or "▏"


def _sizes(d: Description) -> Iterator[str]:
    if d.original_sizes is None:
        yield "sizes of the originals: not kept when this data set was made"
        return
    shown = [f"{size.width} × {size.height} ({size.photos:,})" for size in d.original_sizes[:6]]
    more = len(d.original_sizes) - len(shown)
    yield f"sizes of the originals: {', '.join(shown)}" + (f" and {more:,} others" if more > 0 else "")


def _groups(d: Description) -> str:
    if d.near_duplicates is None:
        return "not kept when this data set was made"
    if not d.near_duplicates:
        return "none"
    return f"{count(len(d.near_duplicates), 'group')}, {count(sum(map(len, d.near_duplicates)), 'photo')}"

"""The rows as people read them, 100 columns wide."""

import textwrap
from collections.abc import Iterator, Sequence

from benchmarks.device.rows import Row

WIDTH = 100
WHAT, FIGURE = 34, 15
"""Columns of what was measured, and of its figure; the rest is for the note."""
NOTE = WIDTH - WHAT - FIGURE - 6


def lines_of(rows: Sequence[Row]) -> Iterator[str]:
    """The whole table, part after part."""
    for part in dict.fromkeys(row.part for row in rows):
        yield ""
        yield title(part)
        for row in rows:
            if row.part == part:
                yield from lines(row)


def title(part: str) -> str:
    """The line over a part's rows."""
    return part.replace("_", " ")


def lines(row: Row) -> Iterator[str]:
    """One row; long texts go on below."""
    what = textwrap.wrap(row.what, WHAT) or [""]
    figure = textwrap.wrap(row.figure, FIGURE) or [""]
    note = textwrap.wrap(row.note, NOTE) or [""]
    for number in range(max(len(what), len(figure), len(note))):
        cells = [column[number] if number < len(column) else "" for column in (what, figure, note)]
        yield f"  {cells[0]:<{WHAT}}  {cells[1]:>{FIGURE}}  {cells[2]}".rstrip()

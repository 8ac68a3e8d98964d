"""styles.csv of the downloaded catalogue."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shoes.dataset.products import is_id
from shoes.errors import DataError, Problem
from shoes.storage import sha256

STYLES = "styles.csv"
COLUMNS = {
    "gender": "gender",
    "colour": "baseColour",
    "season": "season",
    "year": "year",
    "usage": "usage",
    "article": "articleType",
    "name": "productDisplayName",
}
"""The column that each attribute of a product comes from."""


@dataclass(frozen=True)
class Styles:
    """The table, one row a product."""

    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    num_recovered: int
    """Lines with extra commas, which were parts of the last field."""
    unreadable: tuple[str, ...]
    """Lines that were left out, and why."""
    digest: str
    """SHA-256 of the file."""


def read_styles(path: Path) -> Styles:
    """Read the table; DataError when the file is no such table.

    Each line is read by itself, so that a stray quotation mark costs its own line and not the rest.
    """
    lines = _lines(path)
    columns = tuple(column.strip() for column in _fields(lines[0]) or ())
    if missing := [column for column in ("id", *COLUMNS.values()) if column not in columns]:
        what = f"has no column {', '.join(missing)}; its first line is {lines[0][:200]!r}"
        raise DataError([Problem(str(path), what, "take the styles.csv of the Fashion Product Images catalogue")])
    rows: dict[str, dict[str, str]] = {}
    unreadable: list[str] = []
    num_recovered = 0
    for number, line in enumerate(lines[1:], start=2):
        fields = _fields(line)
        if fields == []:
            continue
        row, what = _row(columns, fields)
        if not what and row["id"].casefold() in rows:
            what = f"the id {row['id']} had a line already"
        if what:
            unreadable.append(f"line {number}: {what}")
            continue
        rows[row["id"].casefold()] = row
        num_recovered += len(fields or ()) > len(columns)
    return Styles(columns, tuple(rows.values()), num_recovered, tuple(unreadable), sha256(path))


def attributes(row: Mapping[str, str]) -> dict[str, str]:
    """What captions and splits ask of a row."""
    return {name: row[column].strip() for name, column in COLUMNS.items()}


def _lines(path: Path) -> list[str]:
    try:
        # Not splitlines(): product names may hold rarer line separators.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 text: {error}"
    except OSError as error:
        what = f"can't be read: {error.strerror}"
    else:
        if any(lines):
            return lines
        what = "is empty"
    raise DataError([Problem(str(path), what, "download the catalogue's styles.csv again")])


def _fields(line: str) -> list[str] | None:
    """The fields of one line, none of a blank one; None when it can't be read."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return None


def _row(columns: tuple[str, ...], fields: list[str] | None) -> tuple[dict[str, str], str]:
    """A row, or what is wrong with it. More fields than columns: the name had commas."""
    if fields is None:
        return {}, "is no CSV"
    if len(fields) < len(columns):
        return {}, f"{len(fields)} fields for {len(columns)} columns"
    last = len(columns) - 1
    row = dict(zip(columns, [*fields[:last], ",".join(fields[last:])], strict=True))
    row["id"] = row["id"].strip()
    return row, "" if is_id(row["id"]) else f"the id {row['id'][:40]!r} can't be a file name"

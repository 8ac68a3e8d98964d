"""Which rows of a source are wanted: its columns against the filters of the spec."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from shoes.dataset.styles import COLUMNS
from shoes.dataset.wording import tally
from shoes.errors import DataError, Problem
from shoes.spec import DataSpec

Row = Mapping[str, str]
Item = TypeVar("Item")

ATTRIBUTES = {
    **{column.casefold(): name for name, column in COLUMNS.items()},
    **{name: name for name in COLUMNS},
    "color": "colour",
    "basecolor": "colour",
    "product": "article",
    "title": "name",
}
"""Attributes of a product, by the names (in lower case, without _) that columns have for them elsewhere."""


def applied_filters(spec: DataSpec, columns: Sequence[str]) -> dict[str, str]:
    """The filters to select by: the spec's, or none when they are the default and the columns are not there.

    The default is for the catalogue; a source that knows no article types holds what it holds.
    """
    is_default = spec.filters == DataSpec.model_fields["filters"].default
    known = _by_plain_name(columns)
    return {} if is_default and any(plain(name) not in known for name in spec.filters) else dict(spec.filters)


def filter_note(spec: DataSpec, filters: Mapping[str, str]) -> list[str]:
    """What to say when the default filter was not applied."""
    if filters == spec.filters:
        return []
    asked = ", ".join(f"{name} = {value}" for name, value in spec.filters.items())
    return [f"all photos taken: the source has no column for the default filter, {asked}"]


def select(
    items: Sequence[Item],
    row_of: Callable[[Item], Row],
    columns: Sequence[str],
    filters: Mapping[str, str],
    *,
    where: str,
) -> list[Item]:
    """Items whose rows have these values in these columns; `article_type` is understood as articleType.

    DataError holds every unknown column, or says which values there are when no item is left. `where` is
    what has the columns, for people.
    """
    known = _by_plain_name(columns)
    unknown = [name for name in filters if plain(name) not in known]
    if unknown:
        fix = f"use one of {', '.join(columns)}" if columns else "leave the filter out: `filters = {}`"
        raise DataError([Problem(f"filters.{name}", f"{where} has no column {name}", fix) for name in unknown])
    wanted = {known[plain(name)]: value.strip().casefold() for name, value in filters.items()}
    chosen = [item for item in items if _has(row_of(item), wanted)]
    if not chosen:
        raise DataError([_no_rows([row_of(item) for item in items], filters, list(wanted))])
    return chosen


def attributes_of(row: Row) -> dict[str, str]:
    """A row's values under the names that captions and splits know, and all its others under their own."""
    found: dict[str, str] = {}
    for column, value in row.items():
        name = ATTRIBUTES.get(plain(column), column)
        if value.strip() and name not in ("id", "image_file", "caption"):
            found.setdefault(name, value.strip())
    return found


def plain(column: str) -> str:
    """A column's name without the ways of writing it: articleType, article_type and Article Type are one."""
    return column.replace("_", "").replace(" ", "").casefold()


def _has(row: Row, wanted: Mapping[str, str]) -> bool:
    return all(row.get(column, "").strip().casefold() == value for column, value in wanted.items())


def _by_plain_name(columns: Sequence[str]) -> dict[str, str]:
    """Columns by their plain names; the catalogue's attributes are known by our names as well."""
    known = {ATTRIBUTES[plain(column)]: column for column in columns if plain(column) in ATTRIBUTES}
    known |= {plain(COLUMNS[name]): column for name, column in known.items() if name in COLUMNS}
    return known | {plain(column): column for column in columns}


def _no_rows(rows: Sequence[Row], filters: Mapping[str, str], columns: list[str]) -> Problem:
    asked = ", ".join(f"{name} = {value}" for name, value in filters.items()) or "no filter"
    values = (f"{c}: {tally(dict(Counter(row.get(c, '') for row in rows).most_common(8)))}" for c in columns)
    return Problem("filters", f"no product has {asked}", "use values that there are: " + "; ".join(values))

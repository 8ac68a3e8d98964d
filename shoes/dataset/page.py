"""The description of a data set as a page, a picture and JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoes.dataset.description import (
    UNKNOWN,
    Description,
    SizeCount,
    Tally,
    describe_records,
    read_records,
)
from shoes.dataset.manifest import read_manifest
from shoes.dataset.records import Record
from shoes.dataset.splits import SplitName
from shoes.dataset.wording import count
from shoes.errors import DataError, Problem
from shoes.litter import visible
from shoes.storage import is_whole, new_folder, pretty_json, sha256

if TYPE_CHECKING:
    from shoes.dataset.samples import Row

PAGE, DATA, SAMPLES = "index.html", "description.json", "samples.png"
VERSION = 1
"""Part of a description's place: raised when the page shows something else."""

TEMPLATE = Path(__file__).with_name("description.html.j2")
_GROUPS_SHOWN, _SIZES_SHOWN, _VALUES_SHOWN = 24, 12, 24


def default_place(descriptions: Path, fingerprint: str) -> Path:
    """Where the description of a data set is kept."""
    return descriptions / (fingerprint[:16] if VERSION == 1 else f"{fingerprint[:16]}-{VERSION}")


def write_page(data_set: Path, out: Path) -> Description:
    """Write index.html, description.json and samples.png of a data set that was verified.

    A description that is there and whole is left as it is. Equal data sets give equal bytes.

    Raises:
        DataError: it is no data set, or `out` holds other files.
    """
    if (made := _read(out)) and made.fingerprint == sha256(data_set / "manifest.json") and is_whole(out):
        return made
    _require_place(out)
    from shoes.dataset.samples import grid, rows_by_colour

    records = read_records(data_set)
    description = describe_records(data_set, read_manifest(data_set), records)
    everything = [record for items in records.values() for record in items]
    colours = description.attributes.get("colour") or (description.photos.model_copy(update={"value": UNKNOWN}),)
    rows = rows_by_colour(everything, colours)
    with new_folder(out) as folder:
        (folder / DATA).write_text(pretty_json(description), encoding="utf-8")
        (folder / PAGE).write_text(_page(description, rows, records), encoding="utf-8")
        grid(rows).save(folder / SAMPLES, "PNG", optimize=True)
    return description


def _read(out: Path) -> Description | None:
    try:
        return Description.model_validate_json((out / DATA).read_bytes())
    except (OSError, ValueError):
        return None


def _require_place(out: Path) -> None:
    """Only a description is ever replaced, never other files."""
    is_free = not out.exists() or (out.is_dir() and not any(visible(out.iterdir(), out)))
    if not is_free and not (out / DATA).is_file():
        fix = "choose another folder: `shoes data describe --out DIR`"
        raise DataError([Problem(str(out), "is there and is no description of a data set", fix)])


def _page(description: Description, rows: "Sequence[Row]", records: Mapping[SplitName, Sequence[Record]]) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        d=description,
        charts=[_chart(name, tallies) for name, tallies in description.attributes.items()],
        samples=_samples(rows),
        groups=_groups(description, records),
        num_groups_left=max(0, len(description.near_duplicates or ()) - _GROUPS_SHOWN),
        sizes=_sizes(description.original_sizes or ()),
        num_sizes=len(description.original_sizes or ()),
        source=_facts(description.source),
        rule=_facts(description.split_rule),
        count=count,
    )


def _chart(name: str, tallies: Sequence[Tally]) -> dict[str, Any]:
    """One attribute's bars; the longest is the full width."""
    top = max(tally.total for tally in tallies)
    all_of_it = sum(tally.total for tally in tallies)
    bars = [
        {
            "value": tally.value,
            "total": tally.total,
            "share": f"{tally.total / all_of_it:.1%}",
            "numbers": (tally.train, tally.val, tally.test),
            "parts": _parts((tally.train, tally.val, tally.test), top),
        }
        for tally in tallies[:_VALUES_SHOWN]
    ]
    rest = tallies[_VALUES_SHOWN:]
    left = f"and {count(len(rest), 'value')} more, {count(sum(t.total for t in rest), 'photo')}" if rest else ""
    return {"name": name, "bars": bars, "num_values": len(tallies), "left": left}


def _parts(numbers: Sequence[int], top: int) -> list[dict[str, str]]:
    """Where each split's part of a bar begins and how long it is, in percent of the longest bar."""
    parts, start = [], 0
    for split, number in zip(("train", "val", "test"), numbers, strict=True):
        parts.append({"split": split, "x": f"{100 * start / top:.3f}", "width": f"{100 * number / top:.3f}"})
        start += number
    return parts


def _samples(rows: "Sequence[Row]") -> list[dict[str, Any]]:
    from shoes.dataset.samples import data_uri, thumbnail

    return [
        {
            "value": row.tally.value,
            "total": row.tally.total,
            "images": [{"uri": data_uri(thumbnail(path)), "id": path.stem} for path in row.images],
        }
        for row in rows
    ]


def _groups(description: Description, records: Mapping[SplitName, Sequence[Record]]) -> list[dict[str, Any]]:
    from shoes.dataset.samples import data_uri, thumbnail

    found = {record.image.stem: (split, record.image) for split, items in records.items() for record in items}
    groups = []
    for group in (description.near_duplicates or ())[:_GROUPS_SHOWN]:
        members = [(name, *found[name]) for name in group if name in found]
        images = [{"id": name, "uri": data_uri(thumbnail(image))} for name, _, image in members]
        groups.append({"split": ", ".join(sorted({split for _, split, _ in members})), "images": images})
    return groups


def _sizes(sizes: Sequence[SizeCount]) -> list[dict[str, Any]]:
    if not sizes:
        return []
    shown = [(f"{size.width} × {size.height}", size.photos) for size in sizes[:_SIZES_SHOWN]]
    if len(sizes) > _SIZES_SHOWN:
        shown.append((f"{len(sizes) - _SIZES_SHOWN:,} others", sum(size.photos for size in sizes[_SIZES_SHOWN:])))
    top = max(photos for _, photos in shown)
    return [{"value": value, "total": photos, "width": f"{100 * photos / top:.3f}"} for value, photos in shown]


def _facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values as people read them."""
    return [(name.replace("_", " "), _as_text(value)) for name, value in sorted(values.items())]


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} = {item}" for name, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

"""Write a data set: photos to squares, squares to splits, captions and the manifest beside them."""

import logging
import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoes.dataset import captions, manifest
from shoes.dataset.products import Product, colours_of, identity_problems
from shoes.dataset.splits import (
    LEAST_DATA_SET,
    LEAST_PHOTOS,
    SPLITS,
    SplitName,
    assign,
    rare_colours,
    strata,
    too_small,
)
from shoes.dataset.wording import count, tally
from shoes.errors import DataError, Problem
from shoes.litter import visible
from shoes.reports import DataReport
from shoes.spec import DataSpec
from shoes.storage import MANIFEST, canonical_json, hash_files, new_folder, pretty_json

if TYPE_CHECKING:
    from shoes.dataset.shelf import Shelf
    from shoes.dataset.staging import Measured

log = logging.getLogger(__name__)
_NAMES_SHOWN = 5
DAMAGED_LIST = "damaged_images.txt"


@dataclass(frozen=True)
class _Filled:
    """What three splits were written of."""

    counts: dict[SplitName, manifest.Count]
    damaged: dict[str, str]
    """What is wrong with photos that were left out, by where they are."""
    groups: list[list[str]]
    """Ids of products whose photos look alike, two or more each."""
    sizes: dict[str, int]
    """How many photos had this width × height."""
    notes: tuple[str, ...]


def write_data_set(  # noqa: PLR0913 - what a data set is made of
    target: Path,
    products: Sequence[Product],
    spec: DataSpec,
    *,
    resolution: int,
    source: Mapping[str, Any],
    notes: Sequence[str] = (),
    listings: Mapping[str, str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> DataReport:
    """Make the data set `target` of `products`: whole, or not at all.

    `source` says in the manifest where the products are from (JSON; no clocks, no absolute paths), `notes`
    what happened on the way, and `listings` are text files to put beside it. Equal products, spec and
    resolution give equal bytes, in whatever order the products come, also after a kill: squares that were
    made stay in `.importing-<name>/` beside the target until the import ends. An older data set at `target`
    is replaced; anything else there is a DataError, as are no usable photos and ids that can't be used.

    Raises:
        DataError: also when the disk is full or can't be written to; then nothing stays behind.
        Busy: another process imports to `target`.
    """
    from shoes.dataset.shelf import fill_shelf
    from shoes.dataset.staging import staging

    started = time.monotonic()
    if problems := [*target_problems(target), *_other_source(target, source), *identity_problems(products)]:
        raise DataError(problems)
    line = sorted(products, key=lambda product: product.id)
    try:
        with staging(target, resolution) as squares:
            shelf = fill_shelf(squares, line, spec, resolution, on_progress)
            with new_folder(target, manifest=False) as folder:
                filled = _fill(folder, line, spec, shelf)
                _write_listings(folder, {**(listings or {}), **_damaged_listing(filled.damaged)})
                made = _manifest(folder, filled, spec, resolution, source, notes)
                manifest.write_manifest(folder, made)
    except OSError as error:  # photos that can't be read are damaged photos, and no errors
        fix = "free some space, or choose another folder: `shoes data import SOURCE --out DIR`"
        raise DataError([Problem(str(target), f"can't be written: {error.strerror or error}", fix)]) from error
    return manifest.report(target, made, started)


def target_problems(target: Path) -> list[Problem]:
    """Why a data set can't be written at `target`: only a data set is ever replaced, never other files."""
    if not target.exists() or (target.is_dir() and not any(visible(target.iterdir(), target))):
        return []
    if not (target / MANIFEST).is_file():
        fix = "move it away, or choose another folder: `shoes data import SOURCE --out DIR`"
        return [Problem(str(target), "is there and is no data set with a manifest", fix)]
    try:
        manifest.read_manifest(target)
    except DataError as error:
        return list(error.problems)
    return []


def _other_source(target: Path, source: Mapping[str, Any]) -> list[Problem]:
    """A data set is made anew from its own source; one from elsewhere is not thrown away for it."""
    if not (target / MANIFEST).is_file():
        return []
    known = manifest.read_manifest(target)
    if known.source.get("name") == source.get("name"):
        num_images = sum(split.images for split in known.counts.values())
        log.info("replacing the data set that is there: %d images of %d px", num_images, known.resolution)
        return []
    fix = "choose another folder: `shoes data import SOURCE --out DIR`, or move the data set away"
    return [Problem(str(target), f"holds a data set from another source, {known.source.get('name')}", fix)]


def _fill(folder: Path, products: Sequence[Product], spec: DataSpec, shelf: "Shelf") -> _Filled:
    """Write the three splits of sorted products."""
    usable = [product for product in products if product.id in shelf.measured]
    colours = colours_of(usable)
    groups = _group(shelf.measured, spec.near_duplicate_bits)
    placed = assign(groups, strata(colours, spec.rare_below), spec)
    _require_three_splits(placed, groups, shelf.damaged, len(products))
    counts = {}
    for split in SPLITS:
        chosen = [product for product in usable if placed[product.id] == split]
        counts[split] = _write_split(folder / split, shelf.staging.squares, chosen, spec.caption_template)
    alike = [group for group in groups if len(group) > 1]
    sizes = Counter("{} × {}".format(*measured.size) for measured in shelf.measured.values())
    plain = sorted(name for name, one in shelf.measured.items() if one.look.is_plain)
    notes = tuple(_notes(shelf.damaged, colours, alike, plain, spec))
    return _Filled(counts, shelf.damaged, alike, dict(sizes), notes)


def _group(measured: Mapping[str, "Measured"], max_bits: int) -> list[list[str]]:
    from shoes.dataset.groups import near_duplicates

    names = sorted(measured)
    groups: defaultdict[int, list[str]] = defaultdict(list)
    for name, label in zip(names, near_duplicates([measured[name].look for name in names], max_bits), strict=True):
        groups[label].append(name)
    return list(groups.values())


def _require_three_splits(
    placed: Mapping[str, SplitName],
    groups: Sequence[Sequence[str]],
    damaged: Mapping[str, str],
    num_products: int,
) -> None:
    small = too_small(placed)
    if not small:
        return
    leave = " and ".join(f"{number or 'nothing'} for {split}" for split, number in small.items())
    together = "near-duplicates are kept in one split"
    alike = f"; {together}, and {len(groups)} are no near-duplicates of others" if len(groups) < len(placed) else ""
    if len(groups) == 1 < len(placed):
        alike = f"; {together}, and all of them are near-duplicates"
    raise DataError(
        [
            *(Problem(where, f"damaged: {what}", "replace the photo") for where, what in damaged.items()),
            Problem(
                "split",
                f"{count(len(placed), 'usable photo')} of {count(num_products, 'product')} leave {leave}, and each of "
                f"{', '.join(SPLITS)} needs {LEAST_PHOTOS}{alike}",
                f"give more photos: at least {LEAST_DATA_SET} that are no near-duplicates of each other",
            ),
        ]
    )


def _write_split(folder: Path, squares: Path, products: Sequence[Product], template: str) -> manifest.Count:
    images = folder / "images"
    images.mkdir(parents=True)
    entries, lines = [], []
    for product in products:
        name = f"{product.id}.png"
        _link(squares / name, images / name)
        caption = product.caption or captions.render(template, product.attributes)
        entries.append({**product.attributes, "id": product.id, "image_file": name, "caption": caption})
        lines.append(canonical_json({"file_name": f"images/{name}", "text": caption}) + "\n")
    (folder / "captions.json").write_text(pretty_json(entries), encoding="utf-8")
    (folder / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    return manifest.Count(images=len(entries), captions=len({entry["caption"] for entry in entries}))


def _manifest(
    folder: Path, filled: _Filled, spec: DataSpec, resolution: int, source: Mapping[str, Any], notes: Sequence[str]
) -> manifest.Manifest:
    found = {
        "damaged_images": len(filled.damaged),
        "original_sizes": filled.sizes,
        "near_duplicates": filled.groups,
    }
    return manifest.Manifest(
        source={**source, **found},
        caption_template=spec.caption_template,
        max_images=spec.max_images,
        resolution=resolution,
        seed=spec.seed,
        split_rule=manifest.rule(spec),
        counts=filled.counts,
        notes=(*notes, *_enlarged(filled.sizes, resolution), *filled.notes),
        files=hash_files(folder),
    )


def _enlarged(sizes: Mapping[str, int], resolution: int) -> Iterable[str]:
    """Photos that have fewer pixels than the squares: an adapter learns their blur as well."""
    small = {size: n for size, n in sizes.items() if max(map(int, size.split(" × "))) < resolution}
    if small:
        most = max(small, key=lambda size: small[size])
        yield (
            f"{sum(small.values()):,} of {count(sum(sizes.values()), 'photo')} had to be enlarged to "
            f"{resolution} px, most from {most}: full-size photos teach finer detail"
        )


def _link(square: Path, place: Path) -> None:
    """Not moved: an import that is killed now still has its squares."""
    try:
        os.link(square, place)
    except OSError:  # external drives often have a file system without links
        shutil.copyfile(square, place)


def _write_listings(folder: Path, listings: Mapping[str, str]) -> None:
    for name, text in listings.items():
        (folder / name).write_text(text, encoding="utf-8")


def _damaged_listing(damaged: Mapping[str, str]) -> dict[str, str]:
    lines = [f"{where}: {what}\n" for where, what in sorted(damaged.items())]
    return {DAMAGED_LIST: "".join(lines)} if lines else {}


def _notes(
    damaged: Mapping[str, str],
    colours: Mapping[str, str],
    alike: Sequence[Sequence[str]],
    plain: Sequence[str],
    spec: DataSpec,
) -> Iterable[str]:
    if damaged:
        yield f"{count(len(damaged), 'damaged photo')} left out (listed in {DAMAGED_LIST})"
    if plain:
        shown = ", ".join(plain[:_NAMES_SHOWN]) + (" …" if len(plain) > _NAMES_SHOWN else "")
        yield f"{count(len(plain), 'photo')} of one colour only: {shown}; take them out, unless that is what they show"
    if rare := rare_colours(colours, spec.rare_below):
        kinds, few = count(len(rare), "colour"), count(spec.rare_below, "product")
        yield f"{kinds} with fewer than {few} stratified together: {tally(rare)}"
    if alike:
        kinds, num_photos = count(len(alike), "group"), count(sum(map(len, alike)), "photo")
        yield f"{kinds} of near-duplicate photos, {num_photos}, each kept in one split"

"""Squares that are written and measured, not yet in their splits. Imports Pillow: import it when writing."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from shoes.dataset import photos
from shoes.dataset.groups import Look, look
from shoes.dataset.products import Product, colours_of
from shoes.dataset.splits import strata, subset
from shoes.spec import DataSpec

Progress = Callable[[int, int], None]
"""Told how many photos are done, and of how many."""


@dataclass(frozen=True)
class Shelf:
    """A folder of squares named by product id."""

    folder: Path
    looks: dict[str, Look] = field(default_factory=dict)
    """By product id."""
    damaged: dict[str, str] = field(default_factory=dict)
    """What is wrong with photos that could not be decoded, by where they are."""


def fill_shelf(
    folder: Path, products: Sequence[Product], spec: DataSpec, resolution: int, on_progress: Progress | None
) -> Shelf:
    """Write the squares of as many products as the spec asks for, taking others for damaged ones."""
    folder.mkdir()
    shelf = Shelf(folder)
    wanted = min(spec.max_images or len(products), len(products))
    left = {product.id: product for product in products}
    stratum_of = strata(colours_of(products), spec.rare_below)

    def tell() -> None:
        if on_progress:
            on_progress(min(len(shelf.looks) + len(shelf.damaged), wanted), wanted)

    while left and len(shelf.looks) < wanted:
        chosen = subset(list(left), stratum_of, wanted - len(shelf.looks), spec.seed)
        _add(shelf, [left.pop(name) for name in chosen], resolution, tell)
    return shelf


def _add(shelf: Shelf, products: Sequence[Product], resolution: int, tell: Callable[[], None]) -> None:
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        with photos.quiet_pillow():
            results = pool.map(lambda product: _square(product, shelf.folder, resolution), products)
            for product, result in zip(products, results, strict=True):
                if isinstance(result, str):
                    shelf.damaged[product.origin or product.id] = result
                else:
                    shelf.looks[product.id] = result
                tell()
    finally:
        # After an error or Ctrl-C, thousands of photos may still be waiting for a thread.
        pool.shutdown(cancel_futures=True)


def _square(product: Product, folder: Path, resolution: int) -> Look | str:
    """Write one square and measure its look, or say what is wrong with the photo."""
    try:
        square = photos.square(product.load(), resolution)
    except photos.DAMAGE as error:
        return photos.reason(error)
    square.save(folder / f"{product.id}.png", "PNG", compress_level=6)
    return look(square)

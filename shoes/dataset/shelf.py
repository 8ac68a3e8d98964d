"""Squares that are written and measured, not yet in their splits. Imports Pillow: import it when writing."""

import hashlib
import io
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from shoes.dataset import photos
from shoes.dataset.groups import look
from shoes.dataset.products import Product, colours_of
from shoes.dataset.splits import strata, subset
from shoes.dataset.staging import Measured, Staging
from shoes.spec import DataSpec

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
"""Told how many photos are done, and of how many."""


@dataclass(frozen=True)
class Shelf:
    """Squares in a staging folder, and photos that gave none."""

    staging: Staging
    measured: dict[str, Measured] = field(default_factory=dict)
    """By product id."""
    damaged: dict[str, str] = field(default_factory=dict)
    """What is wrong with photos that could not be decoded, by where they are."""


def fill_shelf(
    staging: Staging, products: Sequence[Product], spec: DataSpec, resolution: int, on_progress: Progress | None
) -> Shelf:
    """Write the squares of as many products as the spec asks for, taking others for damaged ones."""
    shelf = Shelf(staging)
    wanted = min(spec.max_images or len(products), len(products))
    left = {product.id: product for product in products}
    stratum_of = strata(colours_of(products), spec.rare_below)

    def tell() -> None:
        if on_progress:
            on_progress(min(len(shelf.measured) + len(shelf.damaged), wanted), wanted)

    while left and len(shelf.measured) < wanted:
        chosen = subset(list(left), stratum_of, wanted - len(shelf.measured), spec.seed)
        if not shelf.measured and (num_there := sum(name in staging for name in chosen)):
            log.info("going on: %s of %s photos were there", f"{num_there:,}", f"{wanted:,}")
        _add(shelf, [left.pop(name) for name in chosen], resolution, tell)
    return shelf


def num_threads() -> int:
    """Photos worked on at once. Threads are enough: Pillow lets others run while it decodes, scales and encodes."""
    return min(8, os.cpu_count() or 1)


def _add(shelf: Shelf, products: Sequence[Product], resolution: int, tell: Callable[[], None]) -> None:
    pool = ThreadPoolExecutor(num_threads())
    try:
        with photos.quiet_pillow():
            results = pool.map(lambda product: _square(product, shelf.staging, resolution), products)
            for product, result in zip(products, results, strict=True):
                if isinstance(result, str):
                    shelf.damaged[product.origin or product.id] = result
                else:
                    shelf.measured[product.id] = result
                tell()
    finally:
        # After an error or Ctrl-C, thousands of photos may still be waiting for a thread.
        pool.shutdown(cancel_futures=True)


def _square(product: Product, staging: Staging, resolution: int) -> Measured | str:
    """Write one square and measure its look, or say what is wrong with the photo."""
    try:
        digest = product.digest() if product.digest else None
        if digest and (found := staging.find(product.id, digest)):
            return found
        photo = product.load()
        square = photos.square(photo, resolution)
    except photos.DAMAGE as error:
        return photos.reason(error)
    encoded = io.BytesIO()
    square.save(encoded, "PNG", compress_level=6)
    staging.write(product.id, encoded.getvalue())
    measured = Measured(look(square), photo.size, hashlib.sha256(encoded.getvalue()).hexdigest())
    if digest:
        staging.keep(product.id, digest, measured)
    return measured

"""The parity check at full size: the shapes of a real night."""

from collections.abc import Iterator

from benchmarks.device import ground
from benchmarks.device.parts import parity
from benchmarks.device.place import Place
from benchmarks.device.rows import Row

PART = "full_parity"


def run(place: Place) -> Iterator[Row]:
    where = f"full size, {place.options.resolution} px"
    yield from parity.rows(PART, place, ground.full_job(place, PART), where)

"""The proof of an export at full size, in the precision that this device trains in."""

from collections.abc import Iterator

from benchmarks.device import ground
from benchmarks.device.parts.proof import TRAINED, proved
from benchmarks.device.place import Place
from benchmarks.device.rows import Row

PART = "full_proof"


def run(place: Place) -> Iterator[Row]:
    values = TRAINED | {"train.train_batch_size": "1", "eval.num_inference_steps": "3" if place.options.smoke else "10"}
    yield proved(PART, place, ground.full_job(place, PART, values), place.precision, "full size")

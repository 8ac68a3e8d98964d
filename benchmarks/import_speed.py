"""Import of photos of the catalogue's full size: as it is, against one photo after the other.

    python benchmarks/import_speed.py [--photos N] [--rows N] [--repeats N] [--resolution N] [--quick]

Makes a catalogue of 1080 × 1440 JPEGs in a temporary folder, with as many rows as the real one, and imports it in
turns: on all threads, and on one. Both write the same bytes, which is checked. Prints one JSON line last.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from shoes.dataset import import_data_set, shelf
from shoes.spec import DataSpec

SIZE = (1080, 1440)
COLUMNS = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName"
COLOURS = ("Black", "Brown", "White", "Blue", "Grey")


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        source = make_catalogue(Path(folder) / "catalogue", options.photos, options.rows)
        seconds: dict[int, list[float]] = {shelf.num_threads(): [], 1: []}
        prints = set()
        for repeat in range(options.repeats):
            for threads, times in seconds.items():
                target = Path(folder) / f"set-{threads}-{repeat}"
                took, fingerprint = timed_import(source, target, options.resolution, threads)
                times.append(took)
                prints.add(fingerprint)
                print(f"{threads} threads: {options.photos / took:.1f} photos a second", flush=True)
    assert len(prints) == 1, "the number of threads changed the data set"
    print(json.dumps(figures(options, seconds)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=int, default=240)
    parser.add_argument("--rows", type=int, default=44_349)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--quick", action="store_true", help="40 photos, once")
    options = parser.parse_args()
    if options.quick:
        options.photos, options.repeats = 40, 1
    return options


def make_catalogue(source: Path, num_photos: int, num_rows: int) -> Path:
    (source / "images").mkdir(parents=True)
    lines = [COLUMNS]
    for number in range(num_rows):
        article = "Casual Shoes" if number < num_photos else "Tshirts"
        colour = COLOURS[number % len(COLOURS)]
        lines.append(f"{number},Men,Footwear,Shoes,{article},{colour},Fall,2011,Casual,Product {number}")
    (source / "styles.csv").write_text("\n".join(lines) + "\n")
    for number in range(num_photos):
        draw(number).save(source / "images" / f"{number}.jpg", quality=90)
    return source


def draw(number: int) -> Image.Image:
    """Soft patches on white: about as many bytes as a studio photo."""
    patches = np.random.default_rng(number).integers(0, 255, (80, 100, 3), dtype=np.uint8)
    photo = Image.new("RGB", SIZE, "white")
    photo.paste(Image.fromarray(patches).resize((900, 720), Image.Resampling.BICUBIC), (90, 360))
    return photo


def timed_import(source: Path, target: Path, resolution: int, threads: int) -> tuple[float, str]:
    with patch.object(shelf, "num_threads", lambda: threads):
        started = time.perf_counter()
        report = import_data_set(source, target, DataSpec(), resolution=resolution)
        return time.perf_counter() - started, report.fingerprint


def figures(options: argparse.Namespace, seconds: dict[int, list[float]]) -> dict[str, object]:
    many, one = (statistics.median(times) for times in seconds.values())
    return {
        "benchmark": "import_speed",
        "photos": options.photos,
        "rows": options.rows,
        "size": list(SIZE),
        "resolution": options.resolution,
        "repeats": options.repeats,
        "cpu_cores": os.cpu_count(),
        "threads": next(iter(seconds)),
        "photos_per_second": round(options.photos / many, 1),
        "photos_per_second_on_one_thread": round(options.photos / one, 1),
        "ratio": round(one / many, 2),
    }


if __name__ == "__main__":
    main()

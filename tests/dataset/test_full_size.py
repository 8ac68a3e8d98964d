"""A catalogue as large as the real one: 44,000 rows, 2,845 photos, more than 2,000 of them missing."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from shoes.dataset import import_data_set, verify
from shoes.spec import DataSpec

COLUMNS = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName"
NUM_ROWS, NUM_SHOES, NUM_PHOTOS = 44_000, 5_000, 2_845


@pytest.mark.slow
def test_a_catalogue_of_full_size(draw: Callable[..., Image.Image], tmp_path: Path) -> None:
    source = tmp_path / "catalogue"
    (source / "images").mkdir(parents=True)
    rows = (
        f"{n},Men,Footwear,Shoes,{'Casual Shoes' if n < NUM_SHOES else 'Tshirts'},"
        f"{('Black', 'Brown', 'White', 'Blue')[n % 4]},Fall,2011,Casual,Name {n}{', and more' * (n % 2000 == 0)}"
        for n in range(NUM_ROWS)
    )
    (source / "styles.csv").write_text("\n".join([COLUMNS, *rows]) + "\n")
    for number in range(NUM_PHOTOS):
        draw(number, (160, 120)).save(source / "images" / f"{number}.jpg", quality=95)
    report = import_data_set(source, tmp_path / "set", DataSpec(), resolution=64)
    assert sum(split.num_images for split in report.splits) == NUM_PHOTOS
    for split, share in zip(report.splits, (0.7, 0.15, 0.15), strict=True):
        assert abs(split.num_images - share * NUM_PHOTOS) <= 0.02 * share * NUM_PHOTOS
    assert report.notes[:2] == (
        "22 lines with extra commas recovered",
        f"{NUM_SHOES - NUM_PHOTOS:,} rows without a photo (listed in missing_images.txt)",
    )
    assert verify(tmp_path / "set", resolution=64).fingerprint == report.fingerprint


@pytest.mark.slow
def test_the_benchmark_of_the_import_runs() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "import_speed.py"
    done = subprocess.run([sys.executable, script, "--quick"], capture_output=True, text=True, check=True)
    assert '"benchmark": "import_speed"' in done.stdout.splitlines()[-1]

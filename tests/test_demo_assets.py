"""The scripts that make the demo run end to end on a small catalogue."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shoes.settings import PROJECT_ROOT

CATALOGUE = PROJECT_ROOT.parent / "shared/data/fashion-product-images"


def small_catalogue(target: Path) -> Path:
    """30 casual shoes and 90 other products of the real catalogue."""
    (target / "images").mkdir(parents=True)
    with (CATALOGUE / "styles.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    there = [row for row in rows if (CATALOGUE / f"images/{row[0]}.jpg").exists() and len(row) == len(header)]
    is_shoe = header.index("articleType")
    shoes = [row for row in there if row[is_shoe] == "Casual Shoes"][:30]
    others = [row for row in there if row[is_shoe] != "Casual Shoes"][:90]
    for row in (*shoes, *others):
        shutil.copy(CATALOGUE / f"images/{row[0]}.jpg", target / "images")
    with (target / "styles.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *shoes, *others])
    return target


@pytest.mark.slow
@pytest.mark.skipif(not CATALOGUE.is_dir(), reason="the downloaded catalogue is not beside the checkout")
def test_the_scripts_run_and_install_nothing_when_quick(tmp_path: Path) -> None:
    catalogue = small_catalogue(tmp_path / "catalogue")
    work, target = tmp_path / "work", tmp_path / "target"
    words = ["--quick", "--catalogue", str(catalogue), "--work", str(work), "--target", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", "demo.make", *words],
        cwd=PROJECT_ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (work / "comparison.md").is_file()
    assert not target.exists()

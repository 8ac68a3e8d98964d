"""Small catalogues that are made up, and the real one where it is present."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shoes.dataset import import_data_set
from shoes.spec import DataSpec

COLUMNS = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName"
COLOURS = ("Black", "Brown", "White", "Navy Blue")


def _draw(seed: int, size: tuple[int, int] = (56, 40)) -> Image.Image:
    """A photo of its own: coloured blocks on white."""
    rng = np.random.default_rng(seed)
    blocks = Image.fromarray(rng.integers(0, 200, (5, 6, 3), dtype=np.uint8))
    photo = Image.new("RGB", size, "white")
    photo.paste(blocks.resize((size[0] - 16, size[1] - 16), Image.Resampling.NEAREST), (8, 8))
    return photo


def _row(product_id: str, colour: str, name: str = "A Shoe", article: str = "Casual Shoes") -> str:
    line = io.StringIO()
    row = [product_id, "Men", "Footwear", "Shoes", article, colour, "Fall", "2011", "Casual", name]
    csv.writer(line, lineterminator="").writerow(row)
    return line.getvalue()


@pytest.fixture
def draw() -> Callable[..., Image.Image]:
    return _draw


@pytest.fixture
def row() -> Callable[..., str]:
    return _row


@pytest.fixture
def make_catalogue(tmp_path: Path) -> Callable[..., Path]:
    """Make a catalogue of `size` products with a photo each; `lines` are added to styles.csv as they are."""

    def make(size: int = 40, *, lines: tuple[str, ...] = (), name: str = "catalogue", first: int = 100) -> Path:
        source = tmp_path / name
        (source / "images").mkdir(parents=True)
        ids = [str(first + n) for n in range(size)]
        rows = [_row(i, COLOURS[n % len(COLOURS)], f"Shoe {i}") for n, i in enumerate(ids)]
        (source / "styles.csv").write_text("\n".join([COLUMNS, *rows, *lines]) + "\n", encoding="utf-8")
        for product_id in ids:
            _draw(int(product_id)).save(source / "images" / f"{product_id}.jpg", quality=95)
        return source

    return make


@pytest.fixture
def spec() -> DataSpec:
    return DataSpec()


@pytest.fixture
def data_set(make_catalogue: Callable[..., Path], tmp_path: Path, spec: DataSpec) -> Path:
    """A whole data set of 40 made-up products at 32 px."""
    import_data_set(make_catalogue(), tmp_path / "data" / "set", spec, resolution=32)
    return tmp_path / "data" / "set"


@pytest.fixture(scope="session")
def real_catalogue() -> Path:
    source = Path(__file__).parents[3] / "shared" / "data" / "fashion-product-images"
    if not (source / "styles.csv").is_file():
        pytest.skip(f"the real catalogue is not at {source}")
    return source


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder, with its bytes."""
    return lambda folder: {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }

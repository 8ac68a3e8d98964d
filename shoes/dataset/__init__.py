"""The data set: import, captions, splits, manifest. Light to import; Pillow and NumPy load when used."""

from shoes.dataset.captions import check_template, render
from shoes.dataset.describing import write_description
from shoes.dataset.importing import import_data_set, require_source
from shoes.dataset.preparation import prepare
from shoes.dataset.products import Product
from shoes.dataset.records import Record, load_split
from shoes.dataset.verification import verify
from shoes.dataset.writer import write_data_set

__all__ = [
    "Product",
    "Record",
    "check_template",
    "import_data_set",
    "load_split",
    "prepare",
    "render",
    "require_source",
    "verify",
    "write_data_set",
    "write_description",
]

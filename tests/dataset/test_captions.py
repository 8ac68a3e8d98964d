import subprocess
import sys

import pytest
from pydantic import ValidationError

from shoes.dataset.captions import check_template, render
from shoes.spec import DataSpec

PRODUCT = {"colour": "Navy Blue", "season": "Fall", "gender": "Men", "name": "Puma Men, Blue"}
TEMPLATE = DataSpec().caption_template


def test_the_default_template_says_the_contract() -> None:
    assert render(check_template(TEMPLATE), PRODUCT) == (
        "A professional product photo of navy blue casual shoes, fall collection, men, centered on white background"
    )


@pytest.mark.parametrize("unknown", ["", "NA", "n/a", "nan", "Unknown", " - "])
def test_unknown_values_are_left_out(unknown: str) -> None:
    attributes = {"colour": unknown, "season": unknown, "gender": "Women"}
    assert render(TEMPLATE, attributes) == (
        "A professional product photo of casual shoes, women, centered on white background"
    )


def test_a_caption_is_never_empty_and_names_keep_their_case() -> None:
    assert render("{name}", {}) == "A product photo"
    assert render("{name}. {{new}}", PRODUCT) == "Puma Men, Blue. {new}"
    assert render("A shoe in {colour}.", {}) == "A shoe in."
    assert render("A {colour} shoe", {"colour": "Multi"}) == "A multicolored shoe"


@pytest.mark.parametrize(
    "template", ["{size} shoes", "{} shoes", "{0}", "{colour.x}", "{colour[0]}", "{colour!r}", "{colour:>9}"]
)
def test_unknown_placeholders_are_refused_and_known_ones_named(template: str) -> None:
    with pytest.raises(ValueError, match=r"\{colour\}.*\{season\}"):
        check_template(template)
    with pytest.raises(ValidationError, match="caption_template"):
        DataSpec(caption_template=template)


@pytest.mark.parametrize("template", ["", "  ", "{colour", "colour}"])
def test_broken_templates_are_refused(template: str) -> None:
    with pytest.raises(ValueError, match="known placeholders"):
        check_template(template)


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ("PIL", "numpy", "scipy", "imagehash", "torch", "prefect", "mlflow")
    code = f"import sys, shoes.dataset; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"

"""The demo's report on this machine, made once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shoes import recipes
from shoes.environment.check import Check
from shoes.environment.checks import CHECKS
from shoes.environment.verify import verify
from shoes.reports import EnvironmentReport
from shoes.settings import load_settings


@pytest.fixture(scope="session")
def good_report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvironmentReport]:
    """Every check, with nothing wrong."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.setenv("SHOES_DATA_DIR", str(tmp_path_factory.mktemp("check") / "data"))
        yield verify(recipes.load("demo"), load_settings())


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the person who runs the tests speaks."""
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


@pytest.fixture
def quick_checks() -> list[Check]:
    """All but those that start a process of their own."""
    return [check for check in CHECKS if check.name not in ("Prefect", "MLflow")]


@pytest.fixture
def changed(quick_checks: list[Check]):
    """The checks with one of them changed: `changed("Memory", find=...)`."""

    def change(name: str, **fields: object) -> list[Check]:
        return [replace(check, **fields) if check.name == name else check for check in quick_checks]

    return change


@pytest.fixture
def damaged_data(own_world: Path, small_data: Path) -> Path:
    """A data set of which one image has lost its end."""
    import shutil

    folder = own_world / "data" / "damaged"
    shutil.copytree(small_data, folder)
    image = sorted((folder / "val/images").iterdir())[0]
    image.write_bytes(image.read_bytes()[:-20])
    return folder

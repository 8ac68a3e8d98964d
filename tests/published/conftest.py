"""Models with published layouts, each made once for all tests of a worker."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.published.models import NARROW, Recipe, Size, make_model


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folder of a model, whose files nobody may change: `published("stable-diffusion-v1-5", variant="fp16")`."""

    @cache
    def make(name: str, *, size: Size = NARROW, variant: str | None = None) -> Path:
        folder = tmp_path_factory.mktemp("published") / name.rpartition("/")[2]
        return make_model(folder, Recipe(name, size, variant))

    return make

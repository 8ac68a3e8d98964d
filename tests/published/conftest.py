"""Models with published layouts, each made once for all tests of a worker."""

import socket
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.published.checkpoints import write_checkpoint
from tests.published.models import NARROW, Recipe, Size, make_model


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folder of a model, whose files nobody may change: `published("stable-diffusion-v1-5", variant="fp16")`."""

    @cache
    def make(name: str, *, size: Size = NARROW, variant: str | None = None) -> Path:
        folder = tmp_path_factory.mktemp("published") / name.rpartition("/")[2]
        return make_model(folder, Recipe(name, size, variant))

    return make


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*args: object) -> None:
        raise AssertionError("a socket was opened")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, connect)


@pytest.fixture(scope="module")
def sd15_file(published: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that says what it predicts, so that nothing is measured."""
    file = tmp_path_factory.mktemp("files") / "dreams_8.safetensors"
    return write_checkpoint(published("stable-diffusion-v1-5"), file, metadata={"modelspec.prediction_type": "epsilon"})

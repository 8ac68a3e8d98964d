"""What takes long is done with the machine kept awake: the whole night, not its training alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shoes import stages
from shoes.dataset import import_data_set
from shoes.device import awake
from shoes.generation import run as drawing
from shoes.generation.plan import make_plan
from shoes.generation.request import Request
from shoes.model.files import diffusion_files, fetch
from shoes.settings import PROJECT_ROOT, load_settings
from shoes.spec import DataSpec, Recipe
from tests.hub.server import HubServer


class Blocks:
    """Counts the blocks that keep the machine awake."""

    now = 0
    ever = 0

    def begin(self) -> None:
        self.now += 1
        self.ever += 1

    def end(self) -> None:
        self.now -= 1


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Blocks:
    found = Blocks()
    monkeypatch.setattr(awake, "_KEEPER", found)
    return found


def test_a_stage_that_computes(blocks: Blocks, micro: Callable[..., Recipe]) -> None:
    with stages.computing(micro(), "evaluation", "cpu"):
        assert blocks.now == 1
    assert blocks.now == 0


def test_a_download(blocks: Blocks, hub: HubServer) -> None:
    commit = hub.add("owner/name", PROJECT_ROOT / "data/demo/model")
    fetch(diffusion_files("owner/name", commit, None), load_settings())
    awake_for = blocks.ever
    assert blocks.now == 0 < awake_for
    fetch(diffusion_files("owner/name", commit, None), load_settings())
    assert blocks.ever == awake_for, "nothing is left to download"


def test_an_import(blocks: Blocks, tmp_path: Path, small_data: Path) -> None:
    seen = []
    import_data_set(
        small_data / "train",
        tmp_path / "set",
        DataSpec(),
        resolution=32,
        on_progress=lambda *_: seen.append(blocks.now),
    )
    assert set(seen) == {1}
    assert blocks.now == 0


@pytest.mark.parametrize(("count", "kept"), [(drawing.A_FEW, 0), (drawing.A_FEW + 1, 1)])
def test_many_pictures(blocks: Blocks, micro: Callable[..., Recipe], tmp_path: Path, count: int, kept: int) -> None:
    settings = load_settings()
    request = Request(prompts=("a shoe",), adapter=("none",), images_per_prompt=count)
    plan = make_plan(micro(), request, settings)
    with drawing._device_for(plan, tmp_path / "pictures", settings.locks):
        assert blocks.now == kept

"""Where the champion's files are, on whatever machine it was trained."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from shoes.publishing.champion import files_of, holds
from shoes.publishing.export import copy_export
from shoes.settings import load_settings
from shoes.tracking.registry import Champion, Registry
from tests.champion import crown

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


def test_another_adapter_in_a_folder_of_the_same_name_is_not_taken_for_it(in_night, tmp_path: Path) -> None:
    crown(in_night)
    registry = Registry(load_settings().tracking_uri, "casual-shoes-lora-demo")
    champion = registry.champion()
    assert champion is not None
    assert files_of(champion, registry, tmp_path / "copies") == champion.adapter_dir
    other = tmp_path / "other"
    copy_export(champion.adapter_dir, other)
    elsewhere = dataclasses.replace(champion, adapter_dir=other, adapter_sha256="0" * 64)
    assert not holds(other, elsewhere), "the same name, other bytes"
    gone = dataclasses.replace(champion, adapter_dir=Path("/nowhere"))
    copy = files_of(gone, registry, tmp_path / "copies")
    assert copy is not None
    assert copy.is_relative_to(tmp_path / "copies")
    assert holds(copy, champion)


def test_files_that_the_store_lost_are_none(in_night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crown(in_night)
    registry = Registry(load_settings().tracking_uri, "casual-shoes-lora-demo")
    gone = dataclasses.replace(registry.champion() or pytest.fail("no champion"), adapter_dir=Path("/nowhere"))
    assert isinstance(gone, Champion)
    models = next((in_night.data_dir / "mlruns/artifacts").glob("*/models"))
    shutil.move(models, tmp_path / "away")
    try:
        assert files_of(gone, registry, tmp_path / "copies") is None
    finally:
        shutil.move(tmp_path / "away", models)

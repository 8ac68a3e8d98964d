"""The data set as other tools read it."""

from pathlib import Path

import pytest

from shoes.dataset import load_split


def test_datasets_reads_it(data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    loaded = datasets.load_dataset("imagefolder", data_dir=str(data_set), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in loaded.items()} == {"train": 28, "validation": 6, "test": 6}
    for name, folder in (("train", "train"), ("validation", "val"), ("test", "test")):
        assert loaded[name]["text"] == [record.caption for record in load_split(data_set / folder)]
    assert loaded["test"][0]["image"].size == (32, 32)

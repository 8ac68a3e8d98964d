"""Settings: where things are kept."""

import os
from pathlib import Path

import pytest

from shoes.errors import ConfigurationError
from shoes.settings import PROJECT_ROOT, hand_on, load_settings


def test_everything_that_is_written_moves_with_the_data_folder(tmp_path: Path) -> None:
    settings = load_settings()
    places = [settings.mlruns, settings.runs, settings.cache, settings.models, settings.prefect_home]
    assert all(place.is_relative_to(tmp_path / "data") for place in places)
    assert settings.tracking_uri == f"sqlite:///{tmp_path / 'data/mlruns/mlflow.db'}"


def test_without_settings_the_checkout_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOES_DATA_DIR")
    settings = load_settings()
    assert (settings.data, settings.mlruns) == (PROJECT_ROOT / "data", PROJECT_ROOT / "mlruns")


def test_what_ships_is_found_after_the_data_folder_moved(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.locate("data/demo/model") == PROJECT_ROOT / "data/demo/model"
    assert settings.locate("data/casual_shoes") == tmp_path / "data/casual_shoes"
    assert settings.locate("elsewhere") == tmp_path / "elsewhere"


def test_the_env_file_wins_over_the_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"SHOES_DATA_DIR={tmp_path / 'drive'}\n")
    assert load_settings().data == tmp_path / "drive"


def test_all_wrong_settings_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("SHOES_DATA_DIR", str(file))
    monkeypatch.setenv("SHOES_DATADIR", "x")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert len(caught.value.problems) == 2
    assert "did you mean SHOES_DATA_DIR?" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "address", "fix"),
    [
        ("MLFLOW_TRACKING_URI", "https://me:s3cret@mlflow.example", "MLFLOW_TRACKING_PASSWORD"),
        ("MLFLOW_TRACKING_URI", "https://s3cret@mlflow.example", "MLFLOW_TRACKING_PASSWORD"),
        ("MLFLOW_TRACKING_URI", "postgresql://me:s3cret@db.example/mlflow", "MLFLOW_TRACKING_PASSWORD"),
        ("MLFLOW_TRACKING_URI", "postgresql://db.example/mlflow?user=me&password=s3cret", "MLFLOW_TRACKING_PASSWORD"),
        ("MLFLOW_TRACKING_URI", "http://me:s3cret@[half", "MLFLOW_TRACKING_PASSWORD"),
        ("PREFECT_API_URL", "https://me:s3cret@prefect.example/api", "PREFECT_API_AUTH_STRING"),
    ],
)
def test_an_address_holds_no_secret(monkeypatch: pytest.MonkeyPatch, name: str, address: str, fix: str) -> None:
    monkeypatch.setenv(name, address)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert fix in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("address", ["https://mlflow.example:5001/at", "postgresql://me@db.example/mlflow"])
def test_an_address_without_one_is_taken(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert load_settings().tracking_uri == address


def test_other_libraries_get_what_the_env_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("MLFLOW_TRACKING_PASSWORD=new\nPREFECT_API_AUTH_STRING=a:b\n")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "old")
    hand_on("MLFLOW_")
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "new"
    assert "PREFECT_API_AUTH_STRING" not in os.environ


def test_loading_settings_writes_nothing(tmp_path: Path) -> None:
    load_settings()
    assert list(tmp_path.iterdir()) == []


def test_every_section_of_a_recipe_can_be_set_by_variables() -> None:
    from pydantic import BaseModel

    from shoes.settings import SECTIONS
    from shoes.spec import Recipe

    fields = Recipe.model_fields.items()
    sections = [
        name for name, field in fields if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    ]
    assert sorted(SECTIONS) == sorted(sections)

"""All models of a recipe: a night does not wait for a judge, and says who judged in its place."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shoes import recipes, stages
from shoes.errors import ModelError, TransientError
from shoes.model.judges import STAND_IN
from shoes.spec import Recipe
from tests.hub.server import HubServer

Make = Callable[..., Recipe]


@pytest.fixture
def dino_repository(own_world: Path) -> Path:
    """A DINOv2 of the smallest size."""
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    folder = own_world / "dino-repository"
    Dinov2Model(Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(folder)
    BitImageProcessorPil().save_pretrained(folder)
    return folder


@pytest.fixture
def make() -> Make:
    def make(**changes: str) -> Recipe:
        judges = {
            "eval.clip_model_name_or_path": "owner/clip",
            "eval.second_clip_model_name_or_path": "owner/clip",
            "eval.dino_model_name_or_path": "owner/dino",
            "eval.second_clip_revision": "none",
            "eval.dino_revision": "none",
        }
        return recipes.load("demo", judges | changes)

    return make


def test_every_judge_is_fetched_and_verified(
    hub: HubServer, make: Make, clip_repository: Path, dino_repository: Path
) -> None:
    second = hub.add("owner/clip", clip_repository)
    hub.add("owner/dino", dino_repository)
    recipe = make(**{"eval.second_clip_revision": second})
    found = stages.fetch_model(recipe)
    assert (found.clip.name, found.stand_in, found.left_out) == ("owner/clip", "", ())
    assert found.second_clip is not None
    assert found.second_clip.commit == second
    assert found.dino is not None
    assert sorted(path.name for path in found.dino.path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    assert [not check.problems for check in stages.check_model(recipe).values()] == [True] * 4


def test_a_hub_that_is_away_stops_no_night(hub: HubServer, make: Make, clip_repository: Path) -> None:
    """CLIP is here from before; the second opinion and DINOv2 never were."""
    hub.add("owner/clip", clip_repository)
    stages.fetch_model(make(**{"eval.second_clip_model_name_or_path": "none", "eval.dino_model_name_or_path": "none"}))
    hub.status("*", 503, times=100)
    found = stages.fetch_model(make(**{"eval.second_clip_model_name_or_path": "owner/large"}))
    assert (found.clip.name, found.stand_in) == ("owner/clip", "")
    assert (found.second_clip, found.dino) == (None, None)
    assert [line.split(" could")[0] for line in found.left_out] == ["Second CLIP (owner/large)", "DINOv2 (owner/dino)"]


def test_the_tiny_clip_stands_in_and_says_so(hub: HubServer, make: Make) -> None:
    hub.status("*", 503, times=100)
    found = stages.fetch_model(make())
    assert found.clip.name == STAND_IN
    assert found.stand_in.startswith("owner/clip could not be had")
    assert "the demo's tiny CLIP judges" in found.stand_in


def test_offline_is_away_too(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the library reads it once
    found = stages.fetch_model(make())
    assert "HF_HUB_OFFLINE" in found.stand_in
    assert len(found.left_out) == 2


def test_a_judge_that_is_wrong_is_no_judge_that_is_away(
    hub: HubServer, make: Make, clip_repository: Path, dino_repository: Path
) -> None:
    hub.add("owner/clip", clip_repository)
    hub.add("owner/dino", clip_repository)
    with pytest.raises(ModelError, match="is a clip model, not DINOv2"):
        stages.fetch_model(make())
    with pytest.raises(ModelError, match="owner/none: the Hub has no such model"):
        stages.fetch_model(make(**{"eval.dino_model_name_or_path": "owner/none"}))
    damaged = dino_repository / "model.safetensors"
    shutil.copy(damaged, damaged.with_suffix(".bin"))
    damaged.unlink()
    hub.add("owner/pickled", dino_repository)
    with pytest.raises(ModelError, match="is a pickle"):
        stages.fetch_model(make(**{"eval.dino_model_name_or_path": "owner/pickled"}))


def test_the_command_that_fetches_takes_no_stand_in(hub: HubServer, make: Make) -> None:
    hub.status("*", 503, times=100)
    with pytest.raises(TransientError):
        stages.repair_model(make())

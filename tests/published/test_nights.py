"""The whole night on models as they are published, every stage through a real Prefect."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shoes.spec import Recipe
from tests.published.models import NARROW, PUBLISHED_TEXT, Size

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")

SD15, SD21 = "stable-diffusion-v1-5", "stable-diffusion-2-1-base"
NIGHTS = [
    pytest.param(SD15, NARROW, None, "no", id="1.5 fp32", marks=pytest.mark.slow),
    pytest.param(SD15, NARROW, None, "bf16", id="1.5 bf16"),
    pytest.param(SD15, NARROW, "fp16", "bf16", id="1.5 fp16 files", marks=pytest.mark.slow),
    pytest.param(SD21, PUBLISHED_TEXT, None, "no", id="2.1 fp32", marks=pytest.mark.slow),
    pytest.param(SD21, PUBLISHED_TEXT, None, "bf16", id="2.1 bf16", marks=pytest.mark.slow),
    pytest.param(SD21, PUBLISHED_TEXT, "fp16", "bf16", id="2.1 fp16 files", marks=pytest.mark.slow),
]
TONIGHT = {
    "train.gradient_accumulation_steps": "1",
    "train.max_train_steps": "2",
    "train.validation_images": "2",
    "train.validation_prompts": "a red canvas shoe",
    "train.lr_warmup_steps": "0",
    "eval.choice_images": "2",
    "eval.num_images": "4",
    "eval.num_inference_steps": "1",
}
"""As little as a night can do."""


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoes.forecast.child.SECONDS_PER_MEASUREMENT", 0.1)


@pytest.mark.parametrize(("name", "size", "variant", "precision"), NIGHTS)
def test_a_night_on_a_published_model_ends_with_a_verdict(
    prefect: None,
    published: Callable[..., Path],
    micro: Callable[..., Recipe],
    name: str,
    size: Size,
    variant: str | None,
    precision: str,
) -> None:
    from flows.overnight import overnight

    night = overnight(micro(TONIGHT | {"train.mixed_precision": precision} | models(published, name, size, variant)))
    assert (night.train.step, night.train.precision) == (2, precision)
    assert [judge.role for judge in night.evaluation.judges] == ["clip", "second_clip", "dino"]
    assert {run.state for run in night.timeline} == {"Completed"}
    assert (night.train.run_dir / "report/index.html").is_file()
    assert kohya_header(night.train.run_dir / "adapter")["ss_v2"] == str(name == SD21)


def models(published: Callable[..., Path], name: str, size: Size, variant: str | None) -> dict[str, str]:
    """The recipe's fields that name the base and its judges."""
    return {
        "model.pretrained_model_name_or_path": str(published(name, size=size, variant=variant)),
        "model.variant": variant or "none",
        "eval.clip_model_name_or_path": str(published("openai/clip-vit-base-patch32")),
        "eval.second_clip_model_name_or_path": str(published("openai/clip-vit-large-patch14")),
        "eval.second_clip_revision": "none",
        "eval.dino_model_name_or_path": str(published("facebook/dinov2-base")),
        "eval.dino_revision": "none",
    }


def kohya_header(adapter: Path) -> dict[str, str]:
    from safetensors import safe_open

    (file,) = (adapter / "kohya").glob("*.safetensors")
    with safe_open(file, "np") as opened:
        return dict(opened.metadata())

"""A training made to overfit: few photos, many steps. What is chosen is not the last, and it is said why."""

from pathlib import Path

import pytest
from PIL import Image

from shoes import dataset, recipes, stages
from shoes.dataset import Product
from shoes.settings import PROJECT_ROOT
from shoes.spec import DataSpec, Recipe

NUM_PHOTOS = 34
OVERFIT = {
    "data.dataset_dir": "data/few",
    "train.train_batch_size": "8",
    "train.gradient_accumulation_steps": "1",
    "train.learning_rate": "2e-3",
    "train.lr_scheduler": "constant_with_warmup",
    "train.rank": "32",
    "train.lora_alpha": "32",
    "train.max_train_steps": "240",
    "train.save_steps": "40",
    "train.validation_steps": "40",
    "train.early_stopping_patience": "none",
}


@pytest.fixture
def recipe(own_world: Path) -> Recipe:
    """Twenty photos to train on, seven to choose by and seven to test with."""
    records = dataset.load_split(PROJECT_ROOT / "data/demo/casual_shoes/train")[:NUM_PHOTOS]
    products = [
        Product(
            id=record.image.stem,
            attributes=record.attributes,
            load=lambda path=record.image: Image.open(path).convert("RGB"),
        )
        for record in records
    ]
    spec = DataSpec(val_fraction=0.2, test_fraction=0.2)
    dataset.write_data_set(own_world / "data/few", products, spec, resolution=64, source={"kind": "test"})
    return recipes.load("demo", OVERFIT)


@pytest.mark.slow
def test_the_chosen_checkpoint_is_not_the_last_and_the_reason_says_why(recipe: Recipe) -> None:
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    assert next(split.num_images for split in data.splits if split.name == "train") == 20
    training = stages.choose(recipe, models, data, stages.train(recipe, models, data))
    first, *_, last = training.losses
    assert training.step == 240
    assert training.chosen_step < 240
    assert last.train_mean < first.train_mean, "the training photos were learned"
    assert training.choice is not None
    assert "After it the training overfitted" in training.choice.reason

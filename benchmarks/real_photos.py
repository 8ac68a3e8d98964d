"""The real photos through the whole path: does the adapter learn them, and how sure is that?

    python benchmarks/real_photos.py --catalogue DIR [--quick] [--picture FILE]

DIR is the downloaded catalogue (styles.csv and images/), or the variable CATALOGUE names it; without one nothing
is measured. Prints one JSON line last. The picture shows base and
adapter side by side for the same prompts and seeds; it holds no catalogue photo.
"""

import argparse
import json
import os
from pathlib import Path

from PIL import Image

from shoes import recipes, stages
from shoes.cli.command import start_logging
from shoes.dataset import load_split
from shoes.evaluation.drawings import plan_drawings
from shoes.evaluation.grid import Row, comparison_grid, pick_rows, short_labels
from shoes.preflight import preflight
from shoes.reports import Comparison, DataReport, Interval, TrainReport
from shoes.spec import Recipe

QUICK = {
    "train.max_train_steps": "20",
    "train.save_steps": "20",
    "train.validation_steps": "20",
    "eval.num_images": "16",
    "eval.images_per_caption": "1",
}
ROWS = 5


def main() -> None:
    options = arguments()
    start_logging()
    if options.catalogue is None:
        print(json.dumps({"benchmark": "real_photos", "skipped": "name the catalogue: --catalogue DIR or CATALOGUE"}))
        return
    source = {"data.source": str(options.catalogue.absolute())}
    recipe = recipes.load(str(Path(__file__).with_suffix(".toml")), source | (QUICK if options.quick else {}))
    preflight(recipe)
    models, data = stages.fetch_model(recipe), stages.prepare_data(recipe)
    training = stages.choose(recipe, models, data, stages.train(recipe, models, data))
    evaluation = stages.evaluate(recipe, models, data, training)
    if options.picture:
        side_by_side(recipe, data, training).save(options.picture)
    print(json.dumps(figures(data, training, evaluation.comparisons[0])))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--catalogue", type=Path, default=os.environ.get("CATALOGUE"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--picture", type=Path)
    return parser.parse_args()


def figures(data: DataReport, training: TrainReport, comparison: Comparison) -> dict[str, object]:
    chosen = next(loss for loss in training.losses if loss.step == training.chosen_step)
    return {
        "benchmark": "real_photos",
        "photos": {split.name: split.num_images for split in data.splits},
        "steps": training.step,
        "chosen_step": training.chosen_step,
        "held_out_loss_base": round(training.losses[0].mean, 5),
        "held_out_loss_adapter": round(chosen.mean, 5),
        "held_out_loss_difference": rounded(training.loss_difference, 5),
        "clip_score_difference": rounded(comparison.clip_score, 2),
        "clip_image_similarity_difference": rounded(comparison.clip_image_similarity, 2),
        "training_seconds": round(training.seconds, 1),
    }


def rounded(interval: Interval, digits: int) -> list[float]:
    return [round(value, digits) for value in (interval.mean, interval.low, interval.high)]


def side_by_side(recipe: Recipe, data: DataReport, training: TrainReport) -> Image.Image:
    """Base and adapter, drawn anew for a few captions of the test split."""
    import torch

    from shoes.model.load import load_pipeline
    from shoes.sampling import draw

    drawings = plan_drawings(load_split(data.path / "test", decode=False), recipe.eval)
    chosen = [drawings[index] for index in pick_rows([drawing.prompt for drawing in drawings], ROWS)]
    models = stages.fetch_model(recipe)
    columns = []
    for adapter in (None, training.adapter_dir):
        pipeline = load_pipeline(
            models.base.path,
            device="cpu",
            dtype=torch.float32,
            scheduler=recipe.eval.scheduler,
            adapter_dir=adapter,
        )
        columns.append(
            list(
                draw(
                    pipeline,
                    chosen,
                    num_inference_steps=recipe.eval.num_inference_steps,
                    guidance_scale=recipe.eval.guidance_scale,
                    resolution=recipe.train.resolution,
                    batch_size=ROWS,
                )
            )
        )
    labels = short_labels([drawing.prompt for drawing in chosen])
    rows = [Row(label, list(images)) for label, *images in zip(labels, *columns, strict=True)]
    return comparison_grid(["base", "adapter"], rows, "Same prompt and seed in each row.")


if __name__ == "__main__":
    main()
